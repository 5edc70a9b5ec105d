"""Write session files in the layout of `poyo_jax.data.io.layout`, completely or not at all."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.data.io.failures import NOT_ALLOWED, error_number
from poyo_jax.data.io.layout import DEFAULT_TIMEKEYS, SECOND_INDEX, Node
from poyo_jax.data.io.lazy_arrays import EAGER_BYTES, StoredArray, whole_chunks
from poyo_jax.data.io.trial import mark_sound
from poyo_jax.errors import SessionError
from poyo_jax.files import local_path

KINDS_WITH_UNICODE_KEYS = frozenset({"ArrayDict", "IrregularTimeSeries", "Interval"})
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
COMPRESSION = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


def write_tree(path: str | Path, node: Node, *, compress: bool = False) -> None:
    """Write a tree to a file that temporaldata and torch_brain can open.

    The file appears complete or not at all.

    With `compress` large arrays are stored in compressed chunks, which are slower to read at
    random.

    Raises SessionError when the folder is missing or read-only, the disk is full, or HDF5 cannot
    hold an array; then an older file of that name is as it was.
    """
    path = local_path(path)
    if path.is_dir():
        raise SessionError(
            f"{path} is a folder; pass the name of a file, for example {path / 'session.h5'}."
        )
    if not path.parent.is_dir():
        raise SessionError(
            f"cannot write {path}: the folder {path.parent} does not exist; create it first."
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # a link would be written through
        _write_bytes(temporary, _file_image(node, compress))
        os.replace(temporary, path)
        mark_sound(path)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SessionError(_writing_failed(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _file_image(node: Node, compress: bool) -> memoryview:
    """Make the bytes of the file in memory.

    HDF5 can crash the process if it writes to a disk that is full.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _write_group(file, node, compress)
    return buffer.getbuffer()


def _write_group(group: h5py.Group, node: Node, compress: bool) -> None:
    group.attrs["object"] = node.kind
    for name, value in node.attrs.items():
        _write_attribute(group, name, value)
    if node.kind in DEFAULT_TIMEKEYS and "timekeys" not in node.attrs:
        group.attrs["timekeys"] = np.array(DEFAULT_TIMEKEYS[node.kind], "S")
    text_columns = []
    for name, member in node.members.items():
        if isinstance(member, Node):
            _write_group(group.create_group(name), member, compress)
        elif _write_array(group, name, _in_memory(member), compress):
            text_columns.append(name)
    if node.kind in KINDS_WITH_UNICODE_KEYS:
        group.attrs["_unicode_keys"] = np.array(text_columns, "S" if text_columns else "S1")
    if node.kind == "IrregularTimeSeries" and (index := _second_index(node)) is not None:
        group.create_dataset(SECOND_INDEX, data=index)


def _write_attribute(group: h5py.Group, name: str, value: Any) -> None:
    is_text_list = isinstance(value, np.ndarray) and value.dtype.kind in "OU"
    dtype = h5py.string_dtype() if is_text_list else None
    group.attrs.create(name, value, dtype=dtype)


def _in_memory(member: np.ndarray | StoredArray) -> np.ndarray:
    return np.asarray(member.open()) if isinstance(member, StoredArray) else member


def _write_array(group: h5py.Group, name: str, array: np.ndarray, compress: bool) -> bool:
    """Write one data set. Returns True when it is a text column to be listed in `_unicode_keys`."""
    if array.dtype.kind == "U" and all(text.isascii() for text in array.flat):
        encoded = np.zeros(array.shape, "S1")
        if array.size:
            encoded = np.char.encode(array, "ascii")
        group.create_dataset(name, data=encoded)
        return True
    if array.dtype.kind in "OU":
        texts = array.astype(object)
        group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    elif compress and array.nbytes >= EAGER_BYTES:
        chunks = whole_chunks(array.shape)
        group.create_dataset(name, data=array, chunks=chunks, **COMPRESSION)
    else:
        group.create_dataset(name, data=array)
    return False


def _second_index(node: Node) -> np.ndarray | None:
    """Find the row of the first time stamp at or after each full second (s) of the domain.

    Seconds count from the start of the domain; the last one is at its end or up to 1 s later.

    None without a domain. Source: files of temporaldata 0.1.3 to 0.1.6.
    """
    domain = node.members.get("domain")
    if not isinstance(domain, Node) or not len(domain.column("start")):
        return None
    start, end = domain.column("start")[0], domain.column("end")[-1]
    seconds = np.arange(start, end + 1.0, 1.0)
    return np.searchsorted(node.column("timestamps"), seconds)


def _write_bytes(path: Path, image: memoryview) -> None:
    with open(path, "wb") as file:
        file.write(image)
        file.flush()
        os.fsync(file.fileno())


def _writing_failed(path: Path, error: Exception) -> str:
    number = error_number(error)
    if number in DISK_FULL:
        return (
            f"cannot write {path}: the disk is full or a size limit is reached; free space and save"
            " again."
        )
    if number in NOT_ALLOWED:
        return (
            f"cannot write {path}: the folder {path.parent} is read-only for this user; choose"
            " another folder."
        )
    return f"cannot write {path} ({type(error).__name__}: {error}); nothing was written."
