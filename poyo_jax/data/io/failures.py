"""Sentences for files that HDF5 cannot read."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from poyo_jax.errors import PoyoError

NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextlib.contextmanager
def readable(path: Path, error_type: type[PoyoError]) -> Iterator[None]:
    """Turn every failure to read `path` into a sentence.

    A damaged file makes h5py and numpy raise errors of nearly every type.
    """
    try:
        yield
    except (PoyoError, NameError, ImportError):
        raise  # the last two are no fault of the file
    except Exception as error:
        raise error_type(reading_failed(path, error)) from error


def reading_failed(path: Path, error: Exception) -> str:
    """Say why `path` cannot be read, and what to do."""
    text, number = str(error), error_number(error)
    if "truncated" in text:
        return f"{path} is cut off ({text}); copy or download it again."
    if "signature not found" in text:
        return (
            f"{path} is not an HDF5 file, or its beginning is damaged; copy or download it again."
        )
    if number in NOT_ALLOWED:
        return f"{path} may not be read ({text}); ask its owner for permission."
    if number == errno.EAGAIN:
        return f"{path} is being written by another process; wait until that has finished."
    if number in (errno.EMFILE, errno.ENFILE):
        return (
            f"{path} could not be opened: too many files are open; raise the limit, for example"
            " `ulimit -n 65536`."
        )
    if isinstance(error, MemoryError):
        return (
            f"{path} needs more memory than there is ({text}); use a machine with more memory, or"
            " copy or download the file again if it should be small."
        )
    return (
        f"{path} could not be read ({type(error).__name__}: {text}); it may be damaged, copy or"
        " download it again."
    )


def error_number(error: BaseException | None) -> int | None:
    """Find the system's error number in an exception or in its causes.

    h5py often gives this number in the text of the message only.
    """
    while error is not None:
        if found := getattr(error, "errno", None):
            return found
        if match := re.search(r"errno = (\d+)", str(error)):
            return int(match[1])
        error = error.__cause__ or error.__context__
    return None
