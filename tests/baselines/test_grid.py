"""The grid of counts against counts around every sample one by one."""

import numpy as np
import pytest

from poyo_jax.baselines import KalmanSearch, fit_baseline, spike_counts
from poyo_jax.baselines.grid import Grid
from poyo_jax.baselines.samples import Samples
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import DataError


def read(session):
    return Samples.read(session, default_readout(session))


@pytest.mark.parametrize("rate", [20.0, 50.0, 100.0])
def test_bins_end_at_the_sample(rate):
    samples = read(simulate_session(0, num_units=5, duration=40.0, sampling_rate=rate))
    grid = Grid.of(samples)
    assert grid.interval == pytest.approx(1 / rate)
    ticks = round(0.1 * rate)
    counts = grid.binned(ticks)
    for shift, edges in ((0, [-0.1, 0.0]), (-3 * ticks, [-0.4, -0.3]), (2 * ticks, [0.1, 0.2])):
        expected = spike_counts(samples.session, samples.times, np.array(edges))
        # An edge may fall on either side of a spike that is nearer to it than times are exact.
        assert np.sum(counts[grid.rows + shift] != expected) <= 2
    assert counts[grid.rows].sum() > 1000


def test_a_sample_between_ticks_counts_no_spike_after_it():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.008, 0.012, 3000))
    spikes = np.sort(rng.uniform(0, 30, 20_000))
    session = Session.from_arrays(
        spikes, np.zeros(20_000, int), ["a"], times, rng.normal(size=(3000, 2)), session_id="s"
    )
    grid = Grid.of(read(session))
    before = np.searchsorted(spikes, times + 1e-4)
    margin_to_first = grid.counts[: grid.rows[0] + 1].sum()
    assert margin_to_first <= before[0]
    assert np.all(np.cumsum(grid.counts)[grid.rows] <= before)
    assert np.all(
        np.cumsum(grid.counts)[grid.rows] >= np.searchsorted(spikes, times - 2 * grid.interval)
    )


def test_train_targets_alone_are_placed():
    samples = read(simulate_session(0, num_units=5, duration=40.0, sampling_rate=20.0))
    grid = Grid.of(samples)
    targets, weights = grid.place(samples)
    train = samples.masks["train"]
    expected = (samples.targets[train] - samples.readout.mean) / samples.readout.std
    np.testing.assert_allclose(targets[grid.rows[train]], expected, rtol=1e-6)
    assert np.isfinite(targets).all(axis=1).sum() == np.sum(weights > 0) == train.sum()
    assert np.isnan(targets[grid.rows[samples.masks["test"]]]).all()


def test_times_that_stand_still_are_explained():
    samples = read(simulate_session(0, num_units=5, duration=40.0, sampling_rate=20.0))
    still = Samples(samples.session, samples.readout, np.zeros(3), samples.targets[:3], {})
    with pytest.raises(
        DataError,
        match=r"half the samples of cursor.vel in session simulated/.* have the time of their",
    ):
        Grid.of(still)


def test_a_search_finds_every_tick_that_it_looks_at():
    """Rows before the first tick would be those at the end of the recording."""
    session = simulate_session(0, num_units=5, duration=40.0, sampling_rate=20.0)
    grid = Grid.of(read(session), 7.0)
    assert grid.rows[0] >= 7.0 * 20 and len(grid.counts) - grid.rows[-1] > 7.0 * 20
    far = {"bin_sizes": (0.1,), "shrinkages": (0.5,), "scales": (1.0,)}
    for search in (
        KalmanSearch(delays=(-5.0,), orders=(1,), **far),
        KalmanSearch(delays=(5.0,), orders=(1,), **far),
        KalmanSearch(delays=(0.0,), orders=(40,), **far),
    ):
        result = fit_baseline("kalman", session, search=search, progress=False)
        assert np.isfinite(result.r2["test"])
