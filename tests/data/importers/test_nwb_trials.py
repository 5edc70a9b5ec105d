"""Trials of an NWB file become splits that share no time, phases, and tables; outliers are cut from
phases.
"""

import numpy as np
import pytest
from nwb_files import PHASES, TIMES, VELOCITY, trial_columns, trial_table

from poyo_jax.data.io.layout import read_tree

# --- splits


def test_splits_follow_the_trials_if_there_are_six(nwb_session):
    session = nwb_session(tables=trial_table())
    table = session.intervals("trials")
    parts = [session.split(name) for name in ("valid", "test")]
    assert [len(part) for part in parts] == [1, 2]
    for part in parts:
        assert set(part) <= set(table)
        assert not len(session.split("train").intersect(part.dilate(1.0)))
    assert session.split("train").duration > 15
    assert nwb_session(tables=trial_table(), options={"split": "blocks"}).split(
        "valid"
    ) == nwb_session().split("valid")
    few = nwb_session(tables={"trials": trial_columns(5)})
    assert few.split("test") == nwb_session().split("test") and len(few.intervals("trials")) == 5


def test_split_column_of_the_benchmark_is_followed(nwb_session):
    labels = ["train"] * 5 + ["val", "none"] + ["train"] * 3
    session = nwb_session(tables=trial_table(split=labels))
    rows = np.array(list(session.intervals("trials")))
    assert [tuple(row) for row in rows[[5]]] == list(session.split("test"))
    assert (len(session.split("train")), len(session.split("valid"))) == (6, 2)
    other = nwb_session(tables=trial_table(split=["a", "b"] * 5))
    assert other.split("train") == nwb_session(tables=trial_table()).split("train")


def test_trials_without_time_or_behaviour_are_in_no_split(nwb_session):
    columns = trial_columns(12)  # the last two begin after 30 s, where the behaviour ends
    columns["stop_time"][3] = np.nan
    session = nwb_session(tables={"trials": columns})
    assert len(session.intervals("trials")) == 11
    held_out = session.split("valid").union(session.split("test"))
    assert len(held_out) == 3 and held_out.ends.max() <= 30 and not held_out.contains(9.5)


def test_trials_that_overlap_are_cut_where_the_next_one_begins(nwb_session):
    columns = trial_columns(length=3.5)
    shuffled = {name: np.array(values)[::-1].tolist() for name, values in columns.items()}
    session = nwb_session(tables={"trials": shuffled})
    train, valid, test = map(session.split, ("train", "valid", "test"))
    assert (
        not len(train.intersect(valid))
        and not len(train.intersect(test))
        and not len(valid.intersect(test))
    )
    assert all(stop - start == pytest.approx(3.0) for start, stop in test)


def test_tables_of_intervals_are_kept_with_their_columns(nwb_session, tmp_path):
    epochs = {
        "start_time": [20.0, 0.0, np.nan],
        "stop_time": [30.0, 10.0, 5.0],
        "id": [0, 1, 2],
        "tags": ["b", "a", "c"],
        "gain": [2, 1, 3],
        "notes": ["x"] * 6,
        "notes_index": [2, 4, 6],
    }
    session = nwb_session(
        tables=trial_table() | {"epochs": epochs, "cursor": epochs, "marks": {"time": [1.0]}}
    )
    assert (
        list(session.intervals("epochs"))
        == [(0, 10), (20, 30)]
        == list(session.intervals("cursor_intervals"))
    )
    session.save(tmp_path / "a.h5")
    members = read_tree(tmp_path / "a.h5").members
    assert (
        set(members["epochs"].members) == {"start", "end", "tags", "gain"}
        and "marks" not in members
    )
    assert list(members["epochs"].column("tags")) == ["a", "b"] and list(
        members["epochs"].column("gain")
    ) == [1, 2]
    assert list(members["trials"].column("result")) == ["R"] * 10


def test_phases_lie_between_two_times_of_every_trial(nwb_session):
    cues = trial_columns()["go_cue_time"]
    cues[2] = np.nan
    session = nwb_session(tables=trial_table(go_cue_time=cues), options={"phases": PHASES})
    reach = session.intervals("movement_phases.reach_period")
    assert len(reach) == 9 and next(iter(reach)) == (0.5, 2.0)
    assert session.intervals("movement_phases.domain") == session.domain


def test_outliers_are_cut_from_phases(nwb_session):
    velocity = np.zeros((3000, 2))
    velocity[100] = 50.0
    series = {VELOCITY: {"data": velocity, "timestamps": TIMES}}
    session = nwb_session(
        series=series, tables=trial_table(), options={"phases": PHASES, "max_speed": 10.0}
    )
    outliers = session.intervals("cursor_outlier_segments")
    assert list(outliers) == [(TIMES[99], TIMES[101])]
    assert not len(session.intervals("movement_phases.reach_period").intersect(outliers))
    assert len(session.intervals("movement_phases.reach_period")) == 11


# --- outliers


def test_outliers_are_where_the_limits_are_exceeded(nwb_session):
    position = np.cumsum(np.full((3000, 2), [0.1, 0.0]), axis=0)  # 10 cm/s
    position[1000:] += 5.0  # a jump, seen by the central difference at samples 999 and 1000
    series = {
        "processing/behavior/cursor_pos": {"data": position, "timestamps": TIMES, "unit": "cm"}
    }
    fast = nwb_session("cursor_pos", {"max_speed": 100.0}, series=series)
    assert fast.behaviour_keys == ("cursor.pos",)
    outliers = fast.intervals("cursor_outlier_segments")
    np.testing.assert_array_equal(np.flatnonzero(outliers.contains(TIMES)), [998, 999, 1000])
    jerky = nwb_session(
        "cursor_pos", {"max_acceleration": 1000.0, "derive_velocity": True}, series=series
    )
    assert jerky.intervals("cursor_outlier_segments").contains(TIMES[998:1002]).all()
    calm = nwb_session("cursor_pos", {"max_speed": 1e6, "max_acceleration": 1e6}, series=series)
    assert not len(calm.intervals("cursor_outlier_segments"))
