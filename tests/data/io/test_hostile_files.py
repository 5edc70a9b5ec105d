"""Damaged and hostile session files end in the right values or in a sentence."""

import os

import h5py
import numpy as np
import pytest
from example_sessions import make_session

from poyo_jax import Session, open_sessions
from poyo_jax.data.behaviour import BLOCK, Behaviour, SortedTimes
from poyo_jax.data.importers.raw_file import open_raw
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io import trial
from poyo_jax.data.spikes import Spikes, max_spikes
from poyo_jax.errors import RawDataError, SessionError


@pytest.fixture
def file(tmp_path):
    make_session().save(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def change(file, name, value):
    """Replace a member of a file; a function gets the open file and makes the new one."""
    with h5py.File(file, "r+") as opened:
        if name in opened:
            del opened[name]
        if callable(value):
            value(opened)
        elif value is not None:
            opened[name] = value


def read_all(file):
    """Use everything that training and decoding use."""
    session = Session.open(file)
    session.max_spikes(1.0)
    for start in range(30):
        session.spikes_between(start, start + 1.0)
    behaviour = session.behaviour("cursor.vel")
    behaviour.values(*behaviour.range(3.0, 4.0))
    behaviour.max_samples(1.0)
    for name in session.interval_names:
        session.table(name)
        session.intervals(name)
    session.check()
    return session.unit_table


# --- links and storage outside the file


def linked(file, kind):
    """Make cursor.vel lie in another file, where every value is 7."""
    shape = (1000, 2)
    other = file.parent / "other.h5"
    with h5py.File(other, "w") as opened:
        opened["before"] = np.zeros(999)
        opened["v"] = np.full(shape, 7.0)
    np.full(shape, 7.0).tofile(file.parent / "other.bin")

    def virtual(opened):
        layout = h5py.VirtualLayout(shape, "f8")
        layout[:] = h5py.VirtualSource("other.h5", "v", shape=shape)
        opened.create_virtual_dataset("cursor/vel", layout)

    def external(opened):
        place = (str(file.parent / "other.bin"), 0, 16000)
        opened.create_dataset("cursor/vel", shape, "f8", external=[place])

    def through_a_group(opened):
        opened["away"] = h5py.ExternalLink("other.h5", "/")
        opened["cursor/vel"] = h5py.SoftLink("/away/v")

    makers = {
        "link": h5py.ExternalLink("other.h5", "/v"),
        "virtual": virtual,
        "external": external,
    }
    change(file, "cursor/vel", makers.get(kind, through_a_group))


@pytest.mark.parametrize("kind", ["link", "virtual", "external"])
def test_values_of_other_files_are_read_only_with_permission(file, tmp_path, kind):
    linked(file, kind)
    with pytest.raises(SessionError, match=r"/cursor/vel .*another file .*pass allow_links=True"):
        Session.open(file)
    session = Session.open(file, allow_links=True)
    behaviour = session.behaviour("cursor.vel")
    assert (behaviour.values(0, behaviour.count) == 7.0).all()
    session.save(tmp_path / "copy.h5")
    assert (Session.open(tmp_path / "copy.h5").behaviour("cursor.vel").values(0, 9) == 7.0).all()
    with open_raw(file) as raw, pytest.raises(RawDataError, match="allow_links=True"):
        raw.data_set("cursor/vel")
    with open_raw(file, allow_links=True) as raw:
        assert (raw.array("cursor/vel", (None, None)) == 7.0).all()
    for name in ("other.h5", "other.bin"):
        os.truncate(tmp_path / name, 0)
    with pytest.raises(SessionError):  # HDF5 would read zeros
        Session.open(file, allow_links=True)


def test_a_soft_link_through_another_file_is_refused(file):
    linked(file, "group")
    with pytest.raises(SessionError, match=r"/away is a link to the file other\.h5"):
        Session.open(file)


def test_links_within_the_file_are_followed(file):
    change(file, "cursor/vel", lambda opened: opened.move("cursor/timestamps", "elsewhere"))
    change(file, "cursor/timestamps", h5py.SoftLink("/elsewhere"))
    change(file, "cursor/vel", h5py.SoftLink("timestamps"))
    behaviour = Session.open(file).behaviour("cursor.vel")
    np.testing.assert_allclose(behaviour.values(0, 9)[:, 0], behaviour.times_at(np.arange(9)))


# --- walks and sizes without an end


def test_groups_without_an_end_are_refused_at_once(file):
    def diamonds(opened):
        group = opened.create_group("z")
        for number in range(29):
            inner = opened.create_group(f"z{number}")
            group["a"], group["b"], group = inner, inner, inner

    def circle(opened):
        opened["z"] = opened["cursor"].parent

    def depth(opened):
        group = opened.create_group("z")
        for _ in range(100):
            group = group.create_group("d")

    def soft_circle(opened):
        opened["z"], opened["y"] = h5py.SoftLink("/y"), h5py.SoftLink("/z")

    cases = [
        (diamonds, "is the same group as /z/a"),
        (circle, "is the same group as the root"),
        (depth, "groups deep, but 32 is most"),
        (soft_circle, "leads in a circle"),
    ]
    original = file.read_bytes()
    for maker, message in cases:
        file.write_bytes(original)
        change(file, "z", maker)
        with pytest.raises(SessionError, match=message):
            Session.open(file)


def test_sizes_that_the_file_cannot_hold_are_refused(file):
    cases = [
        ({}, (10**12,)),
        ({"chunks": (10**6,)}, (10**12,)),
        ({"chunks": (10**4, 2), "compression": "gzip"}, (10**12, 2)),
    ]
    for options, shape in cases:

        def declare(opened, shape=shape, options=options):
            opened.create_dataset("cursor/vel", shape, "f8", **options)

        change(file, "cursor/vel", declare)
        with pytest.raises(SessionError, match=r"/cursor/vel should have [\d,]+ bytes, but the"):
            Session.open(file)
    with open_raw(file) as raw, pytest.raises(RawDataError, match="should have"):
        raw.array("cursor/vel", (None, 2))


# --- rank, type and length


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("spikes/timestamps", 1.0, r"spikes.timestamps has shape \(\), but must be 1-D"),
        ("spikes/timestamps", ["a"] * 200, "spikes.timestamps holds .* must hold numbers"),
        ("spikes/timestamps", np.arange(200) + 1j, "spikes.timestamps holds complex128 values"),
        ("spikes/timestamps", np.ones(200, bool), "spikes.timestamps holds bool values"),
        ("spikes/unit_index", np.full(200, 0.7), r"unit_index\[0\] is 0.7, but must be a whole"),
        ("spikes/unit_index", np.full(200, 2**63, np.uint64), r"unit_index\[0\] is 9223372036"),
        ("spikes/unit_index", h5py.Empty("i8"), "/spikes/unit_index is an array without a shape"),
        ("cursor/timestamps", ["a"] * 1000, "s: cursor.timestamps holds .* must hold numbers"),
        ("cursor/vel", np.zeros((1000, 0)), r"cursor.vel has shape \(1000, 0\), but must be 1-D"),
        ("cursor/vel", np.zeros((1000, 1, 1)), "cursor.vel has shape .* but must be 1-D or 2-D"),
        ("cursor/vel", np.zeros(1000, [("x", "f4")]), "s: cursor.vel holds .* must hold numbers"),
        ("domain/start", ["x"], "session s: domain.start holds .* must hold numbers"),
        ("domain/start", [[0.0]], r"domain.start has shape \(1, 1\), but must be 1-D"),
        ("domain/start", [0.0, 1.0], "domain has 2 starts but 1 ends; every row needs both"),
        ("domain/start", [np.nan], "domain, row 0, is from nan to"),
        ("domain/end", [-1.0], "domain, row 0, is from .* to -1.0 s; .*the end not before"),
        ("domain/end", [1e12], "domain spans 1e.12 s, .* are its times in seconds"),
        ("units/id", [0.5, 1.5, 2.5], r"units.id\[0\] is 0.5, but must be a text"),
        ("units/id", np.array([b"\xff", b"b", b"c"]), "units.id|could not be read"),
        ("units/area", ["x"], r"units.area has shape \(1,\), but there are 3 units"),
    ],
)
def test_wrong_ranks_types_and_lengths_are_named(file, name, value, message):
    change(file, name, value)
    with pytest.raises(SessionError, match=message):
        read_all(file)


