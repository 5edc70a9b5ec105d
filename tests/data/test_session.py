"""Sessions have names, give their spikes and intervals exactly, and survive files and pickles."""

import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from example_sessions import arrays, make_session, reference_files
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.behaviour import count_before
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.io.lazy_arrays import EAGER_BYTES
from poyo_jax.data.io.writing import write_tree
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, PoyoError, SessionError

# --- identity


def test_names_tell_sessions_apart():
    session = make_session(brainset_id="lab", subject_id="ada")
    assert (session.id, session.session_id, session.brainset_id, session.subject_id) == (
        "lab/s",
        "s",
        "lab",
        "ada",
    )
    assert session.unit_ids == ("a", "b", "c") and session.unit_names == (
        "lab/s/a",
        "lab/s/b",
        "lab/s/c",
    )
    alone = make_session()
    assert (alone.id, alone.brainset_id, alone.subject_id, alone.path) == ("s", None, None, None)
    assert alone.unit_names[0] == "s/a"
    assert repr(session) == "Session(lab/s: 3 units, 200 spikes, 10 s; cursor.vel)"


def test_file_without_a_session_id_is_called_after_its_name(tmp_path):
    make_session().save(tmp_path / "monday.h5")
    with h5py.File(tmp_path / "monday.h5", "a") as file:
        del file["session"]
    assert Session.open(tmp_path / "monday.h5").id == "monday"


def test_copies_keep_the_id_that_a_file_has_from_its_name(tmp_path):
    make_session().save(tmp_path / "monday.h5")
    with h5py.File(tmp_path / "monday.h5", "a") as file:
        del file["session"]
    session = Session.open(tmp_path / "monday.h5")
    assert session.with_splits(train=[(0, 5)]).id == "monday"
    session.save(tmp_path / "copy.h5")
    assert Session.open(tmp_path / "copy.h5").id == "monday"


def test_a_name_that_is_no_utf_8_becomes_an_id_that_can_be_saved(tmp_path):
    make_session().save(tmp_path / "monday.h5")
    with h5py.File(tmp_path / "monday.h5", "a") as file:
        del file["session"]
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/mond\xe4y.h5")
    os.rename(tmp_path / "monday.h5", latin)
    session = Session.open(latin)
    assert session.id == session.with_splits(train=[(0, 5)]).id == "mond?y"
    session.save(tmp_path / "copy.h5")
    assert Session.open(tmp_path / "copy.h5").id == "mond?y"


def test_units_may_be_numbers_and_arrays_may_be_lists():
    session = Session.from_arrays(
        [0, 1, 1],
        np.array([0.0, 1.0, 0.0], np.float32),
        [7, 9],
        [0, 1, 2],
        [1, 2, 3],
        session_id="s",
    )
    assert session.unit_ids == ("7", "9")
    assert session.spike_times.dtype == np.float64 and session.spike_units.dtype == np.int64
    assert session.behaviour("cursor.vel").values(0, 3).tolist() == [[1], [2], [3]]


def test_a_session_may_have_no_spikes():
    session = Session.from_arrays([], [], ["a"], [0.0, 1.0], [0.0, 1.0], session_id="s")
    session.check()
    assert session.max_spikes(1.0) == 0 and len(session.spikes_between(0, 1)[0]) == 0


# --- spikes


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40),
    st.integers(-10, 410),
    st.integers(-10, 410),
    st.sampled_from([0.25, 1.0, 3.0]),
)
def test_spikes_between_and_their_bound_agree_with_brute_force(ticks, start, stop, window_length):
    times = np.sort(ticks) / 40
    units = np.arange(len(times)) % 2
    session = Session.from_arrays(times, units, ["a", "b"], [0.0, 10.0], [0.0, 0.0], session_id="s")
    start, stop = min(start, stop) / 40, max(start, stop) / 40
    inside = (start <= times) & (times < stop)
    found_times, found_units = session.spikes_between(start, stop)
    np.testing.assert_array_equal(found_times, times[inside])
    np.testing.assert_array_equal(found_units, units[inside])
    assert session.count_spikes(start, stop) == inside.sum()
    assert session.count_spikes(stop, start) == 0
    most = max(np.sum((first <= times) & (times < first + window_length)) for first in times)
    assert most <= session.max_spikes(window_length) <= 4 * most


