"""A lab's NWB file becomes a session with its spikes and its behaviour, in the units and at the
times of the file.
"""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nwb_files import PHASES, VELOCITY, samples, trial_table, unit_spikes, write_nwb

from poyo_jax import Session
from poyo_jax.data.importers.nwb_series import candidate_targets, looks_like, session_key
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import read_tree


@contextmanager
def written(**contents):
    """A file for one example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_nwb(Path(folder) / "monday.nwb", **contents)


# --- identity


def test_session_is_called_after_the_file_and_names_its_source(nwb_session, tmp_path):
    session = nwb_session()
    assert (session.id, session.subject_id, session.brainset_id) == ("monday", "ada", None)
    named = nwb_session(options={"session_id": "ada_1", "brainset_id": "lab"})
    assert (named.id, named.session_id) == ("lab/ada_1", "ada_1")
    named.save(tmp_path / "a.h5")
    attrs = read_tree(tmp_path / "a.h5").group("session").attrs
    assert (attrs["source"], attrs["target"], attrs["target_unit"]) == (
        "monday.nwb",
        VELOCITY,
        "cm/s",
    )
    assert attrs["recording_date"] == "2024-05-06 00:00:00"


def test_subject_may_be_unknown(nwb_session):
    assert nwb_session(subject=None).subject_id is None


def test_saved_session_opens_as_it_was(nwb_session, tmp_path):
    session = nwb_session(tables=trial_table(), options={"phases": PHASES, "max_speed": 3.0})
    session.check()
    session.save(tmp_path / "a.h5")
    opened = Session.open(tmp_path / "a.h5")
    opened.check()
    np.testing.assert_array_equal(opened.spike_times, session.spike_times)
    for name in ("train", "valid", "test", "all"):
        assert opened.split(name) == session.split(name)
    for name in ("trials", "movement_phases.reach_period", "cursor_outlier_segments"):
        assert opened.intervals(name) == session.intervals(name)


# --- spikes


@given(st.lists(st.lists(st.integers(-5, 50), max_size=8), min_size=1, max_size=5))
def test_spikes_are_sorted_and_stay_with_their_units(ticks):
    units = [np.array(times, np.float64) / 8 for times in ticks]  # of one unit in any order
    with written(units=units) as path:
        session = Session.from_nwb(path, "cursor_vel")
    times, of_unit = np.asarray(session.spike_times), np.asarray(session.spike_units)
    assert (np.diff(times) >= 0).all()
    assert (np.diff(of_unit)[np.diff(times) == 0] >= 0).all()
    for unit, spikes in enumerate(units):
        np.testing.assert_array_equal(times[of_unit == unit], np.sort(spikes))


def test_spikes_outside_of_the_behaviour_are_kept(nwb_session):
    session = nwb_session(units=[np.array([-7.0, 1.0]), np.array([99.0])])
    np.testing.assert_array_equal(session.spike_times, [-7, 1, 99])
    assert list(session.domain) == [(0, pytest.approx(30))]


def test_unit_ids_name_electrode_groups_if_there_are_any(nwb_session, tmp_path):
    assert nwb_session().unit_ids == (
        "group_M1/elec0/unit_0",
        "group_PMd/elec1/unit_1",
        "group_M1/elec0/unit_2",
    )
    assert nwb_session(electrodes=False).unit_ids == ("unit_0", "unit_10", "unit_20")
    path = write_nwb(tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        del file["units/electrodes"]
        file["units/electrodes"] = [0, 1]
        file["units/electrodes_index"][...] = [1, 1, 2]  # the second unit has none
    assert Session.from_nwb(path, VELOCITY).unit_ids == ("unit_0", "unit_10", "unit_20")
    with h5py.File(path, "a") as file:
        del file["units/electrodes"], file["units/id"]
    assert Session.from_nwb(path, VELOCITY).unit_ids == ("unit_0", "unit_1", "unit_2")


def test_columns_of_units_and_of_their_electrodes_are_kept(tmp_path):
    path = write_nwb(tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        file["units/quality"] = ["good", "noise", "mua"]
        file["units/depth"] = [1.0, 2.0, 3.0]
        file["units/is_sorted"] = [True, False, True]
        file["units/waveform_mean"] = np.zeros((3, 40))
        file["general/extracellular_ephys/electrodes/location"] = ["M1", "dorsal premotor"]
    session = Session.from_nwb(path, VELOCITY)
    table = session.unit_table
    assert set(table) == {
        *("unit_number", "count", "quality", "depth", "is_sorted", "group_name", "location"),
    }
    assert list(table["quality"]) == ["good", "noise", "mua"]
    assert list(table["location"]) == ["M1", "dorsal premotor", "M1"]
    session.select_units(table["quality"] != "noise").save(tmp_path / "a.h5")
    saved = Session.open(tmp_path / "a.h5")
    assert list(saved.unit_table["group_name"]) == ["M1", "M1"]
    assert saved.unit_table["is_sorted"].tolist() == [True, True]
    counts = np.bincount(saved.spike_units)
    np.testing.assert_array_equal(saved.unit_table["count"], counts)


def test_a_clock_that_restarts_is_told(tmp_path, caplog):
    units = [np.r_[np.arange(0, 30, 0.1), np.arange(0, 30, 0.1)], np.arange(0, 30, 0.1)]
    session = Session.from_nwb(write_nwb(tmp_path / "a.nwb", units=units), VELOCITY)
    assert len(session.spike_times) == 900
    assert "1 of 2 units were not in order and have been sorted: unit group_M1" in caplog.text
    assert "has a spike at 0 s after one at 29.9 s. Does the clock restart" in caplog.text


# --- behaviour


@pytest.mark.parametrize(
    ("path", "kind", "key", "derived"),
    [
        ("processing/behavior/Velocity/cursor_vel", "velocity", "cursor.vel", None),
        ("processing/behavior/hand_velocity", "velocity", "hand.vel", None),
        ("processing/behavior/HandVelocity", "velocity", "hand.vel", None),
        ("processing/behavior/Velocity/Wrist 2", "velocity", "wrist_2.vel", None),
        ("acquisition/vel", "velocity", "behavior.vel", None),
        ("acquisition/finger_pos", "position", "finger.pos", "finger.vel"),
        ("processing/behavior/Position/Hand", "position", "hand.pos", "hand.vel"),
        ("processing/behavior/spikes_pos", "position", "behavior.pos", "behavior.vel"),
        ("acquisition/level", "other", "behavior.level", "behavior.level_vel"),
        ("acquisition/Joystick", "other", "behavior.joystick", "behavior.joystick_vel"),
    ],
)
def test_names_of_series_become_keys(path, kind, key, derived):
    assert looks_like(path) == kind
    assert ".".join(session_key(path)) == key
    if derived:
        assert ".".join(session_key(path, derived=True)) == derived


@pytest.mark.parametrize("target", [VELOCITY, f"/{VELOCITY}", "cursor_vel", "Velocity/cursor_vel"])
def test_target_is_a_path_or_the_end_of_one(nwb_session, target):
    assert nwb_session(target).behaviour_keys == ("cursor.vel",)


def test_values_are_converted_to_the_unit_of_the_file(nwb_session):
    data = np.array([[1, 2], [3, 4], [5, 6]], np.int16)
    fields = {
        "data": data,
        "timestamps": [0.0, 0.5, 1.0],
        "conversion": 0.01,
        "offset": 2.0,
        "unit": "m/s",
    }
    session = nwb_session(series={VELOCITY: fields})
    np.testing.assert_allclose(
        session.behaviour("cursor.vel").values(0, 3), data * 0.01 + 2.0, rtol=1e-6
    )


def test_samples_may_be_single_numbers_and_missing(nwb_session):
    data = np.array([0.0, np.nan, 2.0, 3.0])
    session = nwb_session(
        "joystick",
        series={"acquisition/joystick": {"data": data, "timestamps": [0.0, 0.1, 0.2, 0.3]}},
    )
    np.testing.assert_array_equal(session.behaviour("behavior.joystick").values(0, 4)[:, 0], data)


@given(st.integers(2, 60), st.floats(-50, 50), st.floats(0.5, 2000))
def test_rate_and_timestamps_give_the_same_session(count, start, rate):
    fields = [{"timestamps": start + np.arange(count) / rate}, {"start": start, "rate": rate}]
    sessions = []
    for timing in fields:
        with written(series={VELOCITY: {"data": samples(count), **timing}}) as path:
            sessions.append(Session.from_nwb(path, VELOCITY, split="blocks"))
    stamped, regular = (session.behaviour("cursor.vel") for session in sessions)
    np.testing.assert_array_equal(stamped.values(0, count), regular.values(0, count))
    np.testing.assert_array_equal(
        stamped.times_at(np.arange(count)), regular.times_at(np.arange(count))
    )
    assert regular.sampling_rate == rate
    for name in ("all", "train", "valid", "test"):
        a, b = (session.split(name) for session in sessions)
        np.testing.assert_allclose([a.starts, a.ends], [b.starts, b.ends], atol=1e-9)


@given(st.lists(st.sampled_from([1, 2, 5, 6, 40]), min_size=6, max_size=60))
def test_gaps_end_intervals_of_the_domain(steps):
    ticks = np.concatenate(
        [[0], np.cumsum([1] * (len(steps) + 1) + steps)]
    )  # the median step is one tick
    with written(
        series={VELOCITY: {"data": samples(len(ticks)), "timestamps": ticks / 16}}
    ) as path:
        domain = Session.from_nwb(path, VELOCITY).domain
    assert domain.contains(ticks / 16).all()
    breaks = np.flatnonzero(np.diff(ticks) > 5)
    np.testing.assert_array_equal(domain.starts * 16, ticks[np.append(0, breaks + 1)])
    np.testing.assert_array_equal(domain.ends * 16, ticks[np.append(breaks, len(ticks) - 1)] + 1)


def test_velocity_is_derived_within_runs_without_gaps(nwb_session):
    times = np.concatenate([np.arange(10) / 10, 5 + np.arange(10) / 10, [9.0]])
    position = np.stack([times**2, np.where(times > 3, 100.0, 0.0)], axis=1)
    series = {"processing/behavior/Position/Hand": {"data": position, "timestamps": times}}
    session = nwb_session("Hand", {"derive_velocity": True}, series=series)
    assert session.behaviour_keys == ("hand.vel",)
    velocity = session.behaviour("hand.vel").values(0, 21)
    inside = np.r_[1:9, 11:19]
    np.testing.assert_allclose(velocity[inside, 0], 2 * times[inside], rtol=1e-5)
    np.testing.assert_allclose(velocity[:20, 1], 0, atol=1e-6)
    assert np.isnan(velocity[20]).all()  # a run of one sample


# --- candidates


def test_candidates_are_the_series_that_could_be_decoded(tmp_path):
    data = samples(400)
    series = {
        VELOCITY: {"data": data, "timestamps": np.arange(400) / 50},
        "acquisition/Joystick": {"data": data[:, 0], "start": 1.0, "rate": 200.0, "unit": "V"},
        "processing/behavior/Position/hand_pos": {
            "data": data,
            "timestamps": np.cumsum(np.arange(1, 401) % 3 + 1.0),
        },
        "acquisition/ElectricalSeries": {"data": data, "start": 0.0, "rate": 30000.0},
        "acquisition/video": {"data": np.zeros((5, 4, 3)), "start": 0.0, "rate": 30.0},
        "acquisition/no_rate": {"data": data, "start": 0.0},
        "acquisition/short": {"data": data[:1], "start": 0.0, "rate": 1.0},
        "acquisition/text": {"data": ["a", "b"], "start": 0.0, "rate": 1.0},
        "processing/behavior/lick": {"data": data[:, 0], "start": 0.0, "rate": 1.0},
    }
    path = write_nwb(tmp_path / "a.nwb", series=series)
    with h5py.File(path, "a") as file:
        file["acquisition/ElectricalSeries/electrodes"] = [0, 1]
        file["processing/behavior/lick"].attrs["neurodata_type"] = "IntervalSeries"
        file["processing/behavior/link"] = h5py.SoftLink("/acquisition/Joystick")
    position, velocity, joystick = candidate_targets(path)
    assert (velocity.path, velocity.shape, velocity.unit, velocity.looks_like) == (
        VELOCITY,
        (400, 2),
        "cm/s",
        "velocity",
    )
    assert velocity.rate == pytest.approx(50) and velocity.seconds == pytest.approx(399 / 50)
    assert position.rate is None and position.looks_like == "position"
    assert (joystick.path, joystick.rate, joystick.seconds) == ("acquisition/Joystick", 200.0, 2.0)
    assert (joystick.unit, joystick.looks_like) == ("V", "other")
    assert Session.from_nwb(path, "processing/behavior/link").behaviour_keys == ("behavior.link",)


# --- real layouts


def test_perich_session_equals_that_of_its_own_converter(shared):
    pytest.importorskip("scipy", reason="the converter of the data set needs scipy")
    from data_prep import perich_miller_population_2018 as perich

    path = next((shared / "examples/raw/sub-C").glob("*CO*.nwb"))
    ours, theirs = Session.from_nwb(path, "cursor_vel", phases=PHASES), perich.convert(path)
    np.testing.assert_array_equal(ours.spike_times, theirs.spike_times)
    np.testing.assert_array_equal(ours.spike_units, theirs.spike_units)
    assert (ours.unit_ids, ours.subject_id) == (theirs.unit_ids, theirs.subject_id)
    a, b = (session.behaviour("cursor.vel") for session in (ours, theirs))
    np.testing.assert_array_equal(a.values(0, a.count), b.values(0, b.count))
    np.testing.assert_array_equal(a.times_at(np.arange(a.count)), b.times_at(np.arange(b.count)))


def test_benchmark_session_takes_its_splits_from_the_file(shared):
    path = next((shared / "examples/raw/sub-Jenkins").glob("*desc-train*.nwb"))
    session = Session.from_nwb(path, "hand_vel")
    with h5py.File(path) as file:
        table, labels = file["intervals/trials"], file["intervals/trials/split"].asstr()[()]
        held_out = Intervals.from_pairs(
            np.stack([table["start_time"], table["stop_time"]], 1)[labels == "val"]
        )
        expected = file["processing/behavior/hand_vel/data"][:] * 0.001
    np.testing.assert_allclose(session.split("test").starts, held_out.starts, atol=1e-9)
    velocity = session.behaviour("hand.vel")
    np.testing.assert_allclose(velocity.values(0, velocity.count), expected, rtol=1e-6)
    assert len(session.domain) > 1  # there is behaviour only within trials


def test_file_of_pynwb_becomes_a_session(tmp_path):
    pynwb = pytest.importorskip("pynwb", reason="writes a file with pynwb, which is not installed")
    from datetime import UTC, datetime

    file = pynwb.NWBFile("two units", "monday", datetime(2024, 5, 6, tzinfo=UTC))
    file.subject = pynwb.file.Subject(subject_id="Ada", species="Macaca mulatta", sex="F")
    group = file.create_electrode_group("M1", "array", "M1", file.create_device("array"))
    file.add_electrode(group=group, location="M1")
    for spikes in unit_spikes(2):
        file.add_unit(spike_times=spikes, electrodes=[0])
    file.add_trial_column("go_cue_time", "go cue")
    for start in np.arange(10) * 3.0:
        file.add_trial(start_time=start, stop_time=start + 2, go_cue_time=start + 0.5)
    file.add_epoch(0.0, 15.0, ["rest", "task"])
    velocity = pynwb.TimeSeries(
        name="cursor_vel",
        data=samples(),
        unit="m/s",
        conversion=0.01,
        rate=100.0,
        starting_time=0.0,
    )
    module = file.create_processing_module("behavior", "cursor")
    module.add(pynwb.behavior.BehavioralTimeSeries(name="Velocity", time_series=velocity))
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(file)

    (candidate,) = candidate_targets(tmp_path / "a.nwb")
    assert (candidate.path, candidate.rate, candidate.unit) == (VELOCITY, 100.0, "m/s")
    session = Session.from_nwb(tmp_path / "a.nwb", candidate.path, phases=PHASES)
    assert (
        session.unit_ids == ("group_M1/elec0/unit_0", "group_M1/elec0/unit_1")
        and session.subject_id == "ada"
    )
    np.testing.assert_array_equal(session.spike_times, np.sort(np.concatenate(unit_spikes(2))))
    np.testing.assert_allclose(
        session.behaviour("cursor.vel").values(0, 3000), samples() * 0.01, rtol=1e-6
    )
    assert len(session.intervals("trials")) == 10 and list(session.intervals("epochs")) == [(0, 15)]
    assert (
        len(session.split("test")) == 2
        and len(session.intervals("movement_phases.reach_period")) == 10
    )
