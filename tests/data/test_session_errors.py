"""Arrays and files that are not sound are refused with a sentence."""

import h5py
import numpy as np
import pytest
from example_sessions import arrays, make_session

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.io.writing import write_tree
from poyo_jax.data.session import Session
from poyo_jax.errors import SessionError

REFUSED_ARRAYS = [
    (
        {0: [2.0, 1.0], 1: [0, 0]},
        r"spike_times\[0\] is 2.0 s and spike_times\[1\] is 1.0 s, but times must be sorted",
    ),
    (
        {0: [-1.0, 1.0], 1: [0, 0]},
        r"spike_times\[0\] is -1.0 s, before the session begins; shift all times .* `domain`",
    ),
    (
        {0: [0.0, np.nan], 1: [0, 0]},
        r"spike_times\[1\] is nan, but every time must be finite; remove",
    ),
    ({0: [0.0, np.inf], 1: [0, 0]}, r"spike_times\[1\] is inf, but every time must be finite"),
    ({0: [[0.0]], 1: [0]}, r"spike_times has shape \(1, 1\); pass a 1-D array"),
    ({0: ["x"], 1: [0]}, r"spike_times is not an array of numbers \(.*\); pass numbers"),
    ({0: [0.0, 1.0], 1: [0]}, "spike_units has 1 entries but spike_times 2; pass one per spike"),
    (
        {0: [0.0, 1.0], 1: [0, 3]},
        r"spike_units\[1\] is 3, but there are 3 units; pass whole numbers in 0 ... 2",
    ),
    ({0: [0.0, 1.0], 1: [-1, 0]}, r"spike_units\[0\] is -1, but there are 3 units"),
    (
        {0: [0.0, 1.0], 1: [0.5, 0]},
        r"spike_units\[0\] is 0.5, but there are 3 units; pass whole numbers",
    ),
    ({2: ["a", "b", "a"]}, "several units called 'a'; give each its own id"),
    ({0: [], 1: [], 2: []}, "session s has no units; it needs at least one"),
    (
        {3: np.arange(999)},
        "targets has 1000 rows but target_times 999 entries; pass one per sample",
    ),
    (
        {3: np.zeros(1000)},
        r"target_times\[0\] and target_times\[1\] are both 0.0 s, .*; keep one sample of each",
    ),
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


def test_forms_that_are_something_else_are_refused():
    def refused(message, **changes):
        given = dict(zip(("spike_times", "spike_units", "unit_ids"), arrays()[:3], strict=True))
        with pytest.raises(SessionError, match=message):
            Session.from_arrays(*(given | changes).values(), *arrays()[3:], session_id="s")

    times = np.asarray(arrays()[0], float)
    refused(r"spike_times is float32, which at .* has steps of 128 s; pass float64 times",
            spike_times=(times + 1.7e9).astype(np.float32))  # fmt: skip
    counts = np.random.default_rng(0).poisson(1, (100, 20))
    refused(r"a matrix of shape \(100, 20\) whose whole numbers repeat, like counts",
            spike_times=counts, spike_units=None, unit_ids=None)  # fmt: skip
    refused("spike_units holds names; pass the position of each in unit_ids",
            spike_units=np.full(len(times), "a"))  # fmt: skip
    refused("unit_ids is 3; pass the name of every unit", unit_ids=3)


def test_times_of_few_digits_are_taken_while_they_are_fine_enough():
    given = arrays()
    given[0] = np.asarray(given[0], np.float32)
    assert len(Session.from_arrays(*given, session_id="s").spike_times) == len(given[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"session_id": ""}, "session_id is ''; pass a name of printable characters"),
        ({"session_id": "a\n"}, r"session_id is 'a\\n'; pass a name"),
        ({"session_id": ".."}, r"session_id is '\.\.'; pass a name"),
        ({"brainset_id": ""}, "brainset_id is ''; pass a name"),
        ({"train": []}, r"train holds no time; pass \(start, end\) pairs"),
        ({"valid": [(1, 1)]}, "valid holds no time"),
        ({"test": [(1, np.nan)]}, r"test: interval 0 \[1.0, nan\) has a bound that is not finite"),
        ({"test": [(0, 2), (1, 3)]}, r"test: interval 0 \[0.0, 2.0\) overlaps the next one"),
        ({"test": "5-6"}, "test: could not convert"),
        ({"train": [(20, 30)]}, r"train Intervals\(\[20, 30\); 10 s\) lies outside the domain"),
        (
            {"train": [(0, 5)], "test": [(4, 6)]},
            r"(train and test|test and train) share Intervals\(\[4, 5\)",
        ),
        ({"domain": []}, "domain holds no time"),
        ({"target_key": "velocity"}, "target_key is 'velocity'; pass '<series>.<column>'"),
        ({"target_key": "units.vel"}, "target_key is 'units.vel'"),
        ({"target_key": "train_domain.vel"}, "target_key is 'train_domain.vel'"),
        (
            {"intervals": {"units": [(0, 1)]}},
            "intervals cannot be called 'units'; choose a free name",
        ),
        ({"intervals": [(7, 9)]}, "intervals is a list; pass a mapping of names to"),
        ({"intervals": {"train": [(7, 9)]}}, r"intervals has 'train', .*; pass train=\[\(7, 9\)\]"),
        ({"intervals": {"units.id.x": [(0, 1)]}}, "intervals cannot be called 'units.id.x'"),
        ({"intervals": {"train_domain": [(0, 1)]}}, "intervals cannot be called 'train_domain'"),
        (
            {"intervals": {"trials": [(1, 0)]}},
            "intervals 'trials', row 0: start 1.0, end 0.0; correct that row",
        ),
        ({"intervals": {"trials": [(1, np.nan)]}}, "intervals 'trials', row 0: start 1.0, end nan"),
        (
            {"intervals": {"trials": [(1, 2, 3)]}},
            r"intervals 'trials' are not \(start, end\) pairs",
        ),
    ],
)
def test_unsound_settings_are_refused(kwargs, message):
    with pytest.raises(SessionError, match=message):
        make_session(**kwargs)


