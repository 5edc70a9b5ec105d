"""The lock of a work directory: two runs that write the same one would destroy each other.

The owner is one start of a run, with all its processes; process 0 holds the lock for all. The file
`lock.json` names it. Three things tell if it is alive:

- The system locks the file (flock) as long as the process lives. That is exact on one computer,
  also between containers, and for whatever way the process ends.
- Where the file system has no such locks, the number of the process and the time of its start tell
  on the same computer.
- The owner gives a sign of life every few seconds. On another computer, in a bucket, and from a
  container where the file system has no locks, nothing else can be seen: an owner is dead if its
  sign does not change for SILENCE seconds.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
from etils import epath

from poyo_jax.distributed.processes import problem_anywhere, text_of_process_0
from poyo_jax.errors import ConfigError, Interrupted, PoyoError
from poyo_jax.files import in_bucket, writable
from poyo_jax.train.reliability.owner import Owner, started

logger = logging.getLogger(__name__)

FILE = "lock.json"
BEAT = 5.0  # s between two signs of life
SILENCE = 120.0  # s without a sign, after which an owner that cannot be seen is dead
OLD = 1800.0  # s by the clocks of two computers, after which nobody waits for a sign
STOPPING = 600.0  # s to wait for an owner that was asked to stop
SETTLE = 2.0  # s after which two that write the same file see the same content
POLL = 1.0  # s between two looks
TAKEN, WAIT, STOPPED = "taken", "wait", "stopped"


class WorkdirLock:
    """Own a work directory while entered. All processes of a run enter it together.

    Raises ConfigError, on every process, when another run owns it, or the lock cannot be written,
    and Interrupted when process 0 is asked to stop while it waits.
    """

    def __init__(self, workdir: epath.Path, stopping: Callable[[], bool] = lambda: False):
        self._workdir, self._stopping = workdir, stopping
        self._main = jax.process_index() == 0
        self._file = (
            _BucketFile(workdir / FILE) if in_bucket(workdir) else _LocalFile(workdir / FILE)
        )
        self._began = time.monotonic()
        self._sign, self._since = "", self._began  # the owner's last sign, and when it came
        self._told = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lock", daemon=True)
        self._lost = False

    def __enter__(self) -> "WorkdirLock":
        answer = WAIT
        while answer == WAIT:
            answer = text_of_process_0(self._attempt() if self._main else "")
        if answer == STOPPED:
            raise Interrupted(
                f"stopped while another run still had {self._workdir}; nothing was changed there."
                " Run the same command again."
            )
        if answer != TAKEN:
            raise ConfigError(answer)
        if self._main:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            self._done.set()
            self._thread.join()
            with contextlib.suppress(Exception):  # buckets raise any
                self._file.release(self._owns())

    def check(self) -> None:
        """Raise ConfigError, on every process, if another run has taken the work directory over.

        That happens to a process that gave no sign of life for minutes, on a computer that slept.
        """
        problem = ""
        if self._lost:
            problem = (
                f"another run has taken {self._workdir} over, since this one gave no sign of life"
                " for minutes. It ends, and what its last checkpoint holds is saved."
            )
        if problem := problem_anywhere(problem, "process {} has lost the work directory"):
            raise ConfigError(problem)

    # --- taking it

    def _attempt(self) -> str:
        """Try to take the lock: TAKEN, WAIT, STOPPED, or the sentence that refuses it."""
        try:
            with writable(self._workdir / FILE):
                answer = self._try()
        except PoyoError as error:
            answer = str(error)
        if answer == WAIT and self._stopping():
            answer = STOPPED
        if answer == WAIT:
            time.sleep(POLL)
        elif answer != TAKEN:
            self._file.close()
        return answer

    def _try(self) -> str:
        locked = self._file.lock()
        text = self._file.read()
        owner = Owner.parse(text)
        if text or locked is False:
            alive = self._is_alive(owner, text, locked)
            if alive is None or (alive and owner and self._ends(owner)):
                return WAIT
            if alive:
                return self._refusal(owner)
        if locked is False:  # the system of a dead computer still has it
            self._file.replace()
            return WAIT
        self._me = Owner.here(self._file.device)
        self._file.write(self._me.to_text())
        if locked is None:
            time.sleep(SETTLE)
            if not self._owns():
                return self._refusal(Owner.parse(self._file.read()))
        return TAKEN

    def _is_alive(self, owner: Owner | None, text: str, locked: bool | None) -> bool | None:
        """Tell if the owner is alive; None if it takes longer to see."""
        here = Owner.here(self._file.device)
        if owner is not None and owner.kernel == here.kernel:
            if locked is False:
                return True
            if locked and owner.device == here.device:
                return False
            if owner.namespace == here.namespace:
                return started(owner.pid) == owner.started
        now = time.monotonic()
        if text != self._sign:
            first, self._sign, self._since = not self._sign, text, now
            if not first:
                return True
        if owner is not None and time.time() - owner.beat > OLD:
            return False
        self._tell(f"waiting for a sign of life of the run that owns {self._workdir}")
        return None if now - self._since < SILENCE else False

    def _ends(self, owner: Owner) -> bool:
        """Tell if the owner was asked to stop and has time left for it."""
        if owner.stopping and time.monotonic() - self._began < STOPPING:
            self._tell(f"waiting for the end of the run in {self._workdir}, which is stopping")
            return True
        return False

    def _tell(self, text: str) -> None:
        """Log a text once."""
        if text != self._told:
            self._told = text
            logger.info(text)

    def _refusal(self, owner: Owner | None) -> str:
        who = f" ({owner})" if owner else ""
        return (
            f"another run is training in {self._workdir}{who}. Wait until it has ended, or stop it;"
            " or choose another --workdir."
        )

    # --- having it

    def _owns(self) -> bool:
        owner = Owner.parse(self._file.read())
        return owner is not None and owner.id == self._me.id

    def _live(self) -> None:
        """Give signs of life until the end, or until another run has the lock."""
        while not self._done.wait(BEAT):
            with contextlib.suppress(Exception):  # buckets raise any; the next sign may succeed
                owner = Owner.parse(self._file.read())
                if owner is not None and owner.id != self._me.id:
                    self._lost = True
                    return
                me = replace(self._me, beat=time.time(), stopping=self._stopping())
                self._file.write(me.to_text())


class _LocalFile:
    """The file of a lock on a disk of this computer, or on one that computers share."""

    def __init__(self, path: epath.Path):
        self._path = Path(path)
        self._descriptor: int | None = None

    @property
    def device(self) -> int:
        assert self._descriptor is not None  # the path may be gone: an owner deletes it at its end
        return os.fstat(self._descriptor).st_dev

    def lock(self) -> bool | None:
        """Let the system lock the file; False: another has it, None: there are no such locks."""
        while True:
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(
                    self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666
                )
            locked = _flock(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return locked
            self.close()  # its owner has deleted it in the meantime

    def read(self) -> str:
        """Content; opened anew, since network file systems look for changes only then."""
        with contextlib.suppress(FileNotFoundError):
            return self._path.read_text(errors="replace").strip()
        return ""

    def write(self, text: str) -> None:
        assert self._descriptor is not None
        content = text.encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))
        os.fsync(self._descriptor)

    def replace(self) -> None:
        """Delete the file, so that the next `lock` locks a new one."""
        self._path.unlink(missing_ok=True)
        self.close()

    def release(self, owned: bool) -> None:
        if owned:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _BucketFile:
    """The object of a lock in a bucket, which locks nothing: signs of life alone tell."""

    device = 0

    def __init__(self, path: epath.Path):
        self._path = path

    def lock(self) -> None:
        return None

    def read(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._path.read_text().strip()
        return ""

    def write(self, text: str) -> None:
        self._path.write_text(text)

    def replace(self) -> None:
        self._path.unlink(missing_ok=True)

    def release(self, owned: bool) -> None:
        if owned:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        pass


def _flock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
