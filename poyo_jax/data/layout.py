"""The HDF5 layout of processed sessions, as brainsets, temporaldata and torch_brain write it.

A file is a tree of groups, and the string attribute `object` of a group names its kind: `Data` (groups, arrays and
scalar attributes), `ArrayDict` (columns), `IrregularTimeSeries` (columns with `timestamps`), `RegularTimeSeries`
(columns with a sampling rate) or `Interval` (`start` and `end` with further columns). Both kinds of series hold an
`Interval` called `domain`.
"""

import errno
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.errors import SessionError, suggest

EAGER_BYTES = 1 << 14  # smaller data sets are read when the file is opened, larger ones are mapped
SPLIT_MASKS = frozenset(
    {"train_mask", "valid_mask", "test_mask"}
)  # temporaldata <= 0.1.3; the *_domain groups say it all
SECOND_INDEX = "timestamp_indices_1s"  # search index of temporaldata, derived from the time stamps
DEFAULT_TIMEKEYS = {"IrregularTimeSeries": ["timestamps"], "Interval": ["start", "end"]}
KINDS_WITH_UNICODE_KEYS = frozenset({"ArrayDict", "IrregularTimeSeries", "Interval"})

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass
class Node:
    """One group: its kind, its attributes (without `object` and `_unicode_keys`), and its arrays and sub-groups."""

    kind: str
    attrs: dict[str, Any] = field(default_factory=dict)
    members: dict[str, "Node | np.ndarray"] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """The array called `name`. Raises SessionError when there is none."""
        array = self.members.get(name)
        if not isinstance(array, np.ndarray):
            names = [key for key, member in self.members.items() if isinstance(member, np.ndarray)]
            raise SessionError(
                f"a group of kind {self.kind} has no array {name!r}, only {', '.join(names) or 'none'}; "
                f"the file is damaged or was written wrongly.{suggest(name, names)}"
            )
        return array

    def group(self, name: str) -> "Node":
        """The group called `name`. Raises SessionError when there is none."""
        member = self.members.get(name)
        if not isinstance(member, Node):
            names = [key for key, member in self.members.items() if isinstance(member, Node)]
            raise SessionError(f"there is no group {name!r}, only {', '.join(names) or 'none'}.{suggest(name, names)}")
        return member

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Node"]]:
        """Yield (dotted path, node) for every group below this one."""
        for name, member in self.members.items():
            if isinstance(member, Node):
                yield prefix + name, member
                yield from member.walk(f"{prefix}{name}.")


# ------------------------------------------------------------------------------------------------------ reading


def read_tree(path: str | Path) -> Node:
    """Read a file: small and text data sets into memory, all others as read-only views of one memory map of the file.

    HDF5 closes the file again; the map keeps one file descriptor as long as an array of it lives. The second index and
    the split masks of old files are left out, text is decoded to str. Raises SessionError when the file is missing,
    cut off, or not of this layout.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SessionError(f"session file {path} {what}; pass the path of one .h5 file.")
    try:
        with h5py.File(path, "r") as file:
            if "object" not in file.attrs:
                raise SessionError(
                    f"{path} is an HDF5 file but not a session: its root has no attribute 'object'. "
                    "Convert it with a script of data_prep, or build it with Session.from_arrays."
                )
            return _read_group(file, _FileMap(path))
    except SessionError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SessionError(reading_failed(path, error)) from error


class _FileMap:
    """A memory map of a whole file, made when the first large data set asks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes: np.memmap | None = None

    def view(self, data_set: h5py.Dataset, offset: int) -> np.ndarray:
        """The values of a contiguous data set, read-only and not yet read."""
        stop = offset + data_set.size * data_set.dtype.itemsize
        if self.bytes is None:
            self.bytes = np.memmap(self.path, np.uint8, mode="r")
        return self.bytes[offset:stop].view(data_set.dtype).reshape(data_set.shape)


def _read_group(group: h5py.Group, file_map: _FileMap) -> Node:
    attrs: dict[str, Any] = dict(group.attrs)
    kind = _text(attrs.pop("object", "Data"))
    text_columns = {_text(name) for name in attrs.pop("_unicode_keys", ())}
    dropped = SPLIT_MASKS | ({SECOND_INDEX} if kind == "IrregularTimeSeries" else set())
    members: dict[str, Node | np.ndarray] = {}
    for name in group:
        member = group[name]
        if not isinstance(name, str) or not isinstance(member, h5py.Group | h5py.Dataset):
            raise TypeError(f"{name!r} in {group.name} is neither a group nor a data set")
        if isinstance(member, h5py.Group):
            members[name] = _read_group(member, file_map)
        elif name not in dropped:
            array = _read_array(member, file_map)
            is_text = name in text_columns and array.dtype.kind == "S"
            members[name] = np.char.decode(array, "ascii") if is_text else array
    return Node(kind, attrs, members)


