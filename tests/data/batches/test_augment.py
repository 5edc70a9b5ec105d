"""What training windows are changed by, against the reference's draws and against the windows as
they were.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from model_sessions import simulated
from scipy import stats

from poyo_jax.config import DataConfig, UnitDropoutConfig
from poyo_jax.data.batches.augment import augment, draw_kept_units
from poyo_jax.data.batches.tokens import cut_window
from poyo_jax.types import SPIKE


def naive_count(config, rng):
    """The rejection sampler of torch_brain's unit dropout: it accepts x when u <= density(x) / (10
    q), q drawn anew.
    """
    while True:
        x = rng.uniform(config.min_units, config.max_units)
        if x <= config.mode_units:
            density = 1 + (config.peak - 1) * (x - config.min_units) / (
                config.mode_units - config.min_units
            )
        else:
            share = (x - config.mode_units) / (config.max_units - config.mode_units)
            density = config.peak - (config.peak - 1) * share
        u, q = rng.random(), rng.random()
        if u <= density / (10 * q):
            return int(x)


@pytest.mark.parametrize(
    "config",
    [UnitDropoutConfig(), UnitDropoutConfig(min_units=4, mode_units=30, max_units=40, peak=8.0)],
    ids=["default", "steep"],
)
def test_the_number_of_kept_units_is_distributed_as_the_reference_draws_it(config):
    ours, theirs = np.random.default_rng(0), np.random.default_rng(1)
    counts = [int(draw_kept_units(config.max_units, config, ours).sum()) for _ in range(20000)]
    naive = [naive_count(config, theirs) for _ in range(20000)]
    assert config.min_units <= min(counts) and max(counts) < config.max_units
    assert stats.ks_2samp(counts, naive).pvalue > 1e-3
    edges = np.linspace(config.min_units, config.max_units, 19)
    table = np.stack([np.histogram(drawn, edges)[0] for drawn in (counts, naive)])
    assert stats.chi2_contingency(table).pvalue > 1e-3
    uniform = np.random.default_rng(2).uniform(config.min_units, config.max_units, 20000)
    assert stats.ks_2samp(counts, np.floor(uniform)).pvalue < 1e-9  # the test can tell


def test_every_unit_is_kept_equally_often():
    config, rng = (
        UnitDropoutConfig(min_units=2, mode_units=5, max_units=8),
        np.random.default_rng(0),
    )
    kept = np.stack([draw_kept_units(10, config, rng) for _ in range(4000)])
    assert kept.shape == (4000, 10) and kept.dtype == bool
    shares = kept.mean(axis=0)
    assert np.abs(shares - shares.mean()).max() < 5 * 0.5 / math.sqrt(4000)
    pairs = (kept[:, :-1] & kept[:, 1:]).mean(axis=0)
    assert np.abs(pairs - pairs.mean()).max() < 5 * 0.5 / math.sqrt(4000)


def test_sessions_with_few_units_keep_them_all():
    config, rng = UnitDropoutConfig(min_units=20), np.random.default_rng(0)
    assert all(draw_kept_units(19, config, rng).all() for _ in range(50))
    counts = [draw_kept_units(30, config, rng).sum() for _ in range(300)]
    assert min(counts) >= 20 and counts.count(30) > 200  # most draws exceed 30


# --- spikes and queries

[SOURCE], _, _ = simulated(num_sessions=1)
WINDOW = cut_window(SOURCE, 3.0, 2.0)
SPIKES = WINDOW.token_kinds == SPIKE


def changed(seed=0, **settings):
    return augment(WINDOW, 2.0, DataConfig(**settings), seed)


def test_without_a_setting_nothing_changes():
    assert changed() is WINDOW


def test_the_end_of_a_window_weighs_more():
    times = WINDOW.query_times
    weights = WINDOW.target_weights.copy()
    weights[:2] = 0.0
    window = augment(replace(WINDOW, target_weights=weights), 2.0, DataConfig(end_weight=5.0), 0)
    expected = np.where(times >= 1.9, 5.0, 1.0) * weights
    assert 0 < np.count_nonzero(times >= 1.9) < len(times)
    np.testing.assert_array_equal(window.target_weights, expected.astype(np.float32))
    np.testing.assert_array_equal(window.targets, WINDOW.targets)
    few = changed(end_weight=5.0, max_queries=20)
    assert len(few.query_times) == 20 and set(few.target_weights.tolist()) <= {1.0, 5.0}


def test_spikes_are_dropped_by_a_share_of_the_windows_own():
    share, counts = 0.6, []
    for seed in range(200):
        window = changed(seed, spike_dropout=share)
        assert (window.token_kinds != SPIKE).sum() == (~SPIKES).sum()  # starts and stops stay
        kept = np.isin(WINDOW.token_times[SPIKES], window.token_times)
        np.testing.assert_array_equal(
            WINDOW.token_times[SPIKES][kept], window.token_times[window.token_kinds == SPIKE]
        )
        counts.append(kept.mean())
    assert min(counts) < 0.5 < 0.9 < max(counts)
    assert np.mean(counts) == pytest.approx(1 - share / 2, abs=0.05)


def test_spike_times_move_and_stay_in_the_window():
    window = changed(spike_jitter=0.1)
    moved = window.token_times - WINDOW.token_times
    assert not moved[~SPIKES].any()
    inside = SPIKES & (np.abs(WINDOW.token_times - 1.0) < 0.5)
    assert moved[inside].std() == pytest.approx(0.1, rel=0.2)
    assert window.token_times.min() == 0 and window.token_times.max() == 2.0
    np.testing.assert_array_equal(window.token_units, WINDOW.token_units)


def test_queries_move_along_the_line_to_the_next_one():
    window = changed(query_jitter=1.0)
    assert len(window.query_times) == len(WINDOW.query_times) - 1
    assert (window.query_times >= WINDOW.query_times[:-1]).all() and (
        window.query_times <= WINDOW.query_times[1:]
    ).all()
    for channel in range(2):
        line = np.interp(window.query_times, WINDOW.query_times, WINDOW.targets[:, channel])
        np.testing.assert_allclose(window.targets[:, channel], line, atol=1e-4)
    assert np.ptp(window.query_times - WINDOW.query_times[:-1]) > 0


def test_queries_are_drawn_anew_from_those_that_are_trained_on():
    weights = np.where(WINDOW.query_times < 0.5, 0, WINDOW.target_weights).astype(np.float32)
    partly = replace(WINDOW, target_weights=weights)
    trained = weights.nonzero()[0]
    seen = []
    for seed in range(200):
        window = augment(partly, 2.0, DataConfig(max_queries=20), seed)
        places = np.searchsorted(WINDOW.query_times, window.query_times)
        assert (
            len(set(places.tolist())) == 20
            and (np.diff(places) > 0).all()
            and np.isin(places, trained).all()
        )
        np.testing.assert_array_equal(window.targets, WINDOW.targets[places])
        np.testing.assert_array_equal(window.target_weights, weights[places])
        np.testing.assert_array_equal(window.token_times, WINDOW.token_times)
        seen.extend(places.tolist())
    counts = np.bincount(seen, minlength=len(weights))[trained]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_no_query_is_left_out_where_there_are_few():
    assert changed(max_queries=len(WINDOW.query_times)) is WINDOW
