"""Sessions slice spikes and behaviour exactly, keep their splits apart, and refuse what is not sound."""

import math
import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.behaviour import Behaviour, check_times, count_before
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.layout import EAGER_BYTES, read_tree, write_tree
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, SessionError


def arrays(num_spikes=200, num_samples=1000, seed=0):
    """Positional arguments of `from_arrays`: 10 s, three units, two channels at 100 Hz."""
    rng = np.random.default_rng(seed)
    spike_times = np.sort(rng.uniform(0, 10, num_spikes))
    targets = rng.normal(size=(num_samples, 2))
    return [spike_times, rng.integers(0, 3, num_spikes), ["a", "b", "c"], np.arange(num_samples) / 100, targets]


def make_session(**kwargs):
    return Session.from_arrays(*arrays(), **{"session_id": "s", **kwargs})


def reference_files(shared):
    return sorted((shared / "examples").glob("brainsets*/**/*.h5")) + sorted((shared / "real").glob("**/*.h5"))


# ------------------------------------------------------------------------------------------------------ identity


def test_names_tell_sessions_apart():
    session = make_session(brainset_id="lab", subject_id="ada")
    assert (session.id, session.session_id, session.brainset_id, session.subject_id) == ("lab/s", "s", "lab", "ada")
    assert session.unit_ids == ("a", "b", "c") and session.unit_names == ("lab/s/a", "lab/s/b", "lab/s/c")
    alone = make_session()
    assert (alone.id, alone.brainset_id, alone.subject_id, alone.path) == ("s", None, None, None)
    assert alone.unit_names[0] == "s/a"
    assert repr(session) == "Session(lab/s: 3 units, 200 spikes, 10 s; cursor.vel)"


def test_file_without_a_session_id_is_called_after_its_name(tmp_path):
    make_session().save(tmp_path / "monday.h5")
    with h5py.File(tmp_path / "monday.h5", "a") as file:
        del file["session"]
    assert Session.open(tmp_path / "monday.h5").id == "monday"


def test_units_may_be_numbers_and_arrays_may_be_lists():
    session = Session.from_arrays(
        [0, 1, 1], np.array([0.0, 1.0, 0.0], np.float32), [7, 9], [0, 1, 2], [1, 2, 3], session_id="s"
    )
    assert session.unit_ids == ("7", "9")
    assert session.spike_times.dtype == np.float64 and session.spike_units.dtype == np.int64
    assert session.behaviour("cursor.vel").values(0, 3).tolist() == [[1], [2], [3]]


def test_a_session_may_have_no_spikes():
    session = Session.from_arrays([], [], ["a"], [0.0, 1.0], [0.0, 1.0], session_id="s")
    session.check()
    assert session.max_spikes(1.0) == 0 and len(session.spikes_between(0, 1)[0]) == 0


# ------------------------------------------------------------------------------------------------------ spikes


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


# ------------------------------------------------------------------------------------------------------ behaviour


def test_irregular_behaviour_is_cut_half_open():
    behaviour = make_session().behaviour("cursor.vel")
    assert behaviour.count == 1000 and behaviour.num_channels == 2
    assert behaviour.range(0.5, 1.5) == (50, 150)
    assert behaviour.range(0.501, 1.501) == (51, 151)
    assert behaviour.range(-5, 50) == (0, 1000)
    np.testing.assert_array_equal(behaviour.times_at([50, 51]), [0.5, 0.51])
    values = behaviour.values(50, 150)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, arrays()[4][50:150].astype(np.float32))
    assert repr(behaviour) == "Behaviour(cursor.vel: 1000 samples, 2 channels, irregular, Intervals([0, 10); 10 s))"


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True), st.sampled_from([0.1, 0.3, 1.0, 5.0]))
def test_most_samples_of_an_irregular_series_is_exact(ticks, window_length):
    times = np.sort(ticks) / 10
    behaviour = Behaviour("x.y", np.zeros(len(times)), Intervals.from_pairs([(0, 11)]), timestamps=times)
    most = max(np.sum((start <= times) & (times < start + window_length)) for start in times)
    assert behaviour.max_samples(window_length) == most


