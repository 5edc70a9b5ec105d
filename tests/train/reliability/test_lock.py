"""One run at a time owns a work directory, whoever else starts, and however the last one ended."""

import fcntl
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from etils import epath

from poyo_jax import train_model
from poyo_jax.errors import ConfigError
from poyo_jax.train.reliability import lock as lock_module
from poyo_jax.train.reliability.lock import FILE, WorkdirLock
from poyo_jax.train.reliability.owner import Owner, started

DEAD = 2**22 + 1  # above the largest number of a process
ELSEWHERE = {"kernel": "of another computer", "host": "far-away"}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """All times short, in which an owner still gives many signs of life."""
    for name, seconds in {"BEAT": 0.05, "SILENCE": 0.5, "SETTLE": 0.1, "POLL": 0.02}.items():
        monkeypatch.setattr(lock_module, name, seconds)


@pytest.fixture
def workdir(tmp_path):
    return epath.Path(tmp_path)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks."""
    monkeypatch.setattr(lock_module, "_flock", lambda _: None)


def leave(workdir, **changes) -> Owner:
    """Leave the lock of a process that was killed."""
    owner = replace(Owner.here(os.stat(workdir).st_dev), **changes)
    (workdir / FILE).write_text(owner.to_text())
    return owner


@pytest.fixture
def take(caplog):
    """Take the lock of a folder; tells what was waited for."""
    caplog.set_level("INFO")

    def take(workdir) -> str:
        caplog.clear()
        with WorkdirLock(workdir):
            return caplog.text

    return take


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_run_is_refused_until_the_first_has_ended(workdir, tmp_path, take):
    with pytest.raises(ZeroDivisionError), WorkdirLock(workdir / "run") as first:
        (tmp_path / "link").symlink_to(tmp_path / "run")
        for path in (workdir / "run", workdir / "link"):
            with pytest.raises(
                ConfigError,
                match=r"another run is training in .* \(process \d+ on .*, since 20.*\)\. Wait"
                r" until it has ended, or stop it; or choose another --workdir\.",
            ):
                WorkdirLock(path).__enter__()
        until(lambda: Owner.parse((workdir / "run" / FILE).read_text()).beat > first._me.beat)
        first.check()
        raise ZeroDivisionError
    assert take(workdir / "run") == ""
    assert not any((tmp_path / "run").iterdir())


def test_a_run_is_refused_before_it_writes(workdir, tiny_sessions):
    with WorkdirLock(workdir), pytest.raises(ConfigError, match="another run is training in"):
        train_model(tiny.config(), tiny_sessions[:1], workdir, progress=False)
    assert not any(workdir.iterdir())


KILLED = {
    "killed": {"pid": DEAD},
    "its number is that of another process": {"started": "1"},
    "this process in an earlier container": {"namespace": "pid:[1]"},
    "killed yesterday on another computer": {**ELSEWHERE, "beat": 1.0},
}


@pytest.mark.parametrize("how", KILLED)
def test_the_lock_of_a_dead_run_is_taken_at_once(how, workdir, take):
    leave(workdir, **KILLED[how])
    assert take(workdir) == ""


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("how", [*KILLED][:2])
def test_also_where_the_file_system_has_no_locks(how, workdir, monkeypatch, take):
    leave(workdir, **KILLED[how])
    assert take(workdir) == ""
    leave(workdir)
    with pytest.raises(ConfigError, match="another run"):
        WorkdirLock(workdir).__enter__()
    monkeypatch.setattr(lock_module, "in_bucket", lambda _: True)
    with pytest.raises(ConfigError, match="another run"):
        WorkdirLock(workdir).__enter__()
    leave(workdir, **KILLED[how])
    assert take(workdir) == ""
    assert not any(workdir.iterdir())


UNSEEN = {"another computer": ELSEWHERE, "another mount": {"device": 7, "namespace": "pid:[1]"}}


@pytest.mark.parametrize("where", UNSEEN)
def test_an_owner_that_cannot_be_seen_is_dead_when_it_is_silent(where, workdir, take):
    leave(workdir, **UNSEEN[where])
    began = time.monotonic()
    assert "waiting for a sign of life" in take(workdir)
    assert time.monotonic() - began > 0.4
    (workdir / FILE).write_text("damaged")
    assert "waiting for a sign of life" in take(workdir)


@pytest.mark.parametrize("where", UNSEEN)
def test_and_alive_when_it_gives_a_sign(where, workdir, monkeypatch):
    monkeypatch.setattr(lock_module, "SILENCE", 30.0)
    owner = leave(workdir, **UNSEEN[where])

    def sign():
        with Path(workdir / FILE).open("r+") as file:  # as an owner does: the file is never empty
            file.write(replace(owner, beat=owner.beat + 1).to_text())
            file.truncate()

    timer = threading.Timer(0.1, sign)
    timer.start()
    with pytest.raises(ConfigError, match="another run"):
        WorkdirLock(workdir).__enter__()
    timer.join()


def test_a_file_that_the_system_locks_tells_at_once(workdir, caplog):
    """Also when the owner runs in another container, whose processes cannot be seen."""
    caplog.set_level("INFO")
    leave(workdir, namespace="pid:[1]")
    with Path(workdir / FILE).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another run"):
            WorkdirLock(workdir).__enter__()
    assert "waiting" not in caplog.text


@pytest.mark.parametrize("again", [True, False])
def test_a_file_that_was_deleted_before_it_was_locked(again, workdir, monkeypatch):
    """Its owner deletes it at its end, and a third run may have made another one."""
    flock = lock_module._flock

    def delete(descriptor):
        monkeypatch.setattr(lock_module, "_flock", flock)
        (workdir / FILE).unlink()
        if again:
            (workdir / FILE).touch()
        return flock(descriptor)

    monkeypatch.setattr(lock_module, "_flock", delete)
    with WorkdirLock(workdir) as lock:
        assert Owner.parse((workdir / FILE).read_text()).id == lock._me.id


@pytest.mark.usefixtures("no_flock")
def test_of_two_that_start_together_one_goes_on(workdir, monkeypatch):
    monkeypatch.setattr(lock_module, "SETTLE", 0.5)
    both, here, ends = threading.Barrier(2, timeout=30), Owner.here, []

    def here_after_both_have_read(device):
        both.wait()
        return here(device)

    monkeypatch.setattr(Owner, "here", here_after_both_have_read)

    def start():
        try:
            with WorkdirLock(workdir):
                ends.append("taken")
                time.sleep(0.8)
        except ConfigError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(end[:11] for end in ends) == ["another run", "taken"]


def test_the_end_of_a_run_that_stops_is_waited_for(workdir, take):
    first = WorkdirLock(workdir, stopping=lambda: True)
    first.__enter__()
    until(lambda: Owner.parse((workdir / FILE).read_text()).stopping)
    timer = threading.Timer(0.3, first.__exit__)
    timer.start()
    assert "waiting for the end of the run" in take(workdir)
    timer.join()


def test_a_run_that_lost_its_lock_saves_nothing(workdir):
    with WorkdirLock(workdir) as lock:
        other = leave(workdir)
        until(lambda: lock._lost)
        with pytest.raises(
            ConfigError, match=r"another run has taken .* over, since this one gave"
        ):
            lock.check()
    assert Owner.parse((workdir / FILE).read_text()) == other


def test_an_error_of_a_bucket_does_not_end_the_signs_of_life(workdir, monkeypatch):
    with WorkdirLock(workdir) as lock:
        read, failed = lock._file.read, []

        def once():
            if not failed:
                failed.append(True)
                raise Exception("503")  # as gcsfs raises it
            return read()

        monkeypatch.setattr(lock._file, "read", once)
        until(lambda: failed)
        leave(workdir)
        until(lambda: lock._lost)


def test_a_link_is_not_followed(workdir, tmp_path):
    (tmp_path / "precious").write_text("one")
    (tmp_path / FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match=r"lock.json cannot be written"):
        WorkdirLock(workdir).__enter__()
    assert (tmp_path / "precious").read_text() == "one"


def test_processes_are_told_apart():
    assert started(os.getpid()) and not started(DEAD)
    owner = Owner.here(3)
    assert Owner.parse(owner.to_text()) == owner
    for text in ("", "3", "{}", owner.to_text()[:100], owner.to_text().replace("false", "0")):
        assert Owner.parse(text) is None
