"""Fetching a file over HTTP so that it is there whole and verified, or not at all.

pooch transfers and hashes. It does not resume: what it received before a fault is lost. Here it
writes into `NAME.partial`, which the next attempt, or the next run, continues with a request for
the rest. A file gets its name after its size and its digest were checked.
"""

import contextlib
import errno
import importlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from poyo_jax import __version__
from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.files import writable

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

PAUSES = (1.0, 4.0, 15.0, 40.0)  # seconds before each new attempt
LONGEST_PAUSE = 300.0  # seconds that a server may ask for
PROGRESS = 1 << 20  # bytes; an attempt that brings so many starts the pauses anew
TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 16  # bytes; what a cut connection may cost
APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND
HEADERS = {"User-Agent": f"poyo_jax {__version__}", "Accept-Encoding": "identity"}


class DownloadError(PoyoError):
    """A file, or a list of files, that could not be fetched."""


class Mismatch(Exception):
    """The content of a fetched file is not the content that the archive lists."""


def needed(package: str) -> Any:
    """Import a package that only downloads need.

    Raises MissingDependencyError when it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"downloads need {package.partition('.')[0]}, which cannot be imported ({error}); "
            "run: pip install 'poyo_jax[data]'"
        ) from error


@dataclass(frozen=True)
class RemoteFile:
    """A file of an archive.

    It has its path below the folder of the data set, and its digest as `sha256:...` or `md5:...`.
    """

    name: str
    url: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable():
            raise ValueError(f"{self.name!r} is no name for a file")
        parts = PurePosixPath(self.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.name:
            raise ValueError(f"{self.name!r} is no name for a file")
        if not isinstance(self.url, str):
            raise ValueError(f"{self.url!r} is no address of a file")
        if type(self.size) is not int or self.size < 0:
            raise ValueError(f"{self.size!r} is no size of a file in bytes")
        if not re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", str(self.digest)):
            raise ValueError(f"{self.digest!r} is no digest")


# --- one file


def file_size(path: Path) -> int:
    """Size of a file in bytes; -1 when it does not exist or cannot be seen."""
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return -1


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def fetch(file: RemoteFile, path: Path, moved: Callable[[int], None]) -> None:
    """Fetch a file to `path`, and continue at the byte where an earlier attempt stopped.

    `moved` is called with the number of bytes that came.

    Raises DownloadError when it cannot be had, and PoyoError when it cannot be written; the same
    call then continues.
    """
    if file_size(path) == file.size:
        if not (wrong := _wrong_digest(file, path)):
            moved(file.size)
            return
        logger.warning("%s is not the file of the archive (%s); fetching it again", path, wrong)
    with Partial(file, partial_path(path), moved) as partial:
        for attempts_left in (1, 0):
            try:
                _receive(file, partial)
                partial.finish(path)
                return
            except Mismatch as error:
                partial.restart()
                if not attempts_left:
                    raise DownloadError(
                        f"{file.name} was fetched twice from {file.url}, and what came is not the"
                        f" file that the archive lists: {error}. It was not kept. Run the same"
                        " command again later; if that fails too, look for a proxy between this"
                        " machine and the archive that changes files."
                    ) from error
                logger.warning("%s: %s; fetching it once more from its beginning", file.name, error)


class Partial:
    """The beginning of a file, as far as it has arrived; pooch writes into it like into a file."""

    def __init__(self, file: RemoteFile, path: Path, moved: Callable[[int], None]):
        self._expected, self._path, self._moved, self._answer = file, path, moved, None
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(_open_file(path), "ab", buffering=0)
        _lock(self._file, path)
        self.position = self._file.tell()
        self._moved(self.position)
        if self.position > file.size:
            self.restart()

    def answered(self, answer: Any, *_: Any, **__: Any) -> None:
        """Called with every answer of the server before its content is written."""
        self._answer = answer
        if answer.status_code == 200:  # the whole file, even if the rest was asked for
            self.restart()
        elif answer.status_code == 206 and not _begins_at(answer, self.position):
            raise Mismatch("the server sent another part than it was asked for")
        elif answer.status_code == 416:
            raise Mismatch(f"the server has less than the {self._expected.size} bytes listed")

    def write(self, data: bytes) -> None:
        if self.position + len(data) > self._expected.size:
            raise Mismatch(f"the server sent more than the {self._expected.size} bytes listed")
        rest = memoryview(data)
        with writable(self._path):
            while rest:
                written = self._file.write(rest)
                self.position += written
                self._moved(written)
                rest = rest[written:]

    def flush(self) -> None:
        """pooch calls it after every write; nothing is held back."""

    def restart(self) -> None:
        with writable(self._path):
            self._file.truncate(0)
        self._moved(-self.position)
        self.position = 0

    def finish(self, path: Path) -> None:
        """Give the file its name. Raises Mismatch when its content differs from the archive."""
        if wrong := _wrong_digest(self._expected, self._path):
            raise Mismatch(wrong)
        with writable(path):
            os.fsync(self._file.fileno())
            os.replace(self._path, path)

    def hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()

    def __enter__(self) -> "Partial":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.position:
            self._path.unlink(missing_ok=True)


def _open_file(path: Path) -> int:
    """Open a regular file to append to it, and nothing that a link or a pipe of that name leads to.

    Raises DownloadError for them.
    """
    try:
        opened = os.open(path, APPENDING | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        opened = None
    if opened is None or not stat.S_ISREG(os.fstat(opened).st_mode):
        raise DownloadError(
            f"{path} is no file but a link or a pipe, through which nothing is written. Delete it,"
            " then run the same command again."
        )
    return opened


def _receive(file: RemoteFile, partial: Partial) -> None:
    """Request the missing rest of a file until the file is complete."""
    requests, pooch = needed("requests"), needed("pooch")

    def attempt() -> None:
        if partial.position == file.size:
            return
        rest = {"Range": f"bytes={partial.position}-"} if partial.position else {}
        hooks = {"response": partial.answered}
        transfer = pooch.HTTPDownloader(
            chunk_size=CHUNK, timeout=TIMEOUT, headers=HEADERS | rest, hooks=hooks
        )
        try:
            transfer(file.url, partial, None)
        finally:
            partial.hang_up()
        if partial.position < file.size:
            raise requests.exceptions.ChunkedEncodingError("the answer ended early")

    try:
        retried(file.name, attempt, PAUSES, lambda: partial.position)
    except requests.RequestException as error:
        raise DownloadError(
            f"{file.name} could not be fetched from {file.url}: {reason(error)}."
            f" {amount(partial.position)} of {amount(file.size)} are there; run the same command"
            " again to continue from there."
        ) from error


def _begins_at(answer: Any, position: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {position}-")


def _wrong_digest(file: RemoteFile, path: Path) -> str:
    """Describe the error in the content of a file, or return an empty string."""
    algorithm, _, expected = file.digest.partition(":")
    found = needed("pooch").file_hash(str(path), alg=algorithm)
    return "" if found == expected else f"its {algorithm} is {found}, not {expected}"


def _lock(file: IO[bytes], path: Path) -> None:
    """Refuse to write a file that another process is writing, if the file system can tell."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DownloadError(
            f"another process is fetching {path.with_suffix('')}. Wait until it is done, or stop it"
            " first."
        ) from error
    except (ImportError, OSError) as error:
        logger.debug("%s cannot be locked: %s", path, error)


