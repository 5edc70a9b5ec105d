"""The Wiener filter against a direct solution, and on sessions where its R2 is known."""

from itertools import pairwise

import numpy as np
import pytest

from poyo_jax.baselines import wiener, wiener_filter
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import DataError
from poyo_jax.metrics import r2_score
from poyo_jax.types import Readout

READOUT = Readout(value_key="cursor.vel", mean=(0.0, 0.0), std=(1.0, 1.0))


@pytest.fixture(scope="module")
def session():
    return simulate_session(0, num_units=6, duration=60.0, sampling_rate=50.0)


def counted(session, times, edges):
    """Counts [samples, units * bins] of spikes in the bins between `edges` around each time, one by
    one.
    """
    trains = [
        session.spike_times[session.spike_units == unit] for unit in range(len(session.unit_ids))
    ]
    bins = list(pairwise(edges))
    rows = [
        [np.sum((s >= time + a) & (s < time + b)) for s in trains for a, b in bins]
        for time in times
    ]
    return np.array(rows, np.float64)


def ridge_by_augmentation(x, y, weights, ridge):
    """The ridge solution as least squares with extra rows, which shares no formula with the
    module.
    """
    mean_x, mean_y = (np.average(a, axis=0, weights=weights) for a in (x, y))
    root = np.sqrt(weights / weights.sum())[:, None]
    penalty = ridge * np.mean(np.sum((root * (x - mean_x)) ** 2, axis=0))
    system = np.concatenate([root * (x - mean_x), np.sqrt(penalty) * np.eye(x.shape[1])])
    goal = np.concatenate([root * (y - mean_y), np.zeros((x.shape[1], y.shape[1]))])
    coefficients = np.linalg.lstsq(system, goal, rcond=None)[0]
    return lambda features: (features - mean_x) @ coefficients + mean_y


@pytest.mark.parametrize(
    "weights", [(), (("movement_phases.reach_period", 5.0), ("movement_phases.hold_period", 0.0))]
)
def test_it_is_the_ridge_regression_on_binned_counts(session, weights, monkeypatch):
    monkeypatch.setattr(wiener, "CHUNK", 1000)  # so that several chunks are needed
    readout = Readout(
        value_key="cursor.vel", mean=(0.0, 0.0), std=(1.0, 1.0), interval_weights=weights
    )
    result = wiener_filter(session, readout, bin_size=0.1, past=3, future=1, ridges=[0.1])
    behaviour = session.behaviour("cursor.vel")
    times, targets = (
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
    )
    train, test = (session.split(name).contains(times) for name in ("train", "test"))
    edges = np.arange(-3, 2) * 0.1
    sample_weights = np.ones(train.sum())
    for name, weight in weights:
        sample_weights[session.intervals(name).contains(times[train])] *= weight
    decode = ridge_by_augmentation(
        counted(session, times[train], edges), targets[train], sample_weights, 0.1
    )
    expected = decode(counted(session, times[test], edges))
    np.testing.assert_allclose(result.values, expected, atol=1e-3)
    np.testing.assert_array_equal(result.times, times[test])
    np.testing.assert_array_equal(result.targets, targets[test])
    assert result.r2["test"] == pytest.approx(r2_score(targets[test], expected), abs=1e-4)


def test_the_ridge_is_the_best_on_the_valid_split(session):
    ridges = [1e-4, 1e-2, 1.0, 100.0]
    scores = [wiener_filter(session, READOUT, ridges=[ridge]).r2["valid"] for ridge in ridges]
    result = wiener_filter(session, READOUT, ridges=ridges)
    assert result.ridge == ridges[int(np.argmax(scores))]
    assert result.r2["valid"] == pytest.approx(max(scores))
    assert list(result.valid_r2) == ridges and list(result.valid_r2.values()) == pytest.approx(
        scores
    )


def test_only_samples_of_the_evaluation_interval_count(session):
    readout = Readout(
        value_key="cursor.vel",
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        eval_interval="movement_phases.reach_period",
    )
    result = wiener_filter(session, readout)
    assert np.all(session.intervals("movement_phases.reach_period").contains(result.times))
    assert np.all(session.split("test").contains(result.times))
    assert len(result.times) < len(wiener_filter(session, READOUT).times)


@pytest.mark.parametrize(
    ("task", "low", "high"), [("center_out", 0.6, 0.88), ("random_target", 0.6, 0.88)]
)
def test_simulated_sessions_decode_well_but_not_perfectly(task, low, high):
    session = simulate_session(1, num_units=40, task=task)
    assert low < wiener_filter(session, default_readout(session)).r2["test"] < high


def test_real_sessions_reach_the_known_floor(shared):
    path = shared / "real" / "miller_chewie_mihi" / "m_20140303_100ms.h5"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    session = Session.open(path)
    result = wiener_filter(session, default_readout(session), bin_size=0.1)
    assert result.r2["test"] == pytest.approx(0.864, abs=0.02)


