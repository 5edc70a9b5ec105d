"""Open HDF5 files that may come from a stranger.

HDF5 follows links into other files, and lets a data set keep its values in other files. Here both
are refused, unless the caller allows them. No array is larger than what its file can hold.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5l, h5o, h5t  # pyright: ignore[reportAttributeAccessIssue]

from poyo_jax.errors import PoyoError

FREE = 1 << 20  # bytes that an array may declare without holding them
INFLATION = 1100  # gzip stores at least one byte for so many
OTHER_INFLATION = 1 << 16  # the same for filters other than those of h5py
BUILT_IN = frozenset({1, 2, 3, 32000})  # gzip, shuffle, checksum, lzf
MOST_HOPS = 16  # soft links that lead to each other
TEXT_BYTES = 1 << 28  # of texts that are read at once
FEW_TEXTS = 64


@dataclass(frozen=True)
class Source:
    """The file that is read, and what may be read from it."""

    path: Path
    size: int  #: bytes
    error: type[PoyoError]
    allow_links: bool = False

    def damaged(self, name: str, what: str) -> PoyoError:
        """Make the error for a member called `name`; `what` is wrong with it."""
        return self.error(
            f"{self.path}: {name} {what}; the file is damaged or was written wrongly, copy or"
            " download it again."
        )

    def outside(self, name: str, what: str) -> PoyoError:
        """Make the error for a member called `name` whose values lie in another file."""
        return self.error(
            f"{self.path}: {name} {what}, so that another file of this machine would be read. Copy"
            " the values into the file, or pass allow_links=True to Session.open or"
            " Session.from_nwb if you trust the file."
        )


class SafeGroup(h5py.Group):
    """A group that opens only members which lie in its file, unless its source allows others.

    Raises the error of its source for other members, and for arrays larger than their file can
    hold; KeyError for missing members.
    """

    def __init__(self, bind: Any, source: Source):
        super().__init__(bind)
        self.source = source

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, h5py.Reference):
            return self._safe(super().__getitem__(name))
        return self._walk(name, MOST_HOPS)

    def __contains__(self, name: Any) -> bool:
        return self.get(name) is not None

    def get(self, name: Any, default: Any = None, **options: Any) -> Any:
        """Open a member, or return the default if it is missing."""
        if options:
            return super().get(name, default, **options)
        try:
            return self[name]
        except KeyError:
            return default

    def _walk(self, path: str, hops: int) -> Any:
        place: Any = self
        if not path:
            raise KeyError("a name is empty")
        if path.startswith("/"):
            place = SafeGroup(super().__getitem__("/").id, self.source)
        for name in filter(None, path.split("/")):
            if not isinstance(place, SafeGroup):
                raise KeyError(f"{path!r} leads through a data set")
            place = place._step(name, hops)
        return place

    def _step(self, name: str, hops: int) -> Any:
        key = self._e(name)
        if not self.id.links.exists(key):
            raise KeyError(f"there is no {name!r} in {self.name}")
        kind = self.id.links.get_info(key).type
        if kind == h5l.TYPE_HARD:
            return self._safe(super().__getitem__(name))
        place = f"{str(self.name).rstrip('/')}/{name}"
        if kind == h5l.TYPE_SOFT:
            target = self._d(self.id.links.get_val(key))
            if not hops or not isinstance(target, str):
                raise self.source.damaged(place, "is a link that leads in a circle")
            try:
                return self._walk(target, hops - 1)
            except KeyError:
                raise KeyError(f"{place} is a link to {target}, which is missing") from None
        if kind != h5l.TYPE_EXTERNAL:
            raise self.source.damaged(place, "is a link of an unknown kind")
        if not self.source.allow_links:
            file, _ = self.id.links.get_val(key)
            raise self.source.outside(
                place, f"is a link to the file {file.decode(errors='replace')}"
            )
        return self._safe(super().__getitem__(name))

    def _safe(self, member: Any) -> Any:
        source = self.source
        if source.allow_links:
            path = Path(member.file.filename)
            source = replace(source, path=path, size=path.stat().st_size)
        if isinstance(member, h5py.Group):
            return SafeGroup(member.id, source)
        if isinstance(member, h5py.Dataset):
            check_data_set(member, source)
        return member


def safe_root(file: h5py.File, source: Source) -> SafeGroup:
    """The root group of an open file."""
    return SafeGroup(file["/"].id, source)


def address(member: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """Return numbers of the file and of the place in it, which are the same for every link."""
    info = h5o.get_info(member.id)
    return info.fileno, info.addr


def lies_outside(data_set: h5py.Dataset) -> bool:
    """True if the data set keeps its values in other files."""
    properties = data_set.id.get_create_plist()
    return properties.get_layout() == h5d.VIRTUAL or properties.get_external_count() > 0


def is_plain(data_set: h5py.Dataset) -> bool:
    """True if the bytes of the numbers in the file are those of numpy's type."""
    return data_set.id.get_type() == h5t.py_create(data_set.dtype)


