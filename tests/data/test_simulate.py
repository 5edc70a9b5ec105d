"""Simulated sessions are what they claim to be: smooth reaches, tuned units, refractory spikes, the
same every time.
"""

import numpy as np
import pytest

from poyo_jax.data.simulate import (
    Reaches,
    Tuning,
    draw_spikes,
    draw_tuning,
    simulate_session,
    simulate_study,
    unit_rates,
)
from poyo_jax.data.simulate.spikes import DEAD_TIME
from poyo_jax.data.simulate.study import TASKS
from poyo_jax.errors import ConfigError, DataError


def whole_behaviour(session):
    behaviour = session.behaviour("cursor.vel")
    return behaviour.times_at(np.arange(behaviour.count)), behaviour.values(0, behaviour.count)


@pytest.fixture(scope="module")
def study():
    return simulate_study(3, 6, num_units=(5, 12), duration=40.0)


def test_reaches_are_minimum_jerk_and_end_where_they_should():
    reaches = Reaches(
        np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([[8.0, 0.0], [-8.0, 2.0]])
    )
    times = np.arange(0.0, 4.0, 1e-3)
    velocity = reaches.velocity(times)
    path = np.cumsum(velocity, axis=0) * 1e-3
    np.testing.assert_allclose(path[1700], [8.0, 0.0], atol=1e-2)
    np.testing.assert_allclose(path[-1], [0.0, 2.0], atol=1e-2)
    assert np.all(velocity[(times < 1.0) | (times > 3.0) | ((times > 1.5) & (times < 2.0))] == 0)
    assert velocity[1250, 0] == pytest.approx(1.875 * 8.0 / 0.5)  # the peak of a minimum-jerk reach


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_determines_everything(task):
    first, again, other = (
        simulate_session(seed, num_units=6, duration=30.0, task=task) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.spike_times, again.spike_times)
    np.testing.assert_array_equal(first.spike_units, again.spike_units)
    np.testing.assert_array_equal(whole_behaviour(first)[1], whole_behaviour(again)[1])
    assert not np.array_equal(first.spike_times[:100], other.spike_times[:100])


def test_a_study_mixes_subjects_tasks_rates_and_unit_counts(study):
    assert len({session.id for session in study}) == len(study)
    assert {session.subject_id for session in study} == {"ada", "bo", "cleo"}
    assert {round(1 / np.diff(whole_behaviour(session)[0])[0]) for session in study} == {
        50,
        100,
        250,
    }
    assert len({len(session.unit_ids) for session in study}) > 1
    assert all(5 <= len(session.unit_ids) <= 12 for session in study)


def test_a_longer_study_begins_with_the_shorter_one(study):
    [first, *_] = simulate_study(3, 1, num_units=(5, 12), duration=40.0)
    np.testing.assert_array_equal(first.spike_times, study[0].spike_times)


def test_spikes_are_sorted_within_the_session_and_refractory(study):
    for session in study:
        assert np.all(np.diff(session.spike_times) >= 0)
        assert session.spike_times[0] >= 0 and session.spike_times[-1] < 40.0
        for unit in range(len(session.unit_ids)):
            train = session.spike_times[session.spike_units == unit]
            assert np.diff(train).min() >= DEAD_TIME
            assert 1.0 < len(train) / 40.0 < 120.0


def test_spikes_are_not_on_a_grid(study):
    times = np.concatenate([session.spike_times for session in study])
    phases = np.histogram(times % 1e-3, bins=10, range=(0, 1e-3))[0]
    assert phases.min() > 0.8 * phases.mean()
    assert np.mean(np.isclose(times, np.round(times, 6), rtol=0, atol=1e-9)) < 0.01


def test_a_centre_out_session_has_its_phases_and_reaches_during_them_only():
    session = simulate_session(0, num_units=3, duration=60.0, task="center_out")
    names = ("trials", "movement_phases.hold_period", "movement_phases.reach_period")
    trials, holds, reaches = (session.intervals(name) for name in names)
    assert len(trials) == len(holds) == len(reaches) > 15
    times, velocity = whole_behaviour(session)
    speed = np.linalg.norm(velocity, axis=1)
    assert speed[holds.contains(times)].max() == 0
    assert speed[reaches.contains(times)].mean() > 8
    assert trials.ends[-1] <= 60.0
    headings = np.stack(
        [velocity[(times >= start) & (times < end)].sum(axis=0) for start, end in reaches]
    )
    angles = np.arctan2(headings[:, 1], headings[:, 0]) / (np.pi / 4)
    assert np.abs(angles - np.round(angles)).max() < 0.3  # eight directions


def test_a_random_target_session_hardly_pauses():
    session = simulate_session(0, num_units=3, duration=60.0, task="random_target")
    _, velocity = whole_behaviour(session)
    assert np.mean(np.linalg.norm(velocity, axis=1) > 1.0) > 0.7


def test_spike_counts_follow_the_rates():
    rng = np.random.default_rng(0)
    reaches = Reaches(np.array([0.0]), np.array([1.0]), np.zeros((1, 2)))
    still = Tuning(np.array([3.0, 25.0]), np.ones((2, 2)), np.ones(2), np.full(2, 0.1))
    times, units = draw_spikes(rng, still, reaches, 400.0)
    measured = np.bincount(units, minlength=2) / 400.0
    dead = 0.002 + 0.004  # s lost after each spike: dead time and mean recovery
    np.testing.assert_allclose(measured, still.baselines / (1 + still.baselines * dead), rtol=0.08)
    assert times.max() < 400.0


def test_a_unit_fires_before_a_movement_in_its_preferred_direction():
    reaches = Reaches(np.array([1.0]), np.array([0.6]), np.array([[8.0, 0.0]]))
    tuning = Tuning(
        np.array([10.0, 10.0]),
        np.array([[1.0, 0.0], [-1.0, 0.0]]),
        np.zeros(2),
        np.array([0.1, 0.1]),
    )
    times = np.arange(0.0, 3.0, 1e-3)
    preferred, opposite = (unit_rates(tuning, reaches, unit, times) for unit in (0, 1))
    assert times[np.argmax(preferred)] == pytest.approx(
        1.3 - 0.1, abs=2e-3
    )  # peak speed, less the latency
    assert preferred.max() == pytest.approx(10.0 * np.exp(25.0 / 20.0), rel=1e-3)
    np.testing.assert_allclose(preferred * opposite, 100.0)


def test_some_units_are_not_tuned():
    tuning = draw_tuning(np.random.default_rng(1), 400)
    untuned = np.linalg.norm(tuning.gains, axis=1) == 0
    assert 0.08 < untuned.mean() < 0.25
    assert np.all(tuning.speed_gains[untuned] == 0)
    assert tuning.baselines.min() >= 3.0 and tuning.baselines.max() <= 25.0
    assert tuning.latencies.min() >= 0.05 and tuning.latencies.max() <= 0.15


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"task": "juggling"},
            "task is 'juggling', but only 'center_out' and 'random_target' can be simulated",
        ),
        ({"num_units": 0}, "num_units is 0; it must be at least 1"),
        ({"duration": 5.0}, r"duration is 5.0; it must be in \[20, "),
        ({"sampling_rate": float("nan")}, "sampling_rate is nan"),
    ],
)
def test_wrong_arguments_are_explained(wrong, message):
    with pytest.raises((ConfigError, DataError), match=message):
        simulate_session(0, **wrong)


def test_reversed_bounds_are_explained():
    with pytest.raises(DataError, match=r"num_units is \(9, 3\), but must be \(fewest, most\)"):
        simulate_study(0, 1, num_units=(9, 3))
