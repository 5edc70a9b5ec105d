"""Writing files so that they are there whole or not at all."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from poyo_jax.errors import PoyoError


def write_text(path: epath.PathLike, text: str) -> None:
    """Write a text file atomically, and create its folder.

    Raises PoyoError when the disk is full or the file may not be written.
    """
    path = epath.Path(path)
    partial = path.parent / f"{path.name}.partial"
    with writable(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


def append_text(path: epath.PathLike, text: str) -> None:
    """Append to a text file.

    Raises PoyoError when the disk is full or the file may not be written.
    """
    path = epath.Path(path)
    if in_bucket(path):  # which only takes whole files
        write_text(path, (path.read_text(encoding="utf-8") if path.exists() else "") + text)
        return
    with writable(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def local_path(path: epath.PathLike) -> Path:
    """Return the path of a file of this machine; ~ is the home folder.

    Raises PoyoError for an address such as https://... or gs://...
    """
    text = os.fspath(path)
    # pathlib turns gs://lab/a.h5 into gs:/lab/a.h5.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise PoyoError(
            f"{text} is an address, but sessions and recordings are files of this machine here;"
            " download it first (or save, then upload), and pass a local path."
        )
    return Path(os.path.expanduser(text))


def in_bucket(path: epath.PathLike) -> bool:
    """True if a path is an address such as gs://lab/run."""
    return "://" in str(path)


@contextlib.contextmanager
def writable(path: epath.PathLike) -> Iterator[None]:
    """Turn a failure to write `path` into a sentence."""
    try:
        yield
    except OSError as error:
        raise PoyoError(
            f"{path} cannot be written ({error.strerror or error}). Check that the disk has space"
            " and that you may write there, or choose another folder."
        ) from error
