"""The HDF5 layout of processed sessions, as brainsets, temporaldata and torch_brain write it.

A file is a tree of groups, and the string attribute `object` of a group names its kind: `Data`
(groups, arrays and scalar attributes), `ArrayDict` (columns), `IrregularTimeSeries` (columns with
`timestamps`), `RegularTimeSeries` (columns with a sampling rate) or `Interval` (`start` and `end`
with further columns). Both kinds of series hold an `Interval` called `domain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.data.io.failures import readable
from poyo_jax.data.io.hdf5 import (
    SafeGroup,
    Source,
    address,
    is_plain,
    lies_outside,
    read_attributes,
    read_texts,
    safe_root,
)
from poyo_jax.data.io.lazy_arrays import EAGER_BYTES, ChunkedArray, StoredArray, StoredFile
from poyo_jax.errors import SessionError, suggest
from poyo_jax.files import local_path

# Written by temporaldata <= 0.1.3; the *_domain groups hold the same.
SPLIT_MASKS = frozenset({"train_mask", "valid_mask", "test_mask"})
DEFAULT_TIMEKEYS = {"IrregularTimeSeries": ["timestamps"], "Interval": ["start", "end"]}
SECOND_INDEX = "timestamp_indices_1s"  # search index of temporaldata, derived from the time stamps
MOST_LEVELS = 32  # of groups within groups


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


@dataclass(frozen=True)
class Reader:
    """Reads the groups of one open file."""

    root: SafeGroup
    file: StoredFile
    eager_bytes: int
    groups: dict[tuple[int, int], str] = field(default_factory=dict)  # names by address
    arrays: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # in memory, by address

    def group(self, group: SafeGroup, path: str, depth: int = 0) -> Node:
        """Read a group with all that is in it; `path` leads to it from the root."""
        self._check_group(group, path, depth)
        attrs = read_attributes(group, group.source)
        kind = _text(attrs.pop("object", "Data"))
        text_columns = {_text(name) for name in np.ravel(attrs.pop("_unicode_keys", ()))}
        dropped = SPLIT_MASKS | ({SECOND_INDEX} if kind == "IrregularTimeSeries" else set())
        members: dict[str, Node | np.ndarray | StoredArray] = {}
        for name in map(str, group):
            member = group[name]
            place = f"{path}/{name}"
            if isinstance(member, SafeGroup):
                members[name] = self.group(member, place, depth + 1)
            elif not isinstance(member, h5py.Dataset):
                raise group.source.damaged(place, "is neither a group nor an array")
            elif name not in dropped:
                array = self._array(member, place, group.source)
                members[name] = array
                if name in text_columns and isinstance(array, np.ndarray):
                    members[name] = _decoded(array)
        timekeys = [_text(key) for key in np.ravel(attrs.get("timekeys", ()))]
        if timekeys == DEFAULT_TIMEKEYS.get(kind):
            del attrs["timekeys"]  # nothing new, and written again
        return Node(kind, attrs, members)

    def _check_group(self, group: SafeGroup, path: str, depth: int) -> None:
        """Refuse groups within groups without end, and a group in two places."""
        place = address(group)
        if place in self.groups:
            same = self.groups[place] or "the root"
            raise group.source.damaged(
                path, f"is the same group as {same}, but every group must have one place"
            )
        if depth > MOST_LEVELS:
            raise group.source.damaged(path, f"lies {depth} groups deep, but {MOST_LEVELS} is most")
        self.groups[place] = path

    def _array(self, data_set: h5py.Dataset, path: str, source: Source) -> np.ndarray | StoredArray:
        place = address(data_set)
        if place in self.arrays:
            return self.arrays[place]
        if self._stays_in_file(data_set, place):
            # The offset is None when the data set is chunked or compact.
            offset = data_set.id.get_offset() if is_plain(data_set) else None
            return StoredArray(self.file, path, data_set.shape, data_set.dtype, offset)
        if h5py.check_string_dtype(data_set.dtype) and data_set.dtype.kind == "O":
            array = read_texts(data_set, source)
        elif data_set.dtype.kind == "O":
            raise source.damaged(path, "holds references or lists, but must hold numbers or texts")
        else:
            array = np.asarray(data_set[()])
        self.arrays[place] = array
        return array

    def _stays_in_file(self, data_set: h5py.Dataset, place: tuple[int, int]) -> bool:
        if data_set.dtype.kind not in "biuf" or not data_set.ndim or not data_set.size:
            return False
        linked = self.root.source.allow_links
        if linked and (place[0] != address(self.root)[0] or lies_outside(data_set)):
            return False
        return data_set.size * data_set.dtype.itemsize >= self.eager_bytes


def read_tree(
    path: str | Path, eager_bytes: int = EAGER_BYTES, *, allow_links: bool = False
) -> Node:
    """Read a session file; arrays of `eager_bytes` or more stay in the file until they are used.

    The second index and the split masks of old files are left out, text is decoded to str. With
    `allow_links` arrays may lie in other files; these are read into memory. Raises SessionError
    when the file is missing, cut off, damaged, not of this layout, or has links without being
    allowed to.
    """
    path = local_path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SessionError(f"session file {path} {what}; pass the path of one .h5 file.")
    with readable(path, SessionError), h5py.File(path, "r") as file:
        if "object" not in file.attrs:
            raise SessionError(
                f"{path} is an HDF5 file but not a session: its root has no attribute 'object'."
                " Convert it with a script of data_prep, or build it with Session.from_nwb,"
                " Session.from_matlab (version 7.3) or Session.from_arrays."
            )
        stored = StoredFile.of(path.absolute())
        root = safe_root(file, Source(path, stored.size, SessionError, allow_links))
        return Reader(root, stored, eager_bytes).group(root, "")


def _decoded(array: np.ndarray) -> np.ndarray:
    return np.char.decode(array, "ascii") if array.dtype.kind == "S" else array


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
