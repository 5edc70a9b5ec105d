"""Identify the process that owns a work directory, and tell if it is alive."""

import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import jax

PROC = Path("/proc")
WIDTH = 600  # bytes of a lock file: a sign of life overwrites it, which a full disk does not stop


@dataclass(frozen=True)
class Owner:
    """A start of a run, as the lock of its work directory describes it."""

    id: str  # of this start
    host: str
    kernel: str  # changes when the computer starts anew; containers on a computer share it
    namespace: str  # of process numbers; a container has one of its own
    pid: int
    started: str  # when the process started, by the clock of the kernel
    device: int  # number of the file system, as this kernel counts
    processes: int  # of the run
    since: float  # s, when it took the work directory
    beat: float  # s, its last sign of life
    stopping: bool = False

    @classmethod
    def here(cls, device: int) -> "Owner":
        """This process."""
        now = time.time()
        return cls(
            id=uuid.uuid4().hex,
            host=socket.gethostname()[:100],
            kernel=_read(PROC / "sys/kernel/random/boot_id") or socket.gethostname()[:100],
            namespace=_namespace(),
            pid=os.getpid(),
            started=started(os.getpid()),
            device=device,
            processes=jax.process_count(),
            since=now,
            beat=now,
        )

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """The owner that `to_text` wrote; None for any other text."""
        try:
            values = json.loads(text)
            owner = cls(**values)
            types = [type(getattr(owner, item.name)) for item in fields(cls)]
            return (
                owner
                if types == [str, str, str, str, int, str, int, int, float, float, bool]
                else None
            )
        except (ValueError, TypeError):
            return None

    def to_text(self) -> str:
        """The owner as JSON of a fixed length."""
        return json.dumps(asdict(self)).ljust(WIDTH - 1) + "\n"

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


def started(pid: int) -> str:
    """Start of a process, in ticks of the kernel; empty for one that has ended.

    Without /proc it is "alive" for every process that exists.
    """
    if not (PROC / "self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "alive"
    # The name of the program, in brackets, may hold anything.
    values = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    if not values or values[0] in "ZX":
        return ""
    return values[19]


def _namespace() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
