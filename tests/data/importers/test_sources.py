"""Sessions from spikes per unit, trials, binned counts, positions, MATLAB files and Kilosort."""

import h5py
import numpy as np
import pytest

from poyo_jax import PoyoError, Session
from poyo_jax.data.importers import matlab
from poyo_jax.data.io import trial
from poyo_jax.errors import ConfigError, RawDataError, SessionError

RNG = np.random.default_rng(0)
TIMES = np.arange(1200) / 20
TARGETS = np.stack([np.sin(TIMES), np.cos(TIMES)], axis=1)
BY_UNIT = [np.sort(RNG.uniform(0, 60, count)) for count in (300, 0, 200)]
FLAT = np.concatenate(BY_UNIT)
ORDER = np.argsort(FLAT)
UNITS = np.repeat([0, 1, 2], [300, 0, 200])[ORDER]


def assert_same(session, ids=("unit_0", "unit_1", "unit_2"), tolerance=0.0):
    assert session.unit_ids == ids
    np.testing.assert_allclose(session.spike_times, FLAT[ORDER], atol=tolerance)
    np.testing.assert_array_equal(session.spike_units, UNITS)
    behaviour = session.behaviour("cursor.vel")
    np.testing.assert_array_equal(behaviour.values(0, behaviour.count), TARGETS)


# --- spikes per unit


def test_spikes_may_come_as_one_array_per_unit(caplog):
    behaviour = {"target_times": TIMES, "targets": TARGETS, "session_id": "s"}
    named = ["a", "b", "c"]
    assert_same(Session.from_arrays(BY_UNIT, **behaviour))
    assert_same(
        Session.from_arrays(BY_UNIT, None, named, TIMES, TARGETS, session_id="s"), tuple(named)
    )
    assert_same(
        Session.from_arrays(dict(zip(named, BY_UNIT, strict=True)), **behaviour), tuple(named)
    )
    square = Session.from_arrays(np.stack([TIMES, TIMES]), **behaviour)
    assert len(square.spike_times) == 2400 and not caplog.records
    backwards = Session.from_arrays([times[::-1] for times in BY_UNIT], **behaviour)
    assert_same(backwards)
    assert "2 of 3 units were not in order" in caplog.text and "clock restart" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((BY_UNIT, UNITS, list("abc")), "3 arrays of several lengths.*pass spike_units=None"),
        ((BY_UNIT, None, ["a"]), "unit_ids has 1 names, but .* 3 units; pass one name per unit"),
        ((FLAT, None, ["a"]), "spike_units is missing; pass the unit of every spike, or"),
        ((np.array(0.1), None, None), "spike_units is missing; pass the unit of every spike, or"),
        ((FLAT[ORDER], UNITS, None), "unit_ids is missing; pass the name of every unit"),
        (({"a": FLAT}, None, ["a"]), "spike_times is a mapping .*pass unit_ids=None"),
        (([[0.1, np.nan]], None, ["a"]), r"spike_times of unit a\[1\] is nan"),
        (([[0.1], [-2.0]], None, None), r"spike_times\[0\] is -2.0 s, before the session begins"),
    ],
)
def test_mixed_forms_of_spikes_are_refused(arguments, told):
    with pytest.raises(SessionError, match=told):
        Session.from_arrays(*arguments, TIMES, TARGETS, session_id="s")
    with pytest.raises(SessionError, match="target_times is missing; pass the behaviour"):
        Session.from_arrays(BY_UNIT, session_id="s")


def test_positions_become_velocity():
    times = np.concatenate([TIMES[:600], TIMES[600:] + 5])  # with a gap
    position = np.stack([times**2, np.where(times > 30, 100.0, 0.0)], axis=1)
    session = Session.from_arrays(
        FLAT[ORDER], UNITS, list("abc"), times, position, session_id="s", derive_velocity=True
    )
    velocity = session.behaviour("cursor.vel").values(0, 1200)
    inside = np.r_[1:599, 601:1199]
    np.testing.assert_allclose(velocity[inside, 0], 2 * times[inside])
    assert (velocity[:, 1] == 0).all()


# --- trials


def trials(count=8, length=4.0):
    """Trials of 4 s, each with a zero of its own 0.5 s after its beginning."""
    starts = np.arange(count) * 6.0
    spikes, times, targets = [], [], []
    for start in starts:
        inside = [unit[(unit >= start) & (unit < start + length)] for unit in BY_UNIT]
        spikes.append([unit - start - 0.5 for unit in inside])
        rows = (start <= TIMES) & (start + length > TIMES)
        times.append(TIMES[rows] - start - 0.5)
        targets.append(TARGETS[rows])
    return spikes, times, targets


