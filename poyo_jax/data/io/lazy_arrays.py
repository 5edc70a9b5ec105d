"""Arrays of HDF5 files that are mapped or read chunk by chunk on first use."""

import functools
import math
import mmap
import os
import resource
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from poyo_jax.data.io.failures import readable
from poyo_jax.errors import SessionError

# Smaller arrays are read whole; larger arrays are mapped, or read chunk by chunk.
EAGER_BYTES = 1 << 14
CACHED_CHUNKS = 1024  # chunks of compressed arrays in memory, 64 KiB each in our files
MANY_CHUNKS = 64  # a read of at least so many chunks bypasses the cache
OPEN_FILES = 32  # files with compressed arrays that stay open


class StoredFile(NamedTuple):
    """One version of a file."""

    path: Path
    size: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> "StoredFile":
        """The version that is there now. Raises SessionError when there is none."""
        with readable(path, SessionError):
            stat = os.stat(path)
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def check(self) -> None:
        """Raise SessionError unless that version is still there."""
        if StoredFile.of(self.path) != self:
            raise SessionError(f"{self.path} has changed since it was opened; open it again.")


class StoredArray:
    """The place of a numeric array in an HDF5 file.

    `offset` is the position (bytes) of a contiguous array; it is None for a chunked array.

    Raises SessionError when the file ends before the array.
    """

    __slots__ = ("_array", "dtype", "file", "name", "offset", "shape")

    def __init__(
        self,
        file: StoredFile,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        offset: int | None,
    ):
        self.file, self.name = file, name
        self.shape, self.dtype, self.offset = shape, dtype, offset
        self._array: np.ndarray | ChunkedArray | None = None
        if offset is not None and offset + self.nbytes > file.size:
            raise SessionError(
                f"{file.path} is cut off: {name} ends at byte {offset + self.nbytes} of"
                f" {file.size}; copy or download it again."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.file, self.name, self.shape, self.dtype, self.offset)
        return (StoredArray, arguments)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def open(self) -> "np.ndarray | ChunkedArray":
        """Open the array: in memory if it is small, else as a read-only map or as chunks.

        Raises SessionError when the file has changed or cannot be read.
        """
        if self._array is not None:
            return self._array
        with readable(self.file.path, SessionError):
            if self.offset is None:
                self._array = self._chunked()
            else:
                self._array = self._contiguous(self.offset)
        return self._array

    def _chunked(self) -> "np.ndarray | ChunkedArray":
        array = ChunkedArray(self.file, self.name, self.shape, self.dtype)
        return array[:] if self.nbytes < EAGER_BYTES else array

    def _contiguous(self, offset: int) -> np.ndarray:
        count = math.prod(self.shape)
        if self.nbytes < EAGER_BYTES:
            self.file.check()
            flat = np.fromfile(self.file.path, self.dtype, count, offset=offset)
        else:
            flat = np.frombuffer(_file_map(self.file), self.dtype, count, offset)
        return flat.reshape(self.shape)


class ChunkedArray:
    """A compressed array of a file.

    Indices, slices and `np.asarray` decompress only the chunks that they need. They raise
    SessionError when a chunk is damaged.
    """

    def __init__(self, file: StoredFile, name: str, shape: tuple[int, ...], dtype: np.dtype):
        self.file, self.name = file, name
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        chunks = _data_set(file, name).chunks
        self._rows = chunks[0] if chunks else shape[0]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Read an item, a slice with step 1, or the rows at an array of indices."""
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            return self._range(start, max(start, stop))
        if np.ndim(key) == 0:
            row = int(key) + (len(self) if key < 0 else 0)
            return self._chunk(row // self._rows)[row % self._rows]
        rows = np.asarray(key, np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        chunks = rows // self._rows
        for number in np.unique(chunks):
            here = chunks == number
            chunk = self._chunk(int(number))
            values[here] = chunk[rows[here] % self._rows]
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(_read(self.file, self.name, ()), dtype)

    def _range(self, start: int, stop: int) -> np.ndarray:
        first, last = start // self._rows, (stop - 1) // self._rows
        if stop <= start or last - first >= MANY_CHUNKS:
            return _read(self.file, self.name, slice(start, stop))
        chunks = [self._chunk(number) for number in range(first, last + 1)]
        base = first * self._rows
        return np.concatenate(chunks)[start - base : stop - base]

    def _chunk(self, number: int) -> np.ndarray:
        start = number * self._rows
        return _read_rows(self.file, self.name, start, start + self._rows)


@functools.lru_cache(CACHED_CHUNKS)
def _read_rows(file: StoredFile, name: str, start: int, stop: int) -> np.ndarray:
    rows = _read(file, name, slice(start, stop))
    rows.flags.writeable = False
    return rows


def _read(file: StoredFile, name: str, key: Any) -> np.ndarray:
    with readable(file.path, SessionError):
        return np.asarray(_data_set(file, name)[key])


def _data_set(file: StoredFile, name: str) -> h5py.Dataset:
    data_set = _open_file(file)[name]
    assert isinstance(data_set, h5py.Dataset)
    return data_set


@functools.lru_cache(OPEN_FILES)
def _open_file(file: StoredFile) -> h5py.File:
    file.check()
    return h5py.File(file.path, "r")


_maps: "weakref.WeakValueDictionary[StoredFile, mmap.mmap]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _file_map(file: StoredFile) -> mmap.mmap:
    """The map of a whole file, one for all arrays of it; it lives as long as one of them."""
    with _lock:
        mapped = _maps.get(file)
        if mapped is None:
            file.check()
            _allow_open_files(len(_maps))
            with file.path.open("rb") as opened:  # the map keeps a descriptor of its own
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            _maps[file] = mapped
        return mapped


def _allow_open_files(mapped: int) -> None:
    """Raise the limit of open files of this process before maps use up half of it.

    The new limit is the highest one that the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 2 * mapped + 16 > soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def whole_chunks(shape: tuple[int, ...], rows: int = 8192) -> tuple[int, ...]:
    """The shape of the chunks in which an array is compressed: some rows, all columns."""
    return (min(rows, shape[0]), *shape[1:])
