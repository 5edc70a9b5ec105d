"""The closed loop: the subject, its task, and the filters. Nothing is trained but a filter."""

import numpy as np
import pytest

from experiments.studies import closed_loop
from experiments.studies.closed_loop import STAGES, KalmanLoop, Pace, Recent, WienerLoop, table
from experiments.studies.subject import STEP, Subject, way_to
from poyo_jax import Session


@pytest.fixture(scope="module")
def block() -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_loop, "BLOCK", 40.0)
        return closed_loop.calibration(Subject((0, 0), num_units=20), "today")


def test_the_way_to_a_target_is_limited_in_speed():
    np.testing.assert_allclose(way_to(np.array([4.0, 0.0]), np.zeros(2)), [10.0, 0.0])
    assert np.linalg.norm(way_to(np.array([80.0, 60.0]), np.zeros(2))) == pytest.approx(25.0)
    assert not way_to(np.ones(2), np.ones(2)).any()


def test_a_cursor_that_obeys_reaches_every_target():
    subject = Subject((0, 0))
    score, block = subject.play(30.0, lambda now, times, units: subject.intention)
    assert score.missed == 0 and score.reached > 15 and score.steps == 1500
    assert score.summary()["per_minute"] == 2 * score.reached
    times = np.concatenate(block.times)
    assert (np.diff(times) >= 0).all() and times[-1] < 30.0 and len(block.ends) == 1500
    score, _ = subject.play(30.0, lambda now, times, units: np.zeros(2))
    assert score.reached <= 1 and score.missed >= 4  # the cursor stands still
    assert subject.number * STEP == pytest.approx(60.0)


def test_units_fire_by_their_latency_before_the_movement(block):
    """Spikes of a unit with gains point to where the cursor goes about 0.1 s later."""
    behaviour = block.behaviour("cursor.vel")
    velocity = behaviour.values(0, behaviour.count)
    times = behaviour.times_at(np.arange(behaviour.count))
    gains = Subject((0, 0), num_units=20).tuning.gains
    unit = int(np.argmax(np.linalg.norm(gains, axis=1)))
    spikes = block.spike_times[block.spike_units == unit]
    along = velocity @ gains[unit]
    lags = np.arange(-0.2, 0.3, 0.02)
    means = [np.interp(spikes + lag, times, along).mean() for lag in lags]
    assert 0.0 < lags[int(np.argmax(means))] < 0.2


def test_half_of_the_units_change_places():
    subject = Subject((0, 0))
    before = subject.tuning
    subject.shuffle()
    moved = before.baselines != subject.tuning.baselines
    assert moved.sum() == 20
    assert np.array_equal(np.sort(before.baselines), np.sort(subject.tuning.baselines))
    assert np.array_equal(before.gains[~moved], subject.tuning.gains[~moved])


def test_counts_of_the_last_bins():
    recent = Recent(num_units=2, num_bins=2, bin_size=0.04)
    recent.counts(1.00, np.array([0.99]), np.array([1]))
    recent.counts(1.02, np.array([1.001, 1.019]), np.array([0, 0]))
    counts = recent.counts(1.06, np.array([1.05]), np.array([1]))
    assert counts.tolist() == [[2.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("kind", [WienerLoop, KalmanLoop])
def test_filters_move_the_cursor_to_targets(kind, block, monkeypatch):
    loop = kind(block)
    subject = Subject((0, 0), num_units=20)
    subject.play(40.0, lambda now, times, units: subject.intention)
    score, _ = subject.play(30.0, loop)
    assert score.reached >= 5


def test_updates_keep_their_pace():
    pace = Pace()
    for _ in range(5):
        pace.wait()
    assert pace.count == 5 and pace.longest >= 0.5 * STEP


def test_the_table_has_every_stage():
    row = {"per_minute": 40.0, "success": 1.0, "seconds": 1.5}
    cells = [{stage: row for stage in STAGES}, {STAGES[0]: row | {"per_minute": 30.0}}]
    lines = table(cells).splitlines()
    assert lines[2] == "| POYO | 35.0 ± 5.0 | 1.00 ± 0.00 | 1.50 ± 0.00 |"
    assert len(lines) == 2 + len(STAGES)