def test_slices_of_a_mapped_file_are_arrays_of_their_own(tmp_path):
    Session.from_arrays(*arrays(num_spikes=EAGER_BYTES), session_id="s").save(tmp_path / "a.h5")
    times, units = Session.open(tmp_path / "a.h5").spikes_between(1.0, 2.0)
    assert type(times) is type(units) is np.ndarray and times.flags.writeable
    assert times.dtype == np.float64 and units.dtype == np.int64


def test_search_in_an_unaligned_array_equals_search_in_an_aligned_one():
    times = np.linspace(0, 1, 101)
    unaligned = np.frombuffer(b"x" + times.tobytes(), np.uint8)[1:].view(np.float64)
    assert not unaligned.flags.aligned
    marks = np.array([[-1.0, 0.0, 0.005], [0.5, 1.0, 2.0]])
    np.testing.assert_array_equal(count_before(unaligned, marks), np.searchsorted(times, marks))
    assert count_before(unaligned, 0.5) == 50 == count_before(times, 0.5)


# --- intervals


def test_ten_blocks_are_the_default_splits():
    session = make_session(domain=[(0, 10)])
    assert list(session.split("valid")) == [(5, 6)]
    assert list(session.split("test")) == [(3, 4), (8, 9)]
    assert list(session.split("train")) == [(0, 1), (1, 2), (2, 3), (4, 5), (6, 7), (7, 8), (9, 10)]
    assert list(session.split("all")) == [(0, 10)] == list(session.domain)


def test_default_splits_leave_gaps_of_the_domain_out():
    session = make_session(domain=[(0, 4.5), (5.5, 10)])  # 9 s, so that a block has 0.9 s
    assert list(session.split("valid")) == [(5.5, pytest.approx(6.4))]
    assert list(session.split("train"))[3] == (pytest.approx(3.6), 4.5)


def test_default_domain_holds_every_spike_and_target():
    args = arrays()
    session = Session.from_arrays(*args, session_id="s")
    assert session.domain.contains(args[0]).all() and session.domain.contains(args[3]).all()
    late = Session.from_arrays([2.0, 99.0], [0, 0], ["a"], [1.0], [0.0], session_id="s")
    assert late.domain.contains([1.0, 99.0]).all() and late.domain.duration == pytest.approx(98)


def test_given_splits_are_kept_and_others_are_absent():
    session = make_session(train=[(2, 3), (0, 2)], test=Intervals.from_pairs([(5, 6)]))
    assert list(session.split("train")) == [(0, 2), (2, 3)] and list(session.split("test")) == [
        (5, 6)
    ]
    with pytest.raises(
        DataError, match=r"session s has no valid split \(no group valid_domain\); choose another"
    ):
        session.split("valid")
    with pytest.raises(
        DataError, match="there is no split 'training'; choose train, valid, test or all"
    ):
        session.split("training")


def test_empty_split_of_a_file_is_refused_when_asked_for(tmp_path):
    make_session().save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    for column in ("start", "end"):
        tree.members["valid_domain"].members[column] = np.zeros(0)
    write_tree(tmp_path / "a.h5", tree)
    session = Session.open(tmp_path / "a.h5")
    assert len(session.split("train")) == 7
    with pytest.raises(
        DataError, match="the valid split of session s is empty; choose another split or drop"
    ):
        session.split("valid")


@pytest.mark.parametrize(
    ("brainset_id", "target_key", "expected"),
    [
        ("churchland_shenoy_neural_2012", "cursor.vel", [(1, 2), (2, 3)]),
        ("odoherty_sabes_nonhuman_2017", "cursor.vel", [(1, 2), (2, 3)]),
        ("flint_slutzky_accurate_2012", "hand.vel", [(1, 2), (2, 3)]),
        ("another_2020", "cursor.vel", [(0, 2), (2, 4)]),
    ],
)
def test_splits_of_some_data_sets_count_only_where_data_were_recorded(
    tmp_path, brainset_id, target_key, expected
):
    make_session(brainset_id=brainset_id, target_key=target_key, train=[(0, 2), (2, 4)]).save(
        tmp_path / "a.h5"
    )
    tree = read_tree(tmp_path / "a.h5")
    tree.members["spikes"].members["domain"].members["end"] = np.array([3.0])
    tree.members[target_key.split(".")[0]].members["domain"].members["start"] = np.array([1.0])
    write_tree(tmp_path / "a.h5", tree)
    assert list(Session.open(tmp_path / "a.h5").split("train")) == expected