@given(
    st.sampled_from([1.0, 10.0, 100.0, 249.9999999997, 1000.0]),
    st.floats(0, 1000),
    st.floats(-1, 12),
    st.floats(0, 3),
)
def test_regular_behaviour_is_cut_on_its_grid(sampling_rate, grid_start, offset, length):
    count = int(10 * sampling_rate)
    domain = Intervals.from_pairs([(grid_start, grid_start + 10)])
    behaviour = Behaviour("x.y", np.arange(count), domain, sampling_rate=sampling_rate, grid_start=grid_start)
    start, stop = grid_start + offset, grid_start + offset + length
    i0, i1 = behaviour.range(start, stop)
    assert 0 <= i0 <= i1 <= count
    times = behaviour.times_at(np.arange(count))
    tolerance = 2e-9 / sampling_rate + 1e-12 * abs(grid_start)
    assert np.all(times[i0:i1] >= start - tolerance) and np.all(times[i0:i1] < stop + tolerance)
    assert np.all(times[:i0] < start + tolerance) and np.all(times[i1:] >= stop - tolerance)
    assert i1 - i0 <= behaviour.max_samples(length)


def test_grid_positions_a_hair_off_a_sample_are_that_sample():
    domain = Intervals.from_pairs([(100, 110)])
    behaviour = Behaviour("x.y", np.zeros(100), domain, sampling_rate=10.0, grid_start=100.0)
    assert behaviour.range(100.3, 100.3 + 1e-11) == (3, 3)
    assert behaviour.range(100.3 + 1e-11, 101.3 - 1e-11) == (3, 13)
    assert behaviour.range(100.3 + 1e-8, 101.3 - 1e-8) == (4, 13)
    assert behaviour.range(-math.inf, math.inf) == (0, 100)


def test_regular_series_with_gaps_keep_their_grid(shared):
    session = Session.open(shared / "examples/layout_features/temporaldata_0.1.6.h5")
    behaviour = session.behaviour("gappy.v")
    assert len(behaviour.domain) == 2 and behaviour.sampling_rate == 10.0
    tree = read_tree(session.path)
    raw = tree.members["gappy"].column("v")
    assert np.isnan(raw).any()
    np.testing.assert_array_equal(behaviour.values(0, 5), raw.astype(np.float32)[:, None])
    np.testing.assert_allclose(behaviour.times_at(np.arange(5)), behaviour.domain.starts[0] + np.arange(5) / 10)
    gap_start, gap_stop = behaviour.domain.ends[0], behaviour.domain.starts[1]
    assert np.isnan(behaviour.values(*behaviour.range(gap_start, gap_stop))).all()
    assert behaviour.range(gap_start, gap_stop)[1] > behaviour.range(gap_start, gap_stop)[0]


def test_missing_targets_pass_through():
    args = arrays()
    args[4][3] = np.nan
    assert np.isnan(Session.from_arrays(*args, session_id="s").behaviour("cursor.vel").values(3, 4)).all()


def test_unknown_behaviour_lists_what_there_is():
    with pytest.raises(
        SessionError, match=r"session s has no behaviour 'cursor.vell'; it has cursor.vel. Did you mean"
    ):
        make_session().behaviour("cursor.vell")


def test_only_numeric_columns_are_behaviour(shared):
    keys = Session.open(shared / "examples/layout_features/temporaldata_0.1.6.h5").behaviour_keys
    assert set(keys) == {"gappy.v", "gappy.k", "lfp.raw"}


# ------------------------------------------------------------------------------------------------------ intervals


def test_ten_blocks_are_the_default_splits():
    session = make_session(domain=[(0, 10)])
    assert list(session.split("valid")) == [(5, 6)]
    assert list(session.split("test")) == [(3, 4), (8, 9)]
    assert list(session.split("train")) == [(0, 1), (1, 2), (2, 3), (4, 5), (6, 7), (7, 8), (9, 10)]
    assert list(session.split("all")) == [(0, 10)] == list(session.domain)


def test_default_splits_leave_gaps_of_the_domain_out():
    session = make_session(domain=[(0, 4.5), (5.5, 10)])
    assert list(session.split("valid")) == [(5.5, 6)]
    assert list(session.split("train"))[3] == (4, 4.5)


def test_default_domain_holds_every_spike_and_target():
    args = arrays()
    session = Session.from_arrays(*args, session_id="s")
    assert session.domain.contains(args[0]).all() and session.domain.contains(args[3]).all()
    late = Session.from_arrays([2.0, 99.0], [0, 0], ["a"], [1.0], [0.0], session_id="s")
    assert late.domain.contains([1.0, 99.0]).all() and late.domain.duration == pytest.approx(98)


