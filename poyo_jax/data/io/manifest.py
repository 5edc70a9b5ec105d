"""Cache the structure of a folder's session files, so that thousands of them open within seconds.

`<folder>/.sessions.json` keeps the groups, attributes and text of every file and where its arrays
lie. An entry counts only while size and modification time of the file are those it was made from.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.io.lazy_arrays import StoredArray, StoredFile
from poyo_jax.data.session import Session
from poyo_jax.errors import PoyoError
from poyo_jax.files import write_text

NAME = ".sessions.json"
VERSION = 1


def open_with_manifest(folder: Path, paths: Sequence[Path]) -> list[Session]:
    """Open session files below `folder` by its manifest; new and changed files are added to it.

    Where the folder may not be written the manifest is left as it is.
    """
    known = _load(folder)
    entries: dict[str, Any] = {}
    sessions, changed = [], False
    for path in paths:
        key = str(path.relative_to(folder))
        file = StoredFile.of(path.absolute())
        version = [file.size, file.modified]
        entry = known.get(key)
        if entry is not None and entry["version"] == version:
            tree = _decode(entry["tree"], file, "")
        else:
            changed = True
            tree = read_tree(path, eager_bytes=0)
            with contextlib.suppress(TypeError):  # of an array that the manifest cannot hold
                entry = {"version": version, "tree": _encode(tree)}
        if entry is not None:
            entries[key] = entry
        sessions.append(Session(tree, path.absolute()))
    if changed:
        _save(folder, known | entries)
    return sessions


def _load(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return content["sessions"] if content["format"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save(folder: Path, entries: dict[str, Any]) -> None:
    present = {key: entries[key] for key in entries if (folder / key).exists()}
    content = {"format": VERSION, "sessions": present}
    text = json.dumps(content, separators=(",", ":"))
    with contextlib.suppress(PoyoError):
        write_text(folder / NAME, text)


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
    flat = values.ravel().tolist()
    return [array.dtype.str, list(array.shape), flat]


def _decode_array(dtype: str, shape: list[int], values: list[Any]) -> np.ndarray:
    return np.array(values, np.dtype(dtype)).reshape(shape)


def _encode_attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": _encode_array(value)}
    return value.item() if isinstance(value, np.generic) else value


def _decode_attribute(value: Any) -> Any:
    return _decode_array(*value["array"]) if isinstance(value, dict) else value
