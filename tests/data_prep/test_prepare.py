"""Preparing a data set: resumable, parallel, whole files only, and every failure named."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import made_up
import pytest

from data_prep.prepare import Job, prepare, recipe
from data_prep.table import results_table
from poyo_jax import Session
from poyo_jax.errors import DataError, PoyoError

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NAMES = [f"m_{number:02d}" for number in range(8)]


@pytest.fixture
def raw(tmp_path):
    return made_up.write_raw(tmp_path / "raw", NAMES[:3])


def job(out: Path, **options) -> Job:
    return Job("made_up", made_up.convert, out, **{"recipe": recipe()} | options)


def sessions(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.h5"))}


def leftovers(out: Path) -> list[str]:
    """Files that are neither sessions nor records of them."""
    return [
        str(path)
        for path in out.rglob("*")
        if path.is_file() and path.suffix not in (".h5", ".json", "")
    ]


def test_every_raw_file_becomes_a_session(raw, tmp_path):
    out = tmp_path / "out"
    results = prepare(job(out), raw)
    assert [result.session for result in results] == [f"made_up/{name}.h5" for name in NAMES[:3]]
    for result, path in zip(results, raw, strict=True):
        written, converted = Session.open(out / result.session), made_up.convert(path)
        assert (
            (written.spike_times == converted.spike_times).all()
            and result.units == 5
            and result.spikes == 4000
        )
        assert result.hours == pytest.approx(converted.domain.duration / 3600)
    assert not leftovers(out)


def test_workers_make_the_same_files(raw, tmp_path):
    prepare(job(tmp_path / "a"), raw)
    prepare(job(tmp_path / "b"), raw, workers=2)
    assert sessions(tmp_path / "a") == sessions(tmp_path / "b")


def test_finished_files_are_not_touched(raw, tmp_path):
    out = tmp_path / "out"
    prepare(job(out), raw)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    results = prepare(job(out), raw)
    assert all(result.done_before for result in results) and len(before) == 3
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")} == before


@pytest.mark.parametrize("change", ["raw file", "session", "session is gone", "record", "recipe"])
def test_what_has_changed_is_prepared_again(raw, tmp_path, change):
    out = tmp_path / "out"
    prepare(job(out), raw)
    expected, settings = sessions(out), recipe()
    if change == "raw file":
        made_up.write_raw(tmp_path / "raw", NAMES[:1], num_spikes=1000)
    elif change == "session":
        with (out / "made_up" / "m_00.h5").open("ab") as file:
            file.write(b"!")
    elif change == "session is gone":
        (out / "made_up" / "m_00.h5").unlink()
    elif change == "record":
        (out / ".prepared" / "made_up" / "m_00.raw.json").write_text("{")
    else:
        settings = recipe(compress=True)
    results = prepare(job(out, recipe=settings), raw)
    assert [result.done_before for result in results] == [
        False,
        change != "recipe",
        change != "recipe",
    ]
    assert (sessions(out) == expected) == (change != "raw file")


def test_compressed_sessions_hold_the_same(raw, tmp_path):
    prepare(job(tmp_path / "a"), raw)
    prepare(job(tmp_path / "b", compress=True), raw)
    plain, compressed = (Session.open(tmp_path / name / "made_up" / "m_00.h5") for name in "ab")
    assert plain.path.stat().st_size > 1.5 * compressed.path.stat().st_size
    for a, b in zip(
        plain.spikes_between(10.0, 11.0), compressed.spikes_between(10.0, 11.0), strict=True
    ):
        assert len(a) > 0 and (a == b).all()


# --- failures


def test_bad_files_are_skipped_and_named(raw, tmp_path):
    raw[1].write_bytes(b"")
    raw[2].write_bytes(b"unforeseen")
    for workers in (1, 2):
        results = prepare(job(tmp_path / f"out{workers}"), [*raw, tmp_path / "gone.raw"], workers)
        assert list(sessions(tmp_path / f"out{workers}")) == ["made_up/m_00.h5"]
        assert [result.skipped for result in results] == [
            "",
            "m_01.raw: unforeseen EOFError: No data left in file; please report this file.",
            "m_02.raw: unforeseen ZeroDivisionError: oh; please report this file.",
            (
                "gone.raw: cannot be read (No such file or directory); check the file and its"
                " permissions."
            ),
        ]
        assert not leftovers(tmp_path / f"out{workers}")
    lines = results_table(results).splitlines()
    assert lines[1].split() == ["made_up/m_00.h5", "5", "4,000", "0.02", "new"]
    assert lines[-1] == "3 raw files skipped, 1 of 4 prepared."


def test_a_session_id_that_exists_twice(raw, tmp_path):
    (tmp_path / "raw" / "copy").mkdir()
    copy = Path(shutil.copy(raw[0], tmp_path / "raw" / "copy" / "m_00.raw"))
    other = Path(shutil.copy(raw[1], tmp_path / "raw" / "other.raw"))
    for _ in range(2):
        results = prepare(job(tmp_path / "out"), [raw[0], copy, raw[1], other], workers=2)
        assert [result.skipped for result in results] == [
            "",
            (
                "m_00.raw: its session id m_00 is that of m_00.raw as well; remove one of the two"
                " files."
            ),
            "",
            (
                "other.raw: its session id m_01 is that of m_01.raw as well; remove one of the two"
                " files."
            ),
        ]
    assert list(sessions(tmp_path / "out")) == [
        "made_up/m_00.h5",
        "made_up/m_01.h5",
    ] and not leftovers(tmp_path / "out")


def test_no_space_left(raw, tmp_path, monkeypatch):
    def no_space(*args):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        results = prepare(job(out), raw)
    assert all("the disk is full" in result.skipped for result in results)
    assert not sessions(out) and not leftovers(out)
    assert not any(result.skipped for result in prepare(job(out), raw))


def test_an_out_folder_below_a_file(raw, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        PoyoError, match=r"file/out/.prepared/made_up cannot be written \(Not a directory\)"
    ):
        prepare(job(tmp_path / "file" / "out"), raw)


def test_two_processes_do_not_share_a_folder(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    refused = []

    def convert(path: Path) -> Session:
        with pytest.raises(
            DataError,
            match=r"another process is preparing made_up in .*out; wait until it has ended",
        ):
            prepare(job(out), raw)
        refused.append(path)
        return made_up.convert(path)

    prepare(Job("made_up", convert, out), raw[:1])
    assert refused == raw[:1]


# --- kills


def test_killed_eight_times_and_run_again(tmp_path):
    """Killed at random moments, with one and with two workers, a run ends with the files of an
    undisturbed one.
    """
    raw, out = tmp_path / "raw", tmp_path / "out"
    prepare(job(tmp_path / "undisturbed"), made_up.write_raw(raw, NAMES))
    expected, moments = sessions(tmp_path / "undisturbed"), random.Random(0)
    for kill in range(8):
        run = start(raw, out, workers=1 + (kill % 4 == 0))
        assert run.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.3 if kill % 4 else 1.5))
        run.kill()
        run.communicate()
        done = sessions(out) if out.exists() else {}
        assert done.items() <= expected.items()
        if len(done) == len(NAMES):
            shutil.rmtree(out)
    run = start(raw, out, workers=2)
    _, err = run.communicate()
    assert run.returncode == 0, err
    assert sessions(out) == expected
    assert not leftovers(out)


def start(raw: Path, out: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, Path(__file__).with_name("made_up.py"), raw, out, str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