def test_given_splits_are_kept_and_others_are_absent():
    session = make_session(train=[(2, 3), (0, 2)], test=Intervals.from_pairs([(5, 6)]))
    assert list(session.split("train")) == [(0, 2), (2, 3)] and list(session.split("test")) == [(5, 6)]
    with pytest.raises(DataError, match=r"session s has no valid split \(no group valid_domain\); choose another"):
        session.split("valid")
    with pytest.raises(DataError, match="there is no split 'training'; choose train, valid, test or all"):
        session.split("training")


def test_empty_split_of_a_file_is_refused_when_asked_for(tmp_path):
    make_session().save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    for column in ("start", "end"):
        tree.members["valid_domain"].members[column] = np.zeros(0)
    write_tree(tmp_path / "a.h5", tree)
    session = Session.open(tmp_path / "a.h5")
    assert len(session.split("train")) == 7
    with pytest.raises(DataError, match="the valid split of session s is empty; choose another split or drop"):
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
def test_splits_of_some_data_sets_count_only_where_data_were_recorded(tmp_path, brainset_id, target_key, expected):
    make_session(brainset_id=brainset_id, target_key=target_key, train=[(0, 2), (2, 4)]).save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    tree.members["spikes"].members["domain"].members["end"] = np.array([3.0])
    tree.members[target_key.split(".")[0]].members["domain"].members["start"] = np.array([1.0])
    write_tree(tmp_path / "a.h5", tree)
    assert list(Session.open(tmp_path / "a.h5").split("train")) == expected


def test_named_intervals_may_overlap():
    session = make_session(
        intervals={"movement_phases.reach_period": [(3, 5), (0, 1), (4, 6)], "trials": [(0, 1), (1, 2)]}
    )
    assert list(session.intervals("movement_phases.reach_period")) == [(0, 1), (3, 6)]
    assert list(session.intervals("trials")) == [(0, 1), (1, 2)]
    assert session.intervals("cursor.domain") == session.domain == session.intervals("domain")


def test_unknown_intervals_list_what_there_is():
    session = make_session(intervals={"movement_phases.reach_period": [(0, 1)]})
    message = (
        r"has no intervals 'reach_period'; it has movement_phases.reach_period. Did you mean 'movement_phases.reach"
    )
    with pytest.raises(SessionError, match=message):
        session.intervals("reach_period")
    with pytest.raises(SessionError, match="it has none besides its domains"):
        make_session().intervals("trials")


# ------------------------------------------------------------------------------------------------------ files


def test_saved_session_opens_as_it_was(tmp_path):
    session = make_session(brainset_id="lab", intervals={"trials": [(0, 5)]})
    session.save(tmp_path / "a.h5")
    opened = Session.open(str(tmp_path / "a.h5"))
    assert opened.path == tmp_path / "a.h5" and opened.id == session.id and opened.unit_ids == session.unit_ids
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


def test_opened_session_pickles_as_its_path(tmp_path, monkeypatch):
    make_session().save(tmp_path / "a.h5")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Session.open("a.h5"))
    monkeypatch.chdir("/")
    assert len(pickled) < 500
    assert pickle.loads(pickled).spike_times[0] == make_session().spike_times[0]


def test_session_in_memory_pickles_whole():
    session = pickle.loads(pickle.dumps(make_session()))
    np.testing.assert_array_equal(session.spike_times, make_session().spike_times)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list open files")
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
            assert not len(train.intersect(valid)) and not len(train.intersect(test)) and not len(valid.intersect(test))


def test_slices_equal_those_of_temporaldata(shared, tmp_path):
    temporaldata = pytest.importorskip("temporaldata", reason="compares with temporaldata, which is not installed")
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
                np.testing.assert_array_equal(values, expected.reshape(values.shape))


# ------------------------------------------------------------------------------------------------------ refusals