# --- faults that pass


def get_json(url: str) -> Any:
    """Return the parsed answer of a server. Raises requests.RequestException."""
    requests = needed("requests")

    def attempt() -> Any:
        answer = requests.get(url, headers=HEADERS, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    return retried(url, attempt, PAUSES[:2])


def retried(
    what: str,
    attempt: Callable[[], Result],
    pauses: tuple[float, ...],
    position: Callable[[], int] = int,
) -> Result:
    """Call `attempt` until it succeeds, again after faults that may pass, and return its value.

    An attempt that brought much data does not count.
    """
    requests = needed("requests")
    left = list(pauses)
    while True:
        start = position()
        try:
            return attempt()
        except requests.RequestException as error:
            if position() - start >= PROGRESS:
                left = list(pauses)
            if not left or not _may_pass(error):
                raise
            pause = min(max(left.pop(0), _pause_asked_for(error)), LONGEST_PAUSE)
            logger.warning("%s: %s; trying again in %g s", what, reason(error), pause)
            time.sleep(pause)


def _may_pass(error: Any) -> bool:
    requests = needed("requests")
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, broken)


def _pause_asked_for(error: Any) -> float:
    """Seconds of the header Retry-After."""
    seconds = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return float(seconds) if seconds.isdecimal() else 0.0


def reason(error: Any) -> str:
    """Describe the cause of a failed request in words."""
    requests = needed("requests")
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"the server was silent for {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        cause = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
        return f"no connection; is this machine online? ({cause[1] if cause else error})"
    return f"{type(error).__name__}: {error}"


def amount(num_bytes: float) -> str:
    """Format a number of bytes for people: 13.0 GB."""
    for unit in ("kB", "MB"):
        num_bytes /= 1000
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1000:,.1f} GB"