def test_times_below_zero_need_a_domain_that_holds_them():
    args = [[-2.0, 1.0], [0, 0], ["a"], [-1.0, 1.0], [0.0, 0.0]]
    session = Session.from_arrays(*args, session_id="s", domain=[(-3, 2)])
    assert session.spikes_between(-3, 0)[0].tolist() == [-2.0]
    with pytest.raises(
        SessionError, match=r"spike_times\[0\] is -2.0 s, before the session begins"
    ):
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
        (
            "spikes",
            "unit_index",
            np.zeros(3, int),
            "200 spike times but 3 spike units; every spike needs both",
        ),
        (
            "spikes",
            "timestamps",
            np.arange(200)[::-1],
            "first and last spike_times.* but times must be sorted",
        ),
        ("spikes", "timestamps", np.full(200, np.nan), r"first and last spike_times\[0\] is nan"),
        (
            "spikes",
            "unit_index",
            np.full(200, 3),
            "session s: spike 0 belongs to unit 3, but there are 3 units",
        ),
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
        (
            "spikes",
            "timestamps",
            [0, 3, 2, *range(3, 200)],
            r"s: spike_times\[1\] is 3.0 s and .* must be sorted",
        ),
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
    with pytest.raises(
        SessionError, match=r"cursor.vel has 999 samples but 1000 time stamps; it needs one of each"
    ):
        session.behaviour("cursor.vel")


def test_regular_series_without_a_rate_is_refused(tmp_path):
    make_session().save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    tree.members["cursor"].kind = "RegularTimeSeries"
    write_tree(tmp_path / "a.h5", tree)
    with pytest.raises(
        SessionError, match=r"cursor\.vel has a sampling rate of nan Hz and 1 domain"
    ):
        Session.open(tmp_path / "a.h5").behaviour("cursor.vel")


@pytest.mark.parametrize("group", ["spikes", "units", "domain"])
def test_file_without_a_needed_group_is_refused(tmp_path, group):
    make_session().save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[group]
    with pytest.raises(
        SessionError, match=rf"is not a session: it has no {group}\..*A session holds spikes"
    ):
        Session.open(tmp_path / "a.h5")


def test_missing_folder_is_named_on_saving(tmp_path):
    with pytest.raises(SessionError, match="does not exist; create it first"):
        make_session().save(tmp_path / "gone" / "a.h5")


def test_times_may_repeat_unless_they_must_increase():
    check_times(np.array([0.0, 0.0, 1.0]), "times")
    with pytest.raises(SessionError, match="must increase"):
        check_times(np.array([0.0, 0.0, 1.0]), "times", strictly=True)
