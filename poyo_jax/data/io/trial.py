"""Read files that were never read before in a child process first.

Libraries such as HDF5 hang or crash on some damaged files. In a child they end only the child, and
the next file gets a new one.
"""

import contextlib
import json
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poyo_jax.data.io.lazy_arrays import StoredFile
from poyo_jax.errors import SessionError

START_SECONDS = 120.0  # for a child to import what it needs
WORK_SECONDS = 10  # of processor time for a file; libraries hang by computing
WAIT_SECONDS = 120.0  # for a file on a slow disk
READ_SESSIONS = ("-m", "poyo_jax.data.io.trial_child")

# Files that this process wrote, or that a child has read. A version of a file stays sound.
sound: set[StoredFile] = set()
logger = logging.getLogger(__name__)


def mark_sound(path: Path) -> None:
    """Remember that the file that is now at `path` can be read."""
    sound.add(StoredFile.of(path.absolute()))


class Trial:
    """Child processes, one at a time, that read files one after the other. Use it as a context.

    The first child starts with the first file. `library` is the name of what may crash there, and
    `program` are the arguments of its Python; the program calls `trial_child.serve`.
    """

    def __init__(self, library: str = "HDF5", program: Sequence[str] | None = None) -> None:
        self._program = program or READ_SESSIONS
        self._library = library
        self._child: _Child | None = None
        self._works = True

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.end()

    def read(self, path: Path, *arguments: Any) -> Any:
        """Return what the child's program returns for a file; None without a child.

        Raises SessionError when the file cannot be read, or when the library hangs or crashes.
        """
        if self._child is None and self._works:
            self._start()
        if self._child is None:
            return None
        line = self._child.ask(json.dumps([str(path.absolute()), *arguments]))
        if not line:
            status = self._child.end()
            self._child = None
            raise SessionError(_sentence(path, status, self._library))
        reply = json.loads(line)
        if "error" in reply:
            raise SessionError(reply["error"])
        return reply["result"]

    def _start(self) -> None:
        try:
            self._child = _Child(self._program)
        except OSError as error:
            self._works = False
            logger.warning(
                "new files are read without a child process, which did not start (%s); a"
                " damaged file can stop this program",
                error,
            )


class _Child:
    """A running child. Raises OSError when it does not start."""

    def __init__(self, program: Sequence[str]) -> None:
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if not self._next_line(START_SECONDS):
            raise OSError(f"exit status {self.end()}")

    def ask(self, line: str) -> str:
        """Send a line and return the answer; empty when the child has ended or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._next_line(WAIT_SECONDS)

    def end(self) -> int:
        """End the child, and return its exit status."""
        if self._listener.is_alive():
            self._process.kill()
        status = self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return status

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _next_line(self, seconds: float) -> str:
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return ""


def _sentence(path: Path, status: int, library: str) -> str:
    """Say what the library did to a child that ended with this exit status."""
    if -status in (signal.SIGXCPU, signal.SIGKILL):
        what = f"{library} did not come to an end reading it, or took all memory"
    elif status < 0:
        what = f"{library} crashed reading it ({signal.Signals(-status).name})"
    else:
        what = f"a process that read it ended with status {status}"
    return f"{path}: {what}; the file is damaged, copy or download it again."


def limit_process() -> None:
    """Keep the system from writing a core file for a crash of this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_next_file() -> None:
    """Let the system end this process when it computes for too long from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + 1 + WORK_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