def test_trials_are_laid_one_after_the_other():
    spikes, times, targets = trials()
    session = Session.from_trials(spikes, times, targets, session_id="s")
    table = session.table("trials")
    gaps = table["start"][1:] - table["end"][:-1]
    assert len(table["zero"]) == 8 and (gaps >= 2).all()
    for number, zero in enumerate(table["zero"]):
        found, units = session.spikes_between(table["start"][number], table["end"][number])
        for unit in range(3):
            np.testing.assert_allclose(found[units == unit] - zero, spikes[number][unit], atol=1e-9)
        behaviour = session.behaviour("cursor.vel")
        rows = behaviour.range(table["start"][number], table["end"][number])
        span = range(*rows)
        np.testing.assert_array_equal(behaviour.values(*rows), targets[number])
        np.testing.assert_allclose(behaviour.times_at(span) - zero, times[number], atol=1e-9)
    assert session.domain == session.intervals("trials")
    assert set(session.split("test")) <= set(session.domain)
    assert session.split("valid").duration > 0


def test_trials_may_share_their_times_and_be_mappings():
    spikes, times, targets = trials()
    expected = Session.from_trials(spikes, times, targets, session_id="s")
    named = [dict(zip("cab", trial, strict=True)) for trial in spikes]
    shared = Session.from_trials(
        named, times[0] * 1000, np.stack(targets), session_id="s", time_unit="ms", target_key="a.b"
    )
    assert shared.unit_ids == tuple("cab") and shared.behaviour_keys == ("a.b",)
    assert len(shared.spike_times) == len(expected.spike_times)
    given = Session.from_trials(
        spikes, times, targets, session_id="s", unit_ids=list("xyz"), train=[(0, 4)], test=[(6, 10)]
    )
    assert given.unit_ids == tuple(list("xyz")) and list(given.split("test")) == [(6, 10)]
    assert Session.from_trials(*(part[:3] for part in trials()), session_id="s").has_split("valid")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s, t, y: (s, t[:3], y), "spike_times has 8 trials, but target_times has 3; pass"),
        (lambda s, t, y: ([*s[:-1], s[0][:2]], t, y), r"spike_times\[7\] has 2 units, but .* 3"),
        (lambda s, t, y: (s, t, [*y[:-1], y[0][:3]]), "trial 7: targets has 3 rows but"),
        (lambda s, t, y: (s, t, [*y[:-1], y[0][:, :1]]), r"targets\[7\] has 1 channels, but"),
        (lambda s, t, y: ("abc", t, y), "spike_times is of type str; pass lists with one entry"),
        (lambda s, t, y: ([], t, y), "spike_times is empty; pass lists"),
        (lambda s, t, y: ([{"a": []}, {"b": []}], t[:2], y[:2]), "has other units than the first"),
    ],
)
def test_trials_that_do_not_fit_are_refused(change, told):
    with pytest.raises(SessionError, match=told):
        Session.from_trials(*change(*trials()), session_id="s")


def test_trials_have_no_other_domain():
    with pytest.raises(SessionError, match="domain is not for from_trials"):
        Session.from_trials(*trials(), session_id="s", domain=[(0, 100)])


@pytest.mark.parametrize("table", [[[0, 10, 20], [5, 15, 25]], [1, 2, 3, 4], [[0, 5, 10]]])
def test_intervals_that_are_no_pairs_are_refused(table):
    with pytest.raises(SessionError, match=r"intervals 'cues' came as an array of shape \("):
        Session.from_trials(*trials(), session_id="s", intervals={"cues": np.array(table)})


# --- counts


def test_counts_become_spikes_in_their_bins():
    edges = np.arange(1201) / 20
    counts = np.stack([np.histogram(unit, edges)[0] for unit in BY_UNIT], axis=1)
    session = Session.from_counts(counts, 0.05, TARGETS, session_id="s")
    for unit in range(3):
        times = session.spike_times[session.spike_units == unit]
        np.testing.assert_array_equal(np.histogram(times, edges)[0], counts[:, unit])
    middles = session.behaviour("cursor.vel").timestamps
    np.testing.assert_allclose(middles, TIMES + 0.025)
    in_ms = Session.from_counts(
        counts, 50, TARGETS, session_id="s", time_unit="ms", target_times=TIMES * 1000
    )
    np.testing.assert_allclose(in_ms.spike_times, session.spike_times)
    np.testing.assert_allclose(in_ms.behaviour("cursor.vel").timestamps, TIMES)