REFUSED_ARRAYS = [
    ({0: [2.0, 1.0], 1: [0, 0]}, r"spike_times\[0\] is 2.0 s and spike_times\[1\] is 1.0 s, but times must be sorted"),
    (
        {0: [-1.0, 1.0], 1: [0, 0]},
        r"spike_times\[0\] is -1.0 s, before the session begins; shift all times .* `domain`",
    ),
    ({0: [0.0, np.nan], 1: [0, 0]}, r"spike_times\[1\] is nan, but every time must be finite; remove"),
    ({0: [0.0, np.inf], 1: [0, 0]}, r"spike_times\[1\] is inf, but every time must be finite"),
    ({0: [[0.0]], 1: [0]}, r"spike_times has shape \(1, 1\); pass a 1-D array"),
    ({0: ["x"], 1: [0]}, r"spike_times is not an array of numbers \(.*\); pass numbers"),
    ({0: [0.0, 1.0], 1: [0]}, "spike_units has 1 entries but spike_times 2; pass one per spike"),
    ({0: [0.0, 1.0], 1: [0, 3]}, r"spike_units\[1\] is 3, but there are 3 units; pass whole numbers in 0 ... 2"),
    ({0: [0.0, 1.0], 1: [-1, 0]}, r"spike_units\[0\] is -1, but there are 3 units"),
    ({0: [0.0, 1.0], 1: [0.5, 0]}, r"spike_units\[0\] is 0.5, but there are 3 units; pass whole numbers"),
    ({2: ["a", "b", "a"]}, "several units called 'a'; give each its own id"),
    ({0: [], 1: [], 2: []}, "session s has no units; it needs at least one"),
    ({3: np.arange(999)}, "targets has 1000 rows but target_times 999 entries; pass one per sample"),
    ({3: np.zeros(1000)}, r"target_times\[0\] is 0.0 s and target_times\[1\] is 0.0 s, but times must increase"),
    ({3: np.arange(1000.0) - 5}, r"target_times\[0\] is -5.0 s, before the session begins"),
    ({4: np.zeros((1000, 2, 2))}, r"targets has shape \(1000, 2, 2\); pass a 1-D or 2-D array"),
    ({3: [], 4: []}, r"targets has shape \(0,\); a session needs at least one sample"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED_ARRAYS)
def test_unsound_arrays_are_refused(changes, message):
    args = arrays()
    for position, value in changes.items():
        args[position] = value
    with pytest.raises(SessionError, match=message):
        Session.from_arrays(*args, session_id="s")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"session_id": ""}, "session_id is ''; pass a name that is not empty"),
        ({"brainset_id": 3}, "brainset_id is 3; pass a name"),
        ({"train": []}, r"train holds no time; pass \(start, end\) pairs"),
        ({"valid": [(1, 1)]}, "valid holds no time"),
        ({"test": [(1, np.nan)]}, r"test: interval 0 \[1.0, nan\) has a bound that is not finite"),
        ({"test": [(0, 2), (1, 3)]}, r"test: interval 0 \[0.0, 2.0\) overlaps the next one"),
        ({"test": 5}, "test: "),
        ({"train": [(20, 30)]}, r"train Intervals\(\[20, 30\); 10 s\) lies outside the domain"),
        ({"train": [(0, 5)], "test": [(4, 6)]}, r"(train and test|test and train) share Intervals\(\[4, 5\)"),
        ({"domain": []}, "domain holds no time"),
        ({"target_key": "velocity"}, "target_key is 'velocity'; pass '<series>.<column>'"),
        ({"target_key": "units.vel"}, "target_key is 'units.vel'"),
        ({"target_key": "train_domain.vel"}, "target_key is 'train_domain.vel'"),
        ({"intervals": {"units": [(0, 1)]}}, "intervals cannot be called 'units'; choose a free name"),
        ({"intervals": {"units.id.x": [(0, 1)]}}, "intervals cannot be called 'units.id.x'"),
        ({"intervals": {"train_domain": [(0, 1)]}}, "intervals cannot be called 'train_domain'"),
        ({"intervals": {"trials": [(1, 0)]}}, "intervals 'trials', row 0: start 1.0, end 0.0; correct that row"),
        ({"intervals": {"trials": [(1, np.nan)]}}, "intervals 'trials', row 0: start 1.0, end nan"),
        ({"intervals": {"trials": [(1, 2, 3)]}}, r"intervals 'trials' are not \(start, end\) pairs"),
    ],
)
def test_unsound_settings_are_refused(kwargs, message):
    with pytest.raises(SessionError, match=message):
        make_session(**kwargs)


