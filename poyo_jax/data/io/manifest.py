"""Cache the structure of a folder's session files, so that thousands of them open within seconds.

`<folder>/.sessions.json` keeps the groups, attributes and text of every file and where its arrays
lie, and thereby remembers that HDF5 can read the file. An entry counts only while size and
modification time of the file are those it was made from.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.io.lazy_arrays import StoredArray, StoredFile
from poyo_jax.data.io.trial import Trial, sound
from poyo_jax.data.session import Session
from poyo_jax.errors import PoyoError, SessionError
from poyo_jax.files import write_text

NAME = ".sessions.json"
VERSION = 2
START = '"sessions":'  # of the entries in the text; their digest stands before it
MOST_FAULTS = 5


def open_with_manifest(folder: Path, paths: Sequence[Path]) -> list[Session]:
    """Open session files below `folder` by its manifest; new and changed files are added to it.

    Where the folder may not be written the manifest is left as it is. Raises SessionError, which
    names the files that cannot be opened, after all others have been added.
    """
    opened = list(read_sessions(folder, paths))
    sessions = [result for result in opened if isinstance(result, Session)]
    faults = [str(result) for result in opened if isinstance(result, SessionError)]
    if len(faults) > 1:
        more = f"\nand {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        listed = "\n".join(faults[:MOST_FAULTS])
        raise SessionError(
            f"{len(faults)} of {len(paths)} session files cannot be opened:\n{listed}{more}"
        )
    if faults:
        raise SessionError(faults[0])
    return sessions


def read_sessions(folder: Path, paths: Iterable[Path]) -> Iterator[Session | SessionError]:
    """Open session files by the manifest of `folder`, one after the other.

    Yields the error of a file that cannot be opened. A file that was never opened is first read in
    a child process, since HDF5 hangs or crashes on some damaged files.
    """
    manifest = _Manifest(folder)
    try:
        with Trial() as trial:
            for path in paths:
                result: Session | SessionError
                try:
                    result = Session(manifest.tree(path, trial), path.absolute())
                except SessionError as error:
                    result = error
                yield result
    finally:
        manifest.save()


def make_entry(path: Path, tree: Node) -> dict[str, Any]:
    """Make the entry of a file; its tree is None when JSON cannot hold an attribute or array."""
    encoded = None
    with contextlib.suppress(TypeError):
        encoded = _encode(tree)
    return {"version": _version(StoredFile.of(path)), "tree": encoded}


def _version(file: StoredFile) -> list[int]:
    return [file.size, file.modified]


class _Manifest:
    """The manifest of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries = _load(folder)
        self.changed = False

    def tree(self, path: Path, trial: Trial) -> Node:
        """Read the tree of a file, from the manifest if it is there.

        Raises SessionError when the file cannot be read.
        """
        key = str(path.relative_to(self.folder))
        file = StoredFile.of(path.absolute())
        entry = self.entries.get(key)
        if entry is None or entry["version"] != _version(file):
            entry = None if file in sound else trial.read(path)
            if entry is None:
                entry = make_entry(path, read_tree(path, eager_bytes=0))
            sound.add(file)
            self.entries[key] = entry
            self.changed = True
        if entry["tree"] is None:
            return read_tree(path, eager_bytes=0)
        return _decode(entry["tree"], file, "")

    def save(self) -> None:
        """Write the manifest if it has changed, and the folder may be written."""
        if not self.changed:
            return
        names = [name for name in self.entries if (self.folder / name).exists()]
        present = {name: self.entries[name] for name in names}
        text = json.dumps(present, separators=(",", ":"))
        head = f'{{"format":{VERSION},"digest":"{_digest(text)}",'
        with contextlib.suppress(PoyoError):
            write_text(self.folder / NAME, f"{head}{START}{text}}}")


def _load(folder: Path) -> dict[str, Any]:
    """Read the entries of a manifest; none if it is missing, damaged, or of an old format."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        content = json.loads(text)
        entries = text[text.index(START) + len(START) : -1]
        as_written = content["format"] == VERSION and content["digest"] == _digest(entries)
        return content["sessions"] if as_written else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(node: Node) -> list[Any]:
    """Encode a node as [kind, attributes, groups, arrays in the file, arrays in memory].

    Raises TypeError for a value that JSON cannot hold.
    """
    groups, stored, in_memory = {}, {}, {}
    for name, member in node.members.items():
        if isinstance(member, Node):
            groups[name] = _encode(member)
        elif isinstance(member, StoredArray):
            stored[name] = [member.dtype.str, member.offset, *member.shape]
        else:
            in_memory[name] = _encode_array(member)
    attrs = {name: _encode_attribute(value) for name, value in node.attrs.items()}
    return [node.kind, attrs, groups, stored, in_memory]


def _decode(entry: list[Any], file: StoredFile, path: str) -> Node:
    kind, attrs, groups, stored, in_memory = entry
    members: dict[str, Any] = {}
    for name, group in groups.items():
        members[name] = _decode(group, file, f"{path}/{name}")
    for name, (code, offset, *shape) in stored.items():
        dtype = np.dtype(code)
        members[name] = StoredArray(file, f"{path}/{name}", tuple(shape), dtype, offset)
    for name, array in in_memory.items():
        members[name] = _decode_array(*array)
    attrs = {name: _decode_attribute(value) for name, value in attrs.items()}
    return Node(kind, attrs, dict(sorted(members.items())))  # the order in which HDF5 lists them


def _encode_array(array: np.ndarray) -> list[Any]:
    """Encode text, and arrays without entries; everything else stays in the file."""
    if array.dtype.kind not in "OUS" and array.size:
        raise TypeError(f"an array of type {array.dtype} is not kept in the manifest")
    values = array
    if array.dtype.kind == "S":
        values = np.char.decode(array, "ascii")
    flat = [_encode_value(value) for value in values.ravel().tolist()]
    return [array.dtype.str, list(array.shape), flat]


def _decode_array(dtype: str, shape: list[int], values: list[Any]) -> np.ndarray:
    return np.array(values, np.dtype(dtype)).reshape(shape)


def _encode_attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": _encode_array(value)}
    return _encode_value(value.item() if isinstance(value, np.generic) else value)


def _encode_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} is not kept in the manifest")


def _decode_attribute(value: Any) -> Any:
    return _decode_array(*value["array"]) if isinstance(value, dict) else value
