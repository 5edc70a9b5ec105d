"""The HDF5 layout of processed sessions, as brainsets, temporaldata and torch_brain write it.

A file is a tree of groups, and the string attribute `object` of a group names its kind: `Data`
(groups, arrays and scalar attributes), `ArrayDict` (columns), `IrregularTimeSeries` (columns with
`timestamps`), `RegularTimeSeries` (columns with a sampling rate) or `Interval` (`start` and `end`
with further columns). Both kinds of series hold an `Interval` called `domain`.
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.data.io.lazy_arrays import EAGER_BYTES, ChunkedArray, StoredArray, StoredFile
from poyo_jax.errors import SessionError, suggest
from poyo_jax.files import local_path

# Written by temporaldata <= 0.1.3; the *_domain groups hold the same.
SPLIT_MASKS = frozenset({"train_mask", "valid_mask", "test_mask"})
DEFAULT_TIMEKEYS = {"IrregularTimeSeries": ["timestamps"], "Interval": ["start", "end"]}
SECOND_INDEX = "timestamp_indices_1s"  # search index of temporaldata, derived from the time stamps

NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass
class Node:
    """One HDF5 group: its kind, attributes, arrays and sub-groups.

    The attributes `object` and `_unicode_keys` are not among `attrs`.
    """

    kind: str
    attrs: dict[str, Any] = field(default_factory=dict)
    members: dict[str, "Node | np.ndarray | StoredArray"] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """The array called `name`, as an array. Raises SessionError when there is none."""
        return np.asanyarray(self.lazy_column(name))

    def lazy_column(self, name: str) -> np.ndarray | ChunkedArray:
        """The array called `name`; one that is compressed in a file is read piece by piece."""
        array = self.members.get(name)
        if array is None or isinstance(array, Node):
            names = [key for key, member in self.members.items() if not isinstance(member, Node)]
            raise SessionError(
                f"a group of kind {self.kind} has no array {name!r}, only"
                f" {', '.join(names) or 'none'}; the file is damaged or was written"
                f" wrongly.{suggest(name, names)}"
            )
        return array.open() if isinstance(array, StoredArray) else array

    def group(self, name: str) -> "Node":
        """The group called `name`. Raises SessionError when there is none."""
        member = self.members.get(name)
        if not isinstance(member, Node):
            names = [key for key, member in self.members.items() if isinstance(member, Node)]
            raise SessionError(
                f"there is no group {name!r}, only"
                f" {', '.join(names) or 'none'}.{suggest(name, names)}"
            )
        return member

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Node"]]:
        """Yield (dotted path, node) for every group below this one."""
        for name, member in self.members.items():
            if isinstance(member, Node):
                yield prefix + name, member
                yield from member.walk(f"{prefix}{name}.")


# --- reading


def read_tree(path: str | Path, eager_bytes: int = EAGER_BYTES) -> Node:
    """Read a session file; arrays of `eager_bytes` or more stay in the file until they are used.

    The second index and the split masks of old files are left out, text is decoded to str. Raises
    SessionError when the file is missing, cut off, or not of this layout.
    """
    path = local_path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SessionError(f"session file {path} {what}; pass the path of one .h5 file.")
    try:
        with h5py.File(path, "r") as file:
            if "object" not in file.attrs:
                raise SessionError(
                    f"{path} is an HDF5 file but not a session: its root has no attribute 'object'."
                    " Convert it with a script of data_prep, or build it with Session.from_nwb,"
                    " Session.from_matlab (version 7.3) or Session.from_arrays."
                )
            return _read_group(file, StoredFile.of(path.absolute()), eager_bytes)
    except SessionError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SessionError(reading_failed(path, error)) from error


def _read_group(group: h5py.Group, file: StoredFile, eager_bytes: int) -> Node:
    attrs: dict[str, Any] = dict(group.attrs)
    kind = _text(attrs.pop("object", "Data"))
    text_columns = {_text(name) for name in attrs.pop("_unicode_keys", ())}
    dropped = SPLIT_MASKS | ({SECOND_INDEX} if kind == "IrregularTimeSeries" else set())
    members: dict[str, Node | np.ndarray | StoredArray] = {}
    for name in group:
        member = group[name]
        if not isinstance(name, str) or not isinstance(member, h5py.Group | h5py.Dataset):
            raise TypeError(f"{name!r} in {group.name} is neither a group nor a data set")
        if isinstance(member, h5py.Group):
            members[name] = _read_group(member, file, eager_bytes)
        elif name not in dropped:
            array = _read_array(member, file, eager_bytes)
            members[name] = array
            if name in text_columns and isinstance(array, np.ndarray) and array.dtype.kind == "S":
                members[name] = np.char.decode(array, "ascii")
    if [_text(key) for key in attrs.get("timekeys", ())] == DEFAULT_TIMEKEYS.get(kind):
        del attrs["timekeys"]  # nothing new, and written again
    return Node(kind, attrs, members)


def _read_array(
    data_set: h5py.Dataset, file: StoredFile, eager_bytes: int
) -> np.ndarray | StoredArray:
    if data_set.dtype.kind == "O" and h5py.check_string_dtype(data_set.dtype):
        return np.asarray(data_set.asstr()[()], object)
    nbytes = data_set.size * data_set.dtype.itemsize if data_set.size else 0
    if (
        not nbytes
        or nbytes < eager_bytes
        or data_set.dtype.kind not in "biuf"
        or data_set.ndim == 0
        or data_set.external
    ):
        return np.asarray(data_set[()])
    offset = data_set.id.get_offset()  # None when the data set is chunked or compact
    return StoredArray(file, str(data_set.name), data_set.shape, data_set.dtype, offset)


def reading_failed(path: Path, error: Exception) -> str:
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


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