def test_times_below_zero_need_a_domain_that_holds_them():
    args = [[-2.0, 1.0], [0, 0], ["a"], [-1.0, 1.0], [0.0, 0.0]]
    session = Session.from_arrays(*args, session_id="s", domain=[(-3, 2)])
    assert session.spikes_between(-3, 0)[0].tolist() == [-2.0]
    with pytest.raises(SessionError, match=r"spike_times\[0\] is -2.0 s, before the session begins"):
        Session.from_arrays(*args, session_id="s", domain=[(-1, 2)])


def saved_with(path, group, column, values):
    """A session file whose one column was replaced."""
    make_session().save(path)
    tree = read_tree(path)
    tree.members[group].members[column] = np.asarray(values)
    write_tree(path, tree)
    return path


@pytest.mark.parametrize(
    ("group", "column", "values", "message"),
    [
        ("spikes", "unit_index", np.zeros(3, int), "200 spike times but 3 spike units; every spike needs both"),
        ("spikes", "timestamps", np.arange(200)[::-1], "first and last spike_times.* but times must be sorted"),
        ("spikes", "timestamps", np.full(200, np.nan), r"first and last spike_times\[0\] is nan"),
        ("spikes", "unit_index", np.full(200, 3), "session s: spike 0 belongs to unit 3, but there are 3 units"),
        ("spikes", "unit_index", [0] * 199 + [-1], "session s: spike 199 belongs to unit -1"),
        ("units", "id", np.array(["a", "b", "a"]), "session s has several units called 'a'"),
        ("units", "id", np.array([], "S1"), "session s has no units"),
    ],
)
def test_unsound_files_are_refused_when_opened(tmp_path, group, column, values, message):
    path = saved_with(tmp_path / "a.h5", group, column, values)
    with pytest.raises(SessionError, match=message):
        Session.open(path)


@pytest.mark.parametrize(
    ("group", "column", "values", "message"),
    [
        ("spikes", "timestamps", [0, 3, 2, *range(3, 200)], r"s: spike_times\[1\] is 3.0 s and .* must be sorted"),
        ("spikes", "timestamps", [0, np.nan, *range(2, 200)], r"s: spike_times\[1\] is nan"),
        ("spikes", "unit_index", [0, 0, 9] + [0] * 197, "spike 2 belongs to unit 9"),
        ("cursor", "timestamps", [0, 3, 2, *range(3, 1000)], r"s: cursor.timestamps\[1\] is 3 s"),
    ],
)
def test_check_reads_everything(tmp_path, group, column, values, message):
    session = Session.open(saved_with(tmp_path / "a.h5", group, column, values))
    with pytest.raises(SessionError, match=message):
        session.check()


def test_sound_session_passes_the_check():
    make_session().check()


def test_series_of_two_lengths_is_refused(tmp_path):
    session = Session.open(saved_with(tmp_path / "a.h5", "cursor", "vel", np.zeros((999, 2))))
    with pytest.raises(SessionError, match=r"cursor.vel has 999 samples but 1000 time stamps; it needs one of each"):
        session.behaviour("cursor.vel")


def test_regular_series_without_a_rate_is_refused(tmp_path):
    make_session().save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    tree.members["cursor"].kind = "RegularTimeSeries"
    write_tree(tmp_path / "a.h5", tree)
    with pytest.raises(SessionError, match=r"cursor\.vel has a sampling rate of nan Hz and 1 domain"):
        Session.open(tmp_path / "a.h5").behaviour("cursor.vel")


@pytest.mark.parametrize("group", ["spikes", "units", "domain"])
def test_file_without_a_needed_group_is_refused(tmp_path, group):
    make_session().save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[group]
    with pytest.raises(SessionError, match=rf"is not a session: it has no {group}\..*A session holds spikes"):
        Session.open(tmp_path / "a.h5")


def test_missing_folder_is_named_on_saving(tmp_path):
    with pytest.raises(SessionError, match="does not exist; create it first"):
        make_session().save(tmp_path / "gone" / "a.h5")


def test_times_may_repeat_unless_they_must_increase():
    check_times(np.array([0.0, 0.0, 1.0]), "times")
    with pytest.raises(SessionError, match="must increase"):
        check_times(np.array([0.0, 0.0, 1.0]), "times", strictly=True)


def test_data_layer_loads_no_jax():
    code = "import sys, poyo_jax.data, poyo_jax.data.layout; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