def test_types_other_than_those_written_here_give_the_same_values(file):
    session = Session.open(file)
    times, units = session.spikes_between(0, 99)
    change(file, "spikes/timestamps", np.array(times, ">f8"))
    change(file, "spikes/unit_index", np.array(units, ">i2"))
    again = Session.open(file)
    np.testing.assert_array_equal(again.spikes_between(0, 99), (times, units))
    change(file, "spikes/unit_index", np.array(units, np.float16))
    np.testing.assert_array_equal(Session.open(file).spike_units, units)


def test_attributes_of_other_types_are_named(file):
    for value, wrong in (
        (np.arange(3), True),
        (h5py.Empty("f8"), True),
        (b"\xff", True),
        (7, False),
    ):
        with h5py.File(file, "r+") as opened:
            opened["session"].attrs["id"] = value
        if wrong:
            with pytest.raises(SessionError, match=r"attribute id of session is .* must be a text"):
                Session.open(file)
        else:
            assert Session.open(file).session_id == "7"


# --- spikes of a window


def test_spikes_are_checked_wherever_a_window_is_cut():
    count = 3 * BLOCK
    good = np.arange(count) / 100.0
    unsorted, missing = good.copy(), good.copy()
    unsorted[BLOCK + 5] = 1.0
    missing[BLOCK + 5] = np.nan
    zeros = np.zeros(count, np.int64)
    foreign = {value: np.where(np.arange(count) == BLOCK + 5, value, 0) for value in (-1, 3, 2**40)}
    cases = [(unsorted, zeros, "must be sorted"), (missing, zeros, "is nan")]
    cases += [(good, units, f"belongs to unit {unit}") for unit, units in foreign.items()]
    for times, units, message in cases:
        spikes = Spikes(times, units, 3, "s")
        assert spikes.between(1.0, 2.0) == (100, 200)  # far from the damage
        with pytest.raises(SessionError, match=message):
            spikes.between(90.0, 91.0)
    behaviour = Behaviour("a.b", good, Intervals.from_pairs([(0, 300)]), timestamps=unsorted)
    with pytest.raises(SessionError, match=r"a\.timestamps\[\d+\] is .* must be sorted"):
        behaviour.range(90.0, 91.0)
    with pytest.raises(SessionError, match="must be sorted"):
        behaviour.times_at(np.arange(BLOCK, BLOCK + 10))