def _read_array(data_set: h5py.Dataset, file_map: _FileMap) -> np.ndarray:
    if data_set.dtype.kind == "O" and h5py.check_string_dtype(data_set.dtype):
        return np.asarray(data_set.asstr()[()], object)
    offset = data_set.id.get_offset()  # None when the data set is chunked, compact or empty
    nbytes = data_set.size * data_set.dtype.itemsize if data_set.size else 0
    if offset is None or data_set.external or data_set.dtype.kind not in "biuf" or nbytes < EAGER_BYTES:
        return np.asarray(data_set[()])
    return file_map.view(data_set, offset)


def reading_failed(path: Path, error: Exception) -> str:
    text, number = str(error), _errno(error)
    if "truncated" in text:
        return f"{path} is cut off ({text}); copy or download it again."
    if "signature not found" in text:
        return f"{path} is not an HDF5 file, or its beginning is damaged; copy or download it again."
    if number in NOT_ALLOWED:
        return f"{path} may not be read ({text}); ask its owner for permission."
    if number == errno.EAGAIN:
        return f"{path} is being written by another process; wait until that has finished."
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{path} could not be opened: too many files are open; raise the limit, for example `ulimit -n 65536`."
    return f"{path} could not be read ({type(error).__name__}: {text}); it may be damaged, copy or download it again."


# ------------------------------------------------------------------------------------------------------ writing


def write_tree(path: str | Path, node: Node) -> None:
    """Write a tree so that temporaldata and torch_brain open it. The file appears whole or not at all.

    Raises SessionError when the folder is missing or read-only, the disk is full, or HDF5 cannot hold an array; then an
    older file of that name is as it was.
    """
    path = Path(path)
    if path.is_dir():
        raise SessionError(f"{path} is a folder; pass the name of a file, for example {path / 'session.h5'}.")
    if not path.parent.is_dir():
        raise SessionError(f"cannot write {path}: the folder {path.parent} does not exist; create it first.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write_bytes(temporary, _file_image(node))
        os.replace(temporary, path)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SessionError(_writing_failed(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _file_image(node: Node) -> memoryview:
    """The bytes of the file, made in memory because HDF5 can crash the process when a disk fills up under it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _write_group(file, node)
    return buffer.getbuffer()


def _write_group(group: h5py.Group, node: Node) -> None:
    group.attrs["object"] = node.kind
    for name, value in node.attrs.items():
        _write_attribute(group, name, value)
    if node.kind in DEFAULT_TIMEKEYS and "timekeys" not in node.attrs:
        group.attrs["timekeys"] = np.array(DEFAULT_TIMEKEYS[node.kind], "S")
    text_columns = []
    for name, member in node.members.items():
        if isinstance(member, Node):
            _write_group(group.create_group(name), member)
        elif _write_array(group, name, member):
            text_columns.append(name)
    if node.kind in KINDS_WITH_UNICODE_KEYS:
        group.attrs["_unicode_keys"] = np.array(text_columns, "S" if text_columns else "S1")
    if node.kind == "IrregularTimeSeries" and (index := _second_index(node)) is not None:
        group.create_dataset(SECOND_INDEX, data=index)


def _write_attribute(group: h5py.Group, name: str, value: Any) -> None:
    is_text_list = isinstance(value, np.ndarray) and value.dtype.kind in "OU"
    group.attrs.create(name, value, dtype=h5py.string_dtype() if is_text_list else None)


def _write_array(group: h5py.Group, name: str, array: np.ndarray) -> bool:
    """Write one data set. Returns True when it is a text column to be listed in `_unicode_keys`."""
    if array.dtype.kind == "U" and all(text.isascii() for text in array.flat):
        group.create_dataset(name, data=np.char.encode(array, "ascii") if array.size else np.zeros(array.shape, "S1"))
        return True
    if array.dtype.kind in "OU":
        group.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
    else:
        group.create_dataset(name, data=array)
    return False


def _second_index(node: Node) -> np.ndarray | None:
    """Row of the first time stamp at or after each full second since the domain began, up to one past its end.

    None without a domain. Source: files of temporaldata 0.1.3 to 0.1.6.
    """
    domain = node.members.get("domain")
    if not isinstance(domain, Node) or not len(domain.column("start")):
        return None
    seconds = np.arange(domain.column("start")[0], domain.column("end")[-1] + 1.0, 1.0)
    return np.searchsorted(node.column("timestamps"), seconds)


def _write_bytes(path: Path, image: memoryview) -> None:
    with open(path, "wb") as file:
        file.write(image)
        file.flush()
        os.fsync(file.fileno())


def _writing_failed(path: Path, error: Exception) -> str:
    number = _errno(error)
    if number in DISK_FULL:
        return f"cannot write {path}: the disk is full or a size limit is reached; free space and save again."
    if number in NOT_ALLOWED:
        return f"cannot write {path}: the folder {path.parent} is read-only for this user; choose another folder."
    return f"cannot write {path} ({type(error).__name__}: {error}); nothing was written."


def _errno(error: BaseException | None) -> int | None:
    """The system's error number in an exception or in those it followed; h5py often gives it in the text only."""
    while error is not None:
        if found := getattr(error, "errno", None):
            return found
        if match := re.search(r"errno = (\d+)", str(error)):
            return int(match[1])
        error = error.__cause__ or error.__context__
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
