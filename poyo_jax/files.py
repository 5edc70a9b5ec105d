"""Paths that users give, and writing files so that they are there whole or not at all."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from poyo_jax.errors import MissingDependencyError, PoyoError

BUCKET = "gs"  # scheme of the addresses that runs and models may have
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
DOWNLOAD = {
    "gs": "gcloud storage cp -r {address} .",
    "s3": "aws s3 cp --recursive {address} .",
    "http": "curl -LO {address}",
    "https": "curl -LO {address}",
    "hf": "hf download {name}",
}


def local_path(path: epath.PathLike) -> Path:
    """A path on this computer, with `~` as the home folder.

    Raises PoyoError for an address (gs://, s3://, https://), for an empty path, and for a value
    that is no path.
    """
    text = _text_of(path)
    if (address := find_address(path)) is None:
        return Path(os.path.expanduser(text))
    scheme, name = address.split("://", 1)
    if scheme == "file":
        raise PoyoError(f"{address} is an address. Give the path itself, such as {name}.")
    command = DOWNLOAD.get(scheme, "").format(address=address, name=name)
    raise PoyoError(
        f"{address} is not a path on this computer, and addresses cannot be opened here. Download"
        f" it{f' ({command})' if command else ''}, or mount it as a folder, and give the path of"
        " the copy."
    )


def run_path(path: epath.PathLike) -> epath.Path:
    """The folder of a run or of a saved model: on this computer, or in a bucket (gs://lab/run).

    Raises PoyoError for another address, an empty path, and a value that is no path,
    MissingDependencyError for a bucket without gcsfs.
    """
    address = find_address(path)
    if address is None or not address.startswith(f"{BUCKET}://"):
        return epath.Path(local_path(path))
    try:
        import fsspec

        fsspec.get_filesystem_class("gcs")
    except ImportError as error:
        raise MissingDependencyError(
            f"{address} is in a bucket, which needs gcsfs, which cannot be imported"
            f" ({str(error).splitlines()[0]}); run: pip install poyo_jax[gcs], or give a folder on"
            " this computer."
        ) from error
    return epath.Path(address)


def find_address(path: epath.PathLike) -> str | None:
    """The address that a path stands for, such as gs://lab/run; None for a path of this computer.

    `pathlib.Path` keeps one slash of two, which this undoes.
    """
    text = _text_of(path)
    match = ADDRESS.fullmatch(text)
    if match is None or ("://" not in text and os.path.lexists(text)):
        return None
    scheme, name = match.groups()
    scheme = scheme.lower()
    return f"{scheme}:///{name}" if scheme == "file" else f"{scheme}://{name}"


def _text_of(path: epath.PathLike) -> str:
    """A path as text; raises PoyoError for a value that cannot be one."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        kind = type(path).__name__
        raise PoyoError(f"a path is needed, not an object of type {kind}. Give it as text.")
    if not text:
        raise PoyoError("the path is empty. Write '.' for the current folder.")
    if "\0" in text:
        raise PoyoError(f"{text!r} holds a NUL character, which no path may. Leave it out.")
    return text


def write_text(path: epath.PathLike, text: str) -> None:
    """Write a text file atomically, and create its folder.

    Raises PoyoError when the disk is full or the file may not be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Write a file atomically, and create its folder.

    Raises PoyoError when the disk is full or the file may not be written.
    """
    path = run_path(path)
    partial = path.parent / f"{path.name}.partial"
    with writable(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not in_bucket(path):
                partial.unlink(missing_ok=True)  # a link would be written through
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


def append_text(path: epath.PathLike, text: str) -> None:
    """Append to a text file.

    Raises PoyoError when the disk is full or the file may not be written.
    """
    path = run_path(path)
    if in_bucket(path):  # which only takes whole files
        write_text(path, (path.read_text(encoding="utf-8") if path.exists() else "") + text)
        return
    with writable(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


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