def test_named_intervals_may_overlap():
    session = make_session(
        intervals={
            "movement_phases.reach_period": [(3, 5), (0, 1), (4, 6)],
            "trials": [(0, 1), (1, 2)],
        }
    )
    assert list(session.intervals("movement_phases.reach_period")) == [(0, 1), (3, 6)]
    assert list(session.intervals("trials")) == [(0, 1), (1, 2)]
    assert session.intervals("cursor.domain") == session.domain == session.intervals("domain")


def test_unknown_intervals_list_what_there_is():
    session = make_session(intervals={"movement_phases.reach_period": [(0, 1)]})
    message = (
        r"has no intervals 'reach_period'; it has movement_phases.reach_period. Did you mean"
        r" 'movement_phases.reach"
    )
    with pytest.raises(SessionError, match=message):
        session.intervals("reach_period")
    with pytest.raises(SessionError, match="it has none besides its domains"):
        make_session().intervals("trials")


# --- files


def test_saved_session_opens_as_it_was(tmp_path):
    session = make_session(brainset_id="lab", intervals={"trials": [(0, 5)]})
    session.save(tmp_path / "a.h5")
    opened = Session.open(str(tmp_path / "a.h5"))
    assert (
        opened.path == tmp_path / "a.h5"
        and opened.id == session.id
        and opened.unit_ids == session.unit_ids
    )
    np.testing.assert_array_equal(opened.spike_times, session.spike_times)
    np.testing.assert_array_equal(opened.spike_units, session.spike_units)
    for name in ("train", "valid", "test", "all"):
        assert opened.split(name) == session.split(name)
    assert opened.intervals("trials") == session.intervals("trials")
    a, b = opened.behaviour("cursor.vel"), session.behaviour("cursor.vel")
    np.testing.assert_array_equal(a.values(0, a.count), b.values(0, b.count))
    np.testing.assert_array_equal(a.times_at(np.arange(1000)), b.times_at(np.arange(1000)))


def test_session_may_be_saved_over_the_file_it_is_mapped_from(tmp_path):
    Session.from_arrays(*arrays(num_spikes=EAGER_BYTES), session_id="s").save(tmp_path / "a.h5")
    session = Session.open(tmp_path / "a.h5")
    session.save(session.path)
    session.check()
    again = Session.open(tmp_path / "a.h5")
    np.testing.assert_array_equal(again.spike_times, session.spike_times)
    np.testing.assert_array_equal(again.spike_units, session.spike_units)


def test_opened_session_pickles_without_its_data(tmp_path, monkeypatch):
    make_session().save(tmp_path / "a.h5")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Session.open("a.h5"))
    monkeypatch.chdir("/")
    assert len(pickled) < 5000
    assert pickle.loads(pickled).spike_times[0] == make_session().spike_times[0]


