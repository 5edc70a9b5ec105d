"""The manifest of a folder: sessions open from it as from their files, and it follows every
change.
"""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from poyo_jax import Session, open_sessions
from poyo_jax.data.io.lazy_arrays import EAGER_BYTES
from poyo_jax.data.io.manifest import NAME
from poyo_jax.data.simulate import simulate_study
from poyo_jax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "monkey").mkdir()
    for session in simulate_study(0, 3, num_units=(4, 6), duration=20.0):
        session.save(tmp_path / "monkey" / f"{session.session_id}.h5")
    return tmp_path


def same(a: Session, b: Session) -> bool:
    keys = (
        [a.behaviour(key) for key in a.behaviour_keys],
        [b.behaviour(key) for key in b.behaviour_keys],
    )
    return (
        (a.id, a.subject_id, a.unit_ids, a.path, a.domain)
        == (b.id, b.subject_id, b.unit_ids, b.path, b.domain)
        and np.array_equal(a.spike_times, b.spike_times)
        and all(
            np.array_equal(x.values(0, x.count), y.values(0, y.count))
            for x, y in zip(*keys, strict=True)
        )
        and all(a.split(name) == b.split(name) for name in ("train", "valid", "test"))
    )


def refuse_hdf5(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("HDF5 opened a file that the manifest describes")

    monkeypatch.setattr(h5py, "File", refuse)


def test_sessions_open_from_the_manifest_alone(folder, monkeypatch):
    fresh = open_sessions(folder)
    direct = [Session.open(session.path) for session in fresh]
    refuse_hdf5(monkeypatch)
    cached = open_sessions(folder)
    assert all(same(a, b) and same(a, c) for a, b, c in zip(fresh, cached, direct, strict=True))


def test_a_name_of_several_files_is_refused(folder):
    (session, *_) = open_sessions(folder)
    (folder / "old").mkdir()
    session.save(folder / "old" / f"{session.session_id}.h5")
    with pytest.raises(DataError, match=rf"2 files {session.session_id}.h5: .*Rename all but one"):
        open_sessions(folder, [session.session_id])
    assert len(open_sessions(folder)) == 4


def test_reference_files_open_from_the_manifest(shared, tmp_path, monkeypatch):
    for path in (shared / "examples" / "brainsets_0.2.2").rglob("*.h5"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    fresh = open_sessions(tmp_path)
    with monkeypatch.context() as patch:
        refuse_hdf5(patch)
        cached = open_sessions(tmp_path)
    for a, b in zip(fresh, cached, strict=True):
        a.save(tmp_path / "a.bin")
        b.save(tmp_path / "b.bin")
        assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()


def test_a_changed_file_is_read_again(folder, tmp_path):
    first = open_sessions(folder)[0]
    replacement = next(iter(simulate_study(7, 1, num_units=(9, 9), duration=20.0)))
    replacement.save(first.path)
    assert len(open_sessions(folder)[0].unit_ids) == 9
    assert len(open_sessions(folder)[0].unit_ids) == 9


def test_files_that_come_and_go(folder):
    sessions = open_sessions(folder)
    os.remove(sessions[0].path)
    assert [session.id for session in open_sessions(folder)] == [
        session.id for session in sessions[1:]
    ]
    sessions[1].save(folder / "new.h5")
    assert len(open_sessions(folder)) == 3
    listed = json.loads((folder / NAME).read_text())["sessions"]
    assert sorted(listed) == [
        "monkey/bo_02_random_target.h5",
        "monkey/cleo_03_center_out.h5",
        "new.h5",
    ]


def test_opening_some_of_the_sessions_keeps_the_entries_of_the_others(folder):
    open_sessions(folder)
    sessions = open_sessions(folder, ["bo_02_random_target"])
    sessions[0].save(sessions[0].path)
    open_sessions(folder, ["bo_02_random_target"])
    assert len(json.loads((folder / NAME).read_text())["sessions"]) == 3


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 99, "sessions": {}}', '{"format": 1}']
)
def test_a_damaged_manifest_is_made_anew(folder, damage):
    open_sessions(folder)
    (folder / NAME).write_text(damage)
    assert len(open_sessions(folder)) == 3
    assert len(json.loads((folder / NAME).read_text())["sessions"]) == 3


def test_more_sessions_than_open_files_are_allowed(tmp_path):
    (session,) = simulate_study(0, 1, num_units=(20, 20), duration=60.0)
    session.save(tmp_path / "s0.h5")
    assert len(session.spike_times) * 8 > EAGER_BYTES  # so that the file is mapped
    for number in range(1, 60):
        os.link(tmp_path / "s0.h5", tmp_path / f"s{number}.h5")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 400)); import"
        " poyo_jax; print(sum(len(session.spikes_between(1, 2)[0]) > 0 for session in"
        " poyo_jax.open_sessions(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    assert result.stdout == "60\n", result.stderr


def test_a_folder_that_may_not_be_written_has_no_manifest(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(open_sessions(folder)) == 3
    assert not (folder / NAME).exists()