def test_parts_in_the_wrong_order_are_noticed_before_the_first_search():
    times = np.arange(4 * BLOCK) / 100.0
    swapped = np.concatenate(
        [times[:BLOCK], times[2 * BLOCK : 3 * BLOCK], times[BLOCK : 2 * BLOCK]]
    )
    with pytest.raises(SessionError, match="must be sorted"):
        SortedTimes(swapped, "times").between(10.0, 11.0)


def test_far_times_do_not_ask_for_memory():
    assert max_spikes(np.array([0.0, 0.5, 1e300]), 1.0) == 2


# --- files on which HDF5 hangs or crashes

PROGRAM = """
import os, signal
from poyo_jax.data.io import trial_child
read = trial_child.read_tree
def damaged(path, **options):
    for name in ("SIGSEGV", "SIGXCPU"):
        if path.stem == name:
            os.kill(os.getpid(), getattr(signal, name))
    return read(path, **options)
trial_child.read_tree = damaged
trial_child.serve(trial_child.read_session)
"""


def test_a_crash_of_hdf5_is_a_sentence_and_the_other_files_are_remembered(tmp_path, monkeypatch):
    for name in ("SIGSEGV", "SIGXCPU", "good", "last"):
        make_session(session_id=name).save(tmp_path / f"{name}.h5")
    trial.sound.clear()
    monkeypatch.setattr(trial, "READ_SESSIONS", ("-c", PROGRAM))
    with pytest.raises(SessionError) as error:
        open_sessions(tmp_path)
    text = str(error.value)
    assert "2 of 4 session files cannot be opened" in text
    assert "SIGSEGV.h5: HDF5 crashed reading it (SIGSEGV); the file is damaged" in text
    assert "SIGXCPU.h5: HDF5 did not come to an end reading it" in text
    trial.sound.clear()
    monkeypatch.setattr(trial, "READ_SESSIONS", ("-c", "raise SystemExit"))  # not needed any more
    sessions = open_sessions(tmp_path, ["good", "last"])
    assert [session.session_id for session in sessions] == ["good", "last"]


def test_without_a_child_files_are_read_here(file, monkeypatch, caplog):
    trial.sound.clear()
    monkeypatch.setattr(trial, "READ_SESSIONS", ("-c", "raise SystemExit(3)"))
    assert len(open_sessions(file.parent)) == 1
    assert "did not start (exit status 3)" in caplog.text