@pytest.mark.parametrize(
    ("counts", "options", "told"),
    [
        (np.full((1200, 2), 0.5), {}, r"counts\[0, 0\] is 0.5; pass the number of spikes"),
        (np.full((1200, 2), -1), {}, "is -1; pass the number of spikes"),
        (np.full((1200, 2), np.nan), {}, "is nan; pass"),
        (np.ones((2, 600, 2)), {}, r"has shape \(2, 600, 2\); .*Session.from_trials"),
        (
            np.ones((1200, 2)),
            {"unit_ids": list("abc")},
            "counts has 2 columns, but unit_ids 3 names",
        ),
        (np.ones((1200, 2)), {"bin_size": 0.0}, "bin_size is 0.0; pass the length of a bin"),
        (np.ones((2, 1200)), {}, "targets has 1200 rows but target_times 2 entries"),
    ],
)
def test_what_is_no_count_is_refused(counts, options, told):
    with pytest.raises(SessionError, match=told):
        Session.from_counts(counts, **{"bin_size": 0.05} | options, targets=TARGETS, session_id="s")


# --- MATLAB


def write_old(path):
    io = pytest.importorskip("scipy.io", reason="writes a MATLAB file with scipy")
    cells = np.empty((1, 3), object)
    cells[0] = [times[:, None] for times in BY_UNIT]
    rows = [(times[:, None], name) for times, name in zip(BY_UNIT, "xyz", strict=True)]
    units = np.array([rows], [("times", object), ("name", object)])
    labels = (UNITS + 1.0)[:, None]
    data = {"spikes": cells, "units": units, "times": TIMES, "vel": TARGETS.T}
    data |= {"flat": FLAT[ORDER], "labels": labels, "numbers": [[3.0, 1.0, 2.0]]}
    io.savemat(path, {"data": data, "extra": 1.0})


def write_new(path):
    """The layout of version 7.3: cells are references, and axes are turned."""
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_group("data")
        references = []
        for number, times in enumerate(BY_UNIT):
            values = times[None] if len(times) else np.array([0, 0], np.uint64)
            member = file.create_dataset(f"#refs#/{number}", data=values)
            if not len(times):
                member.attrs["MATLAB_empty"] = np.uint8(1)
            references.append([member.ref])
        text = file.create_dataset("#refs#/text", data=np.array([[120]], np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        for name in ("spikes", "units/times"):
            data.create_dataset(name, data=references, dtype=h5py.ref_dtype)
        data.create_dataset("units/name", data=[[text.ref]] * 3, dtype=h5py.ref_dtype)
        data["times"], data["vel"] = TIMES[:, None], TARGETS.T
        data["flat"], data["labels"] = FLAT[ORDER][:, None], UNITS[None] + 1.0
        data["numbers"] = [[3.0], [1.0], [2.0]]
        loop = data.create_dataset("loop", (2, 1), h5py.ref_dtype)
        loop[0, 0] = loop[1, 0] = loop.ref
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))


@pytest.fixture(params=[write_old, write_new], scope="module")
def mat(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("matlab") / "monday.mat"
    request.param(path)
    return path


def from_matlab(path, spikes, **options):
    return Session.from_matlab(path, f"data.{spikes}", "data.times", "data.vel", **options)


def test_fields_of_matlab_files_become_sessions(mat):
    session = from_matlab(mat, "spikes")
    assert session.id == "monday"
    assert_same(session)
    assert_same(from_matlab(mat, "units.times", session_id="a"))
    labelled = from_matlab(mat, "flat", spike_units="data.labels")
    assert labelled.unit_ids == ("unit_1", "unit_3")  # those that have spikes
    numbered = from_matlab(mat, "flat", spike_units="data.labels", unit_ids="data.numbers")
    assert numbered.unit_ids == ("3", "1", "2")
    np.testing.assert_array_equal(numbered.spike_units == 1, UNITS == 0)
    given = Session.from_matlab(mat, "data.spikes", TIMES, "data.vel", target_key="cursor.vel")
    assert_same(given)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("spike", "monday.mat has no field 'data.spike': there is no 'spike', but .*'spikes'"),
        ("units.time", "has no field 'data.units.time': there is no 'time'.*Did you mean 'times'"),
        ("vel.x", "there is no 'x', but nothing"),
    ],
)
def test_missing_fields_are_listed(mat, field, told):
    with pytest.raises(RawDataError, match=told):
        from_matlab(mat, field)


