"""Centre-out and random-target sessions of Perich, Miller et al.: trials, phases, outliers and
splits.
"""

import math
import tempfile
from pathlib import Path

import h5py
import literal_intervals as literal
import numpy as np
import pytest
from converters import column, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import perich

from data_prep.perich_miller_population_2018 import convert

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
NUM_TRIALS = 24


def convert_and_read(task, **options):
    """The session, and the raw file's trial columns and cursor as lists and arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = perich(Path(folder), task, num_trials=NUM_TRIALS, **options)
        with h5py.File(path) as file:
            trials = {
                name: values[()].tolist() for name, values in file["intervals/trials"].items()
            }
            cursor = file["processing/behavior/Position/cursor_pos"]
            acceleration = file["processing/behavior/Acceleration/cursor_acc/data"][()]
            samples = cursor["timestamps"][()], cursor["data"][()], acceleration
        return convert(path), trials, samples


def bounds_of_trials(trials, last_time):
    """The bounds of centre-out trials, which tile the session."""
    appeared, began, stopped = (
        trials[name] for name in ("target_on_time", "start_time", "stop_time")
    )
    bounds = []
    for k, time in enumerate(appeared):
        if not math.isnan(time):
            bounds.append(time)
        elif k == 0:
            bounds.append(began[0])
        else:
            bounds.append(min(stopped[k - 1] + 1, stopped[k]))
    return [*bounds, min(stopped[-1] + 1, last_time)]


def literal_outliers(times, position, acceleration):
    jumps = literal.grown([math.hypot(*row) > 1500 for row in acceleration], 1, 0)
    outside = literal.grown([abs(x) > 10 or abs(y) > 10 for x, y in position], 200, 199)
    outside = literal.grown(outside, -50, -49)
    return literal.marked(times.tolist(), jumps | outside)


@few
@given(seeds, st.sets(st.integers(0, NUM_TRIALS - 1), max_size=8).map(sorted))
def test_center_out_trials_tile_the_session(seed, missing):
    session, trials, (times, *_) = convert_and_read("CO", seed=seed, nan_targets=missing)
    bounds = bounds_of_trials(trials, times[-1])
    start, end, valid = (column(session, "trials", name) for name in ("start", "end", "is_valid"))
    assert start.tolist() == bounds[:-1] and end.tolist() == bounds[1:]
    for k in range(NUM_TRIALS):
        has_target = not math.isnan(trials["target_id"][k])
        expected = (
            trials["result"][k] == b"R" and has_target and 0.5 < bounds[k + 1] - bounds[k] < 6
        )
        assert valid[k] == expected
    assert column(session, "trials", "start_time").tolist() == trials["start_time"]


@few
@given(seeds, st.sets(st.integers(0, NUM_TRIALS - 1), max_size=8).map(sorted))
def test_phases_of_center_out_trials(seed, missing):
    session, trials, samples = convert_and_read("CO", seed=seed, nan_targets=missing)
    bounds, outliers = bounds_of_trials(trials, samples[0][-1]), literal_outliers(*samples)
    valid = column(session, "trials", "is_valid")
    rows = np.flatnonzero(valid).tolist()
    phases = {
        "hold_period": [(trials["target_on_time"][k], trials["go_cue_time"][k]) for k in rows],
        "reach_period": [(trials["go_cue_time"][k], trials["stop_time"][k]) for k in rows],
        "return_period": [(trials["stop_time"][k], bounds[k + 1]) for k in rows],
        "invalid": [(bounds[k], bounds[k + 1]) for k in range(NUM_TRIALS) if not valid[k]],
    }
    covered = []
    for phase in phases.values():
        covered = literal.union(covered, phase)
    assert pairs(session, "movement_phases.domain") == covered
    phases["random_period"] = literal.subtract([(samples[0][0], samples[0][-1])], covered)
    for name, phase in phases.items():
        assert pairs(session, f"movement_phases.{name}") == literal.subtract(phase, outliers)
    assert pairs(session, "cursor_outlier_segments") == outliers


@few
@given(seeds)
def test_phases_and_outliers_cover_the_session(seed):
    session, *_ = convert_and_read("CO", seed=seed)
    everything = session.intervals("cursor_outlier_segments")
    total = 0.0
    for name in ("hold_period", "reach_period", "return_period", "invalid", "random_period"):
        total += session.intervals(f"movement_phases.{name}").duration
        everything = everything.union(session.intervals(f"movement_phases.{name}"))
    assert list(everything.union(session.domain)) == list(session.domain) == list(everything)
    outliers = session.intervals("cursor_outlier_segments").intersect(session.domain).duration
    assert total == pytest.approx(session.domain.duration - outliers)


@few
@given(seeds)
def test_random_target_trials_and_hold_periods(seed):
    session, trials, samples = convert_and_read("RT", seed=seed)
    start, end = trials["start_time"], trials["stop_time"]
    assert (
        column(session, "trials", "start").tolist() == start
        and column(session, "trials", "end").tolist() == end
    )
    assert {"start_time", "stop_time", "num_targets_index"}.isdisjoint(
        session._tree.group("trials").members
    )
    valid = [
        trials["result"][k] == b"R"
        and trials["num_attempted"][k] == 4
        and 2 < end[k] - start[k] < 10
        for k in range(NUM_TRIALS)
    ]
    assert column(session, "trials", "is_valid").tolist() == valid
    cues = [row[0] for row in trials["go_cue_time_array"]]
    hold = [(start[k], cues[k]) for k in range(NUM_TRIALS) if not math.isnan(cues[k])]
    outliers = literal_outliers(*samples)
    assert pairs(session, "movement_phases.hold_period") == literal.subtract(hold, outliers)
    assert pairs(session, "movement_phases.domain") == literal.union(hold, [])
    free = literal.subtract([(samples[0][0], samples[0][-1])], hold)
    assert pairs(session, "movement_phases.random_period") == literal.subtract(free, outliers)
    assert set(session._tree.group("movement_phases").members) == {
        "domain",
        "hold_period",
        "random_period",
    }


@few
@given(seeds, st.sampled_from(["CO", "RT"]))
def test_splits_are_drawn_from_valid_trials_and_guarded(seed, task):
    session, *_ = convert_and_read(task, seed=seed)
    start, end, valid = (column(session, "trials", name) for name in ("start", "end", "is_valid"))
    rows = np.flatnonzero(valid)
    shuffled = np.random.RandomState(42).permutation(len(rows))
    num_test = math.ceil(0.2 * len(rows))
    rest = shuffled[num_test:]
    num_valid = math.ceil(0.125 * len(rest))
    parts = {
        "test": np.sort(rows[shuffled[:num_test]]),
        "valid": np.sort(rows[rest[np.random.RandomState(42).permutation(len(rest))[:num_valid]]]),
    }
    for name, part in parts.items():
        for key, values in session._tree.group("trials").members.items():
            np.testing.assert_array_equal(
                column(session, f"{name}_domain", key), values[part], strict=True
            )
    held = [(start[k], end[k]) for k in np.sort(np.concatenate(list(parts.values())))]
    expected = literal.subtract(list(session.domain), literal.dilate(held, 1.0))
    assert pairs(session, "train_domain") == expected


@pytest.mark.parametrize(
    ("length", "is_valid"), [(0.5, False), (0.625, True), (5.75, True), (6.0, False)]
)
def test_length_of_a_valid_center_out_trial(tmp_path, length, is_valid):
    """Lengths are strictly between half a second and six; all numbers here are exact."""
    target_on = 1 + np.cumsum([0, 2, 2, 2, 2, length, 2, 2, 2, 2])
    columns = {
        "start_time": target_on,
        "target_on_time": target_on,
        "go_cue_time": target_on + 0.125,
        "stop_time": target_on + 0.25,
        "target_id": np.zeros(10),
        "result": ["R"] * 10,
    }
    path = perich(
        tmp_path,
        "CO",
        num_trials=10,
        changes={f"intervals/trials/{k}": v for k, v in columns.items()},
    )
    assert (
        column(convert(path), "trials", "is_valid").tolist() == [True] * 4 + [is_valid] + [True] * 5
    )


@pytest.mark.parametrize(("later", "boundary"), [(0.75, 10.0), (1.0, 10.25), (1.75, 10.25)])
def test_trial_without_target_begins_a_second_after_the_last_one_at_most(tmp_path, later, boundary):
    """Trial 4 ends at 9.25 s, and trial 5, in which no target appeared, `later` seconds after
    it.
    """
    target_on = 1 + 2.0 * np.arange(10)
    stop = target_on + 0.25
    stop[5] = stop[4] + later
    columns = {
        "start_time": target_on - 0.125,
        "target_on_time": np.where(np.arange(10) == 5, np.nan, target_on),
        "go_cue_time": target_on + 0.125,
        "stop_time": stop,
        "target_id": np.where(np.arange(10) == 5, np.nan, 0),
        "result": ["R"] * 10,
    }
    path = perich(
        tmp_path,
        "CO",
        num_trials=10,
        changes={f"intervals/trials/{k}": v for k, v in columns.items()},
    )
    assert column(convert(path), "trials", "start").tolist() == [
        *target_on[:5],
        boundary,
        *target_on[6:],
    ]


@pytest.mark.parametrize(
    ("length", "is_valid"), [(2.0, False), (2.125, True), (9.75, True), (10.0, False)]
)
def test_length_of_a_valid_random_target_trial(tmp_path, length, is_valid):
    start = 16.0 * np.arange(8)
    columns = {
        "start_time": start,
        "stop_time": start + np.where(np.arange(8) == 3, length, 4.0),
        "go_cue_time_array": start[:, None] + 0.25 * np.arange(1, 5),
        "num_attempted": np.full(8, 4.0),
        "result": ["R"] * 8,
    }
    changes = {f"intervals/trials/{name}": values for name, values in columns.items()}
    session = convert(perich(tmp_path, "RT", num_trials=8, changes=changes))
    assert column(session, "trials", "is_valid").tolist() == [True] * 3 + [is_valid] + [True] * 4


def test_units_spikes_and_series_are_those_of_the_file(tmp_path):
    path = perich(tmp_path, "CO", subject="J", date="2016-04-05")
    session = convert(path)
    assert session.id == "perich_miller_population_2018/j_20160405_center_out_reaching"
    assert session.unit_ids[:2] == (
        "group_electrode_group_PMd/elec3/unit_0",
        "group_electrode_group_PMd/elec1/unit_1",
    )
    assert column(session, "units", "count").tolist() == [30, 30, 30, 0]
    with h5py.File(path) as file:
        spikes = file["units/spike_times"][()].reshape(3, 30)
        for unit in range(3):
            np.testing.assert_array_equal(
                session.spike_times[session.spike_units == unit], spikes[unit]
            )
        for name, field in (("pos", "Position/cursor_pos"), ("vel", "Velocity/cursor_vel")):
            np.testing.assert_array_equal(
                column(session, "cursor", name), file[f"processing/behavior/{field}/data"]
            )
