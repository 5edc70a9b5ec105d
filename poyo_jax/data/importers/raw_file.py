"""Read raw recordings from HDF5 files.

Errors name the file, the field, the value in it, and the expected value.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from poyo_jax.data.io.failures import readable
from poyo_jax.data.io.hdf5 import SafeGroup, Source, safe_root
from poyo_jax.errors import RawDataError, suggest
from poyo_jax.files import local_path

# The first bytes of files that are often taken for HDF5, and what to do with them.
OTHER_FORMATS = (
    (b"MATLAB 5.0 MAT-file", "a MATLAB file of version 5 to 7; use Session.from_matlab"),
    (b"\x93NUMPY", "an array of numpy; load it, and use Session.from_arrays"),
    (b"PK\x03\x04", "a zip archive (.npz, .zip, .nwb.zarr.zip); unpack it first"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
)


class RawFile:
    """An HDF5 file open for reading. Make one with `open_raw`."""

    def __init__(self, path: Path, file: SafeGroup):
        self.path, self.file = path, file

    def wrong(self, field: str, found: object, expected: str) -> RawDataError:
        """Make the error for a field of the file that is `found` instead of `expected`."""
        return RawDataError(f"{self.path.name}: {field} is {found}; expected {expected}.")

    def has(self, field: str) -> bool:
        return field in self.file

    def data_set(self, field: str) -> h5py.Dataset:
        """The data set called `field`; raises RawDataError when there is none."""
        member = self.file.get(field)
        if not isinstance(member, h5py.Dataset):
            parent, _, name = field.rpartition("/")
            group = self.file.get(parent) if parent else self.file
            names = [str(name) for name in group] if isinstance(group, h5py.Group) else []
            raise self.wrong(
                field,
                "missing",
                f"a data set ({parent or 'the file'} holds {', '.join(names) or 'nothing'})"
                + suggest(name, names).rstrip("?"),
            )
        return member

    def at(self, reference: h5py.Reference, field: str) -> h5py.Dataset:
        """The data set behind a reference, which `field` holds."""
        member = self.file[reference]
        if not isinstance(member, h5py.Dataset):
            raise self.wrong(field, "a reference to no data set", "a reference to one")
        return member

    def array(
        self, field: str, shape: tuple[int | None, ...], *, finite: bool = False
    ) -> np.ndarray:
        """Numbers as float64 or integers as they are; `None` in the shape stands for any length.

        Raises RawDataError when the field is missing, is not numeric, has another shape, or with
        `finite` holds NaN.
        """
        data_set = self.data_set(field)
        if data_set.dtype.kind not in "biuf":
            raise self.wrong(field, f"of type {data_set.dtype}", "numbers")
        fits = len(shape) == data_set.ndim and all(
            length in (None, found) for length, found in zip(shape, data_set.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise self.wrong(field, f"an array of shape {data_set.shape}", f"shape ({wanted})")
        values = data_set[()]
        if values.dtype.kind == "f":
            values = values.astype(np.float64, copy=False)
            if finite and not np.isfinite(values).all():
                place = np.argwhere(~np.isfinite(values))[0].tolist()
                raise self.wrong(f"{field}{place}", values[tuple(place)], "finite numbers")
        return values

    def times(self, field: str, count: int | None = None, *, in_order: bool = True) -> np.ndarray:
        """Read finite time stamps [count] in s.

        They must not decrease, unless `in_order` is False.
        """
        times = self.array(field, (count,), finite=True).astype(np.float64, copy=False)
        if in_order and (wrong := np.diff(times) < 0).any():
            row = int(np.argmax(wrong))
            raise self.wrong(
                f"{field}[{row + 1}]", f"{times[row + 1]} s after {times[row]} s", "times in order"
            )
        return times

    def text(self, field: str) -> str:
        value = self.data_set(field)[()]
        if not isinstance(value, bytes | str):
            raise self.wrong(field, f"a {type(value).__name__}", "a text")
        return value.decode() if isinstance(value, bytes) else value

    def texts(self, field: str) -> list[str]:
        data_set = self.data_set(field)
        if not h5py.check_string_dtype(data_set.dtype) or data_set.ndim != 1:
            raise self.wrong(
                field, f"of type {data_set.dtype} and shape {data_set.shape}", "a column of texts"
            )
        return [str(text) for text in data_set.asstr()[()]]

    def ends(self, field: str, count: int) -> np.ndarray:
        """Read the ends [rows] (int64) of the rows of a ragged column with `count` values."""
        ends = self.array(f"{field}_index", (None,)).astype(np.int64)
        if len(ends) and (ends[-1] != count or ends[0] < 0 or (np.diff(ends) < 0).any()):
            found = f"{len(ends)} ends between {ends.min()} and {ends.max()}"
            raise self.wrong(f"{field}_index", found, f"ends that never decrease, the last {count}")
        return ends


def need_file(path: Path) -> None:
    """Raise RawDataError unless there is a file at this path."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RawDataError(f"{path} {what}; pass the path of a raw file.")


def other_format(path: Path) -> str | None:
    """Say which known format other than HDF5 a file has, and what reads it; None if it has none."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return None  # whoever reads the file says why it cannot be read
    for beginning, told in OTHER_FORMATS:
        if start.startswith(beginning):
            return f"{path} is {told}."
    return None


@contextlib.contextmanager
def open_raw(path: str | Path, *, allow_links: bool = False) -> Iterator[RawFile]:
    """Open a raw HDF5 file (NWB, or MATLAB 7.3).

    With `allow_links` its arrays may lie in other files. Raises RawDataError when the file is
    missing, cut off, damaged, or has another format, and when what is read lies in another file
    without being allowed to.
    """
    path = local_path(path)
    need_file(path)
    if told := other_format(path):
        raise RawDataError(f"{told} Expected an HDF5 file, such as NWB.")
    source = Source(path, path.stat().st_size, RawDataError, allow_links)
    with readable(path, RawDataError), h5py.File(path, "r") as file:
        yield RawFile(path, safe_root(file, source))