def test_unusable_matlab_files_are_refused(mat, tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(mat.read_bytes()[:3000])
    with pytest.raises(PoyoError, match=r"a\.mat (is no MATLAB file, or it is damaged|is cut off)"):
        from_matlab(path, "spikes")
    path.write_text("a,b\n1,2\n" * 40)
    with pytest.raises(RawDataError, match="is no MATLAB file, or it is damaged"):
        from_matlab(path, "spikes")
    for door in (Session.open, lambda path: Session.from_nwb(path, "cursor_vel")):
        with pytest.raises(PoyoError, match=r"[mM]atlab|units is missing"):
            door(mat)
    with pytest.raises(SessionError, match="target_times is not an array of numbers"):
        Session.from_matlab(mat, "data.spikes", "data.spikes", "data.vel")
    if b"7.3" in mat.read_bytes()[:20]:
        with pytest.raises(RawDataError, match="more than 16 cells or structs inside each other"):
            from_matlab(mat, "loop")


CRASHING = """
import os, signal
from poyo_jax.data.io.trial_child import serve
serve(lambda path, names: os.kill(os.getpid(), signal.SIGSEGV))
"""


def test_a_crash_of_scipy_is_a_sentence(mat, monkeypatch):
    if b"7.3" in mat.read_bytes()[:20]:
        pytest.skip("h5py reads files of version 7.3")
    trial.sound.clear()
    monkeypatch.setattr(matlab, "CHILD", ("-c", CRASHING))
    with pytest.raises(
        RawDataError, match=r"scipy crashed reading it \(SIGSEGV\); the file is dam"
    ):
        from_matlab(mat, "spikes")
    monkeypatch.undo()
    assert_same(from_matlab(mat, "spikes"))


# --- Kilosort


@pytest.fixture
def sorted_folder(tmp_path):
    np.save(tmp_path / "spike_times.npy", np.round(FLAT[ORDER] * 30_000).astype(np.uint64)[:, None])
    np.save(tmp_path / "spike_clusters.npy", (UNITS * 4 + 3).astype(np.int32))
    (tmp_path / "params.py").write_text("dat_path = 'a.dat'\nsample_rate = 30_000.  # Hz\n")
    (tmp_path / "cluster_group.tsv").write_text("cluster_id\tgroup\n3\tnoise\n11\tgood\n")
    return tmp_path


def test_a_folder_of_kilosort_becomes_a_session(sorted_folder):
    session = Session.from_kilosort(sorted_folder, TIMES, TARGETS, session_id="s")
    assert session.unit_ids == ("cluster_3", "cluster_11")
    np.testing.assert_allclose(session.spike_times, FLAT[ORDER], atol=2e-5)
    assert list(session.unit_table["group"]) == ["noise", "good"]
    good = session.select_units(session.unit_table["group"] == "good")
    assert good.unit_ids == ("cluster_11",) and len(good.spike_times) == 200
    (sorted_folder / "spike_clusters.npy").rename(sorted_folder / "spike_templates.npy")
    slow = Session.from_kilosort(sorted_folder, TIMES, TARGETS, sampling_rate=60_000)
    np.testing.assert_allclose(slow.spike_times, FLAT[ORDER] / 2, atol=2e-5)


def test_params_are_never_executed(sorted_folder):
    mark = sorted_folder / "mark"
    code = f"sample_rate = __import__('pathlib').Path({str(mark)!r}).write_text('x')\n"
    (sorted_folder / "params.py").write_text(code)
    with pytest.raises(RawDataError, match=r"params\.py has no line such as sample_rate = 30000"):
        Session.from_kilosort(sorted_folder, TIMES, TARGETS)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("spike_times.npy", None, r"spike_times\.npy is missing; pass the folder in which"),
        ("params.py", None, r"params\.py is missing; Pass sampling_rate"),
        ("spike_times.npy", b"\x93NUMPY", "cannot be read as an array of numpy"),
        ("spike_clusters.npy", np.zeros(3, int), "500 spikes, but spike_clusters.npy 3"),
        ("spike_clusters.npy", np.array([{}]), "cannot be read as an array of numpy"),
        ("spike_times.npy", FLAT, "holds float64; expected whole numbers. If these are seconds"),
        ("spike_times.npy", np.zeros((500, 2), int), r"has shape \(500, 2\); expected one number"),
        ("spike_times.npy", np.arange(500) - 1, "begins at sample -1, not 0"),
    ],
)
def test_damaged_folders_are_refused(sorted_folder, name, content, told):
    path = sorted_folder / name
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(RawDataError, match=told):
        Session.from_kilosort(sorted_folder, TIMES, TARGETS)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RawDataError, match="gone does not exist; pass the folder of Kilosort"):
        Session.from_kilosort(tmp_path / "gone", TIMES, TARGETS)


@pytest.mark.unchecked
@pytest.mark.parametrize("rate", [0, -30_000, float("nan"), "30 kHz"])
def test_a_rate_of_kilosort_that_cannot_be_is_refused(sorted_folder, rate):
    with pytest.raises(ConfigError, match="pass the rate of the recording in Hz"):
        Session.from_kilosort(sorted_folder, TIMES, TARGETS, sampling_rate=rate)