def test_session_in_memory_pickles_whole():
    session = pickle.loads(pickle.dumps(make_session()))
    np.testing.assert_array_equal(session.spike_times, make_session().spike_times)


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="this system does not list open files"
)
def test_opening_keeps_no_files_open(tmp_path):
    make_session().save(tmp_path / "a.h5")
    before = os.listdir("/proc/self/fd")
    sessions = [Session.open(tmp_path / "a.h5") for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == len(before)
    sessions[0].check()


def test_reference_sessions_open_and_are_sound(shared):
    for path in reference_files(shared):
        session = Session.open(path)
        session.check()
        assert session.session_id == path.stem and session.brainset_id
        start, stop = session.domain.starts[0], session.domain.ends[-1]
        assert len(session.spikes_between(start, stop + 100)[0]) > 0
        for key in session.behaviour_keys:
            behaviour = session.behaviour(key)
            i0, i1 = behaviour.range(start, start + 1.0)
            assert i1 - i0 <= behaviour.max_samples(1.0)
            assert behaviour.values(i0, i1).shape == (i1 - i0, behaviour.num_channels)
        for name in ("train", "valid", "test") if session.behaviour_keys else ():
            assert session.split(name).duration > 0


def test_splits_of_reference_sessions_do_not_share_time(shared):
    for path in reference_files(shared):
        session = Session.open(path)
        if session.behaviour_keys:
            train, valid, test = map(session.split, ("train", "valid", "test"))
            assert (
                not len(train.intersect(valid))
                and not len(train.intersect(test))
                and not len(valid.intersect(test))
            )


def test_slices_equal_those_of_temporaldata(shared, tmp_path):
    temporaldata = pytest.importorskip(
        "temporaldata", reason="compares with temporaldata, which is not installed"
    )
    for path in reference_files(shared):
        session = Session.open(path)
        session.save(tmp_path / "copy.h5")
        start = session.domain.starts[0] + 0.7
        with h5py.File(tmp_path / "copy.h5") as file:
            window = temporaldata.Data.from_hdf5(file).slice(start, start + 1.2, reset_origin=False)
            times, units = session.spikes_between(start, start + 1.2)
            np.testing.assert_array_equal(times, window.spikes.timestamps)
            np.testing.assert_array_equal(units, window.spikes.unit_index)
            for key in session.behaviour_keys:
                behaviour = session.behaviour(key)
                values = behaviour.values(*behaviour.range(start, start + 1.2))
                expected = window.get_nested_attribute(key).astype(np.float32)
                values = values.astype(np.float32)
                np.testing.assert_array_equal(values, expected.reshape(values.shape))


def test_data_layer_loads_no_jax():
    code = "import sys, poyo_jax.data, poyo_jax.data.io.layout; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_other_splits_leave_the_rest_as_it_is(tmp_path):
    make_session(brainset_id="lab").save(tmp_path / "s.h5")
    session = Session.open(tmp_path / "s.h5")
    old = session.split("train")
    other = session.with_splits(train=[(0, 4)], test=[(7, 10)])
    assert list(other.split("train")) == [(0, 4)] and list(other.split("test")) == [(7, 10)]
    assert other.split("valid") == session.split("valid") and session.split("train") == old
    assert (other.id, other.unit_names, other.path) == (
        session.id,
        session.unit_names,
        session.path,
    )
    np.testing.assert_array_equal(other.spike_times, session.spike_times)
    assert pickle.loads(pickle.dumps(other)).split("test") == other.split("test")


# --- units


def test_selected_units_keep_their_spikes_and_columns(tmp_path):
    session = make_session(brainset_id="lab")
    session._tree.group("units").members["depth"] = np.array([1.0, 2.0, 3.0])
    session.save(tmp_path / "s.h5")
    for whole in (session, Session.open(tmp_path / "s.h5")):
        for chosen in (["c", "a"], np.array([True, False, True]), whole.unit_table["depth"] != 2):
            picked = whole.select_units(chosen)
            assert picked.unit_ids == ("a", "c") and picked.id == whole.id
            assert picked.unit_table["depth"].tolist() == [1.0, 3.0]
            kept = np.asarray(whole.spike_units) != 1
            np.testing.assert_array_equal(picked.spike_times, np.asarray(whole.spike_times)[kept])
            units = np.asarray(whole.spike_units)[kept]
            np.testing.assert_array_equal(picked.spike_units, units // 2)
            picked.check()
            assert picked.split("test") == whole.split("test") and len(whole.unit_ids) == 3
    picked.save(tmp_path / "picked.h5")
    assert Session.open(tmp_path / "picked.h5").unit_names == ("lab/s/a", "lab/s/c")
    again = pickle.loads(pickle.dumps(picked))
    np.testing.assert_array_equal(again.spike_units, picked.spike_units)


@pytest.mark.parametrize(
    ("units", "told"),
    [
        (["a", "d"], "session s has no unit 'd'; pass ids such as 'a', or a mask"),
        ([7], "session s has no unit '7'"),
        (["a", "a"], "unit 'a' is chosen twice"),
        (np.ones(2, bool), "the mask has 2 entries, but session s has 3 units"),
        (np.zeros(3, bool), "none of the 3 units of session s is chosen"),
        ([], "none of the 3 units"),
        (np.ones((3, 1), bool), r"an array of shape \(3, 1\); pass a mask"),
    ],
)
def test_units_that_cannot_be_selected_are_refused(units, told):
    with pytest.raises(DataError, match=told):
        make_session().select_units(units)


# --- paths


def test_tilde_is_the_home_folder_and_addresses_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_session().save("~/s.h5")
    assert Session.open("~/s.h5").path == tmp_path / "s.h5"
    for door in (Session.open, make_session().save, lambda path: Session.from_nwb(path, "x")):
        with pytest.raises(PoyoError, match=r"gs://lab/s.h5 is not a path.*Download it"):
            door("gs://lab/s.h5")
    assert not list(tmp_path.glob("gs*"))