def subgroups(group: SafeGroup, prefix: str) -> Iterator[tuple[str, SafeGroup]]:
    """Yield (path, group) for every group below a group, each once; links are not followed."""
    seen = {address(group)}
    waiting = [(prefix, group)]
    while waiting:
        parent, place = waiting.pop()
        below = []
        for name in place:
            key = place._e(name)
            if place.id.links.get_info(key).type != h5l.TYPE_HARD:
                continue
            info = h5o.get_info(place.id, key)
            at = (info.fileno, info.addr)
            if info.type == h5o.TYPE_GROUP and at not in seen:
                seen.add(at)
                below.append((f"{parent}/{name}", place[name]))
        if place is not group:
            yield parent, place
        waiting.extend(reversed(below))


# --- sizes


def check_data_set(data_set: h5py.Dataset, source: Source) -> None:
    """Refuse a data set whose values lie outside its file, or are more than its file can hold."""
    name = str(data_set.name)
    if lies_outside(data_set):
        if not source.allow_links:
            raise source.outside(name, "keeps its values in other files")
        _check_outside(data_set, source)
        return
    if data_set.shape is None:
        raise source.damaged(name, "is an array without a shape")
    properties = data_set.id.get_create_plist()
    needed = math.prod(data_set.shape) * data_set.id.get_type().get_size()
    if data_set.chunks:
        chunk = math.prod(data_set.chunks) * data_set.id.get_type().get_size()
        needed = max(needed, chunk)
    if needed <= FREE:
        return
    held = min(data_set.id.get_storage_size(), source.size) * _inflation(properties)
    if needed > max(held, FREE):
        raise source.damaged(
            name, f"should have {needed:,} bytes, but the file holds at most {held:,}"
        )


def _inflation(properties: Any) -> int:
    """Bound how many bytes one stored byte can become."""
    filters = {properties.get_filter(row)[0] for row in range(properties.get_nfilters())}
    if not filters:
        return 1
    return INFLATION if filters <= BUILT_IN else OTHER_INFLATION


def _check_outside(data_set: h5py.Dataset, source: Source) -> None:
    """Refuse values in files that are missing or too short; HDF5 would read zeros."""
    name = str(data_set.name)
    held = 0
    if data_set.is_virtual:
        for file in _virtual_files(data_set, source):
            held += OTHER_INFLATION * _size_of(file, name, source)
    else:
        properties = data_set.id.get_create_plist()
        for row in range(properties.get_external_count()):
            file, offset, length = properties.get_external(row)
            size = _size_of(Path(os.fsdecode(file)), name, source)
            held += min(size - offset, length)
    needed = math.prod(data_set.shape) * data_set.dtype.itemsize
    if needed > held:
        raise source.error(
            f"{source.path}: {name} should have {needed:,} bytes, but the files in which it keeps"
            f" its values hold at most {held:,}; copy them again."
        )


def _size_of(file: Path, name: str, source: Source) -> int:
    if not file.is_file():
        raise source.error(
            f"{source.path}: {name} keeps its values in {file}, which does not exist; put that file"
            " there."
        )
    return file.stat().st_size


def _virtual_files(data_set: h5py.Dataset, source: Source) -> list[Path]:
    """List the files of a virtual data set, and refuse one with gaps, where HDF5 reads zeros."""
    files, mapped = [], 0
    for part in data_set.virtual_sources():
        mapped += part.vspace.get_select_npoints()
        path = source.path.parent / part.file_name
        if part.file_name == ".":
            path = source.path
        files.append(path)
        if path.is_file():
            with h5py.File(path, "r") as file:
                if part.dset_name not in file:
                    raise source.error(
                        f"{source.path}: {data_set.name} takes values from {part.dset_name} in"
                        f" {path}, which is not there."
                    )
    if mapped < math.prod(data_set.shape):
        raise source.error(
            f"{source.path}: {data_set.name} has {data_set.size} values, of which other files give"
            f" {mapped}; write it anew."
        )
    return files


# --- attributes and texts


def read_attributes(group: h5py.Group, source: Source) -> dict[str, Any]:
    """Read the attributes of a group. Refuses attributes larger than the file."""
    values = {}
    for name in group.attrs:
        needed = h5a.get_info(group.id, group._e(name)).data_size
        if needed > source.size:
            raise source.damaged(f"attribute {name} of {group.name}", f"has {needed:,} bytes")
        values[name] = group.attrs[name]
    return values


def read_texts(data_set: h5py.Dataset, source: Source) -> np.ndarray:
    """Read texts of any length as an array of str.

    Refuses more text than the file can hold: many entries may point to the same text.
    """
    if not data_set.ndim:
        return np.asarray(data_set.asstr()[()], object)
    texts = np.empty(data_set.shape, object)
    step = max(FEW_TEXTS, TEXT_BYTES // max(source.size, 1))
    length = 0
    for start in range(0, len(data_set), step):
        piece = np.asarray(data_set.asstr()[start : start + step], object)
        texts[start : start + step] = piece
        length += sum(map(len, piece.flat))
        if length > max(source.size, FREE):
            raise source.damaged(
                str(data_set.name), f"has more text than the file's {source.size:,} bytes"
            )
    return texts