def make_session(targets, times, **splits):
    return Session.from_arrays(
        [1.0, 2.0], [0, 0], ["a"], times, targets, session_id="s", domain=[(0, 10)], **splits
    )


def test_missing_samples_are_left_out():
    times = np.arange(0, 10, 0.1)
    targets = np.sin(times)[:, None].repeat(2, axis=1)
    targets[::7] = np.nan
    result = wiener_filter(make_session(targets, times), READOUT)
    assert np.isfinite(result.targets).all() and np.isfinite(result.values).all()


def test_a_flat_channel_does_not_count():
    session = simulate_session(1, num_units=8, duration=30.0, sampling_rate=50.0)
    velocity = session.behaviour("cursor.vel").values(0, 1500)
    flat = np.concatenate([velocity, np.full((1500, 1), 0.1, np.float32)], axis=1)
    scores = {}
    for name, targets in {"moving": velocity, "flat": flat}.items():
        given = Session.from_arrays(
            session.spike_times,
            session.spike_units,
            list(session.unit_ids),
            np.arange(1500) / 50,
            targets,
            session_id=name,
        )
        scores[name] = wiener_filter(given, default_readout(given)).valid_r2
    assert scores["flat"] == pytest.approx(scores["moving"], abs=1e-3)


def test_targets_that_never_vary_are_explained():
    session = make_session(np.ones((100, 2)), np.arange(0, 10, 0.1))
    with pytest.raises(DataError, match="none of the 2 channels of the targets varies"):
        wiener_filter(session, READOUT)


def test_counts_that_never_vary_decode_the_mean():
    """The labels cover 0.5 s without a spike."""
    times = np.arange(0, 10, 0.1)
    session = make_session(np.sin(times)[:, None].repeat(2, axis=1), times)
    labels = Intervals.from_pairs([(4.0, 4.5)])
    result = wiener_filter(session, READOUT, labels=labels)
    expected = np.sin(times[40:45]).mean()
    np.testing.assert_allclose(result.values, expected, atol=1e-6)


def test_silent_units_need_no_ridge(session):
    """Their coefficients are 0, and the others are those without them."""
    active = [unit != session.unit_ids[2] for unit in session.unit_ids]
    spikes = session.spike_units != 2
    behaviour = session.behaviour("cursor.vel")
    silent = Session.from_arrays(
        session.spike_times[spikes],
        session.spike_units[spikes],
        list(session.unit_ids),
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id="silent",
    )
    found = wiener_filter(silent, READOUT, ridges=[0.0])
    expected = wiener_filter(silent.select_units(active), READOUT, ridges=[0.0])
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_labels_without_samples_are_explained(session):
    labels = Intervals.from_pairs([(100.0, 101.0)])
    with pytest.raises(
        DataError, match="1 s of labels of session simulated/session hold 0 measured samples"
    ):
        wiener_filter(session, READOUT, labels=labels)


def test_what_no_baseline_can_learn_from_is_explained():
    times = np.arange(0, 10, 0.1)
    splits = {"train": [(3, 8)], "valid": [(8, 9)], "test": [(9, 10)]}
    silent = make_session(np.sin(times)[:, None].repeat(2, axis=1), times, **splits)
    with pytest.raises(DataError, match="session s has no spike in its train split"):
        wiener_filter(silent, READOUT)
    short = Session.from_arrays(
        [0.1], [0], ["a"], np.arange(40) / 50, np.zeros((40, 2)), session_id="s"
    )
    with pytest.raises(DataError, match=r"session s has 0.\d+ s, less than a window of 1 s"):
        wiener_filter(short, READOUT)


def test_a_split_without_samples_is_explained():
    times = np.arange(0, 5, 0.1)
    session = make_session(np.zeros((50, 2)), times, train=[(0, 4)], valid=[(4, 5)], test=[(6, 7)])
    with pytest.raises(
        DataError, match=r"session s has 0 samples of cursor.vel in its test split.*at least 2"
    ):
        wiener_filter(session, READOUT)


def test_weights_that_are_all_zero_are_explained():
    times = np.arange(0, 10, 0.1)
    session = make_session(np.zeros((100, 2)), times)
    readout = Readout(
        value_key="cursor.vel",
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        interval_weights=(("train_domain", 0.0),),
    )
    with pytest.raises(DataError, match="all 70 train samples of session s have weight 0"):
        wiener_filter(session, readout)


@pytest.mark.parametrize("wrong", [{"past": 0, "future": 0}, {"ridges": []}])
def test_no_bins_or_no_ridges_are_explained(session, wrong):
    with pytest.raises(DataError, match="needs at least one bin and one ridge"):
        wiener_filter(session, READOUT, **wrong)
