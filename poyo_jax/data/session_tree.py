"""Read the parts of a session from its tree of groups: ids, arrays, intervals and behaviours."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from poyo_jax.data.behaviour import check_numbers
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.lazy_arrays import ChunkedArray, StoredArray
from poyo_jax.data.io.nodes import data_node
from poyo_jax.errors import SessionError, suggest

SERIES_KINDS = ("IrregularTimeSeries", "RegularTimeSeries")
LONGEST = 1e11  # seconds that a domain or a split may span; nanoseconds of an hour are more
DAMAGED = "The file is damaged or was written wrongly."


def read_attribute(tree: Node, group: str, name: str) -> str | None:
    """Return an attribute of a group as text, None when the group or the attribute is missing.

    Raises SessionError when it is neither a text nor a whole number.
    """
    node = tree.members.get(group)
    if not isinstance(node, Node) or node.attrs.get(name) is None:
        return None
    return _text(node.attrs[name], f"the attribute {name} of {group}")


def with_id(tree: Node, name: str) -> Node:
    """Return the tree with a session id: its own, else `name`, which copies of it keep."""
    node = tree.members.get("session", data_node())
    if not isinstance(node, Node) or node.attrs.get("id"):
        return tree
    named = replace(node, attrs={**node.attrs, "id": name})
    return replace(tree, members={**tree.members, "session": named})


def _text(value: object, name: str) -> str:
    """Read a text or a whole number as text."""
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _is_unicode(value)):
        return str(value)
    raise SessionError(f"{name} is {value!r}, but must be a text (UTF-8). {DAMAGED}")


def _is_unicode(text: str) -> bool:
    """False when h5py had to escape bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_array(tree: Node, group: str, column: str, path: Path | None) -> np.ndarray | ChunkedArray:
    """Return an array that every session has. Raises SessionError when it is missing."""
    node = tree.members.get(group)
    array = node.members.get(column) if isinstance(node, Node) else None
    if not isinstance(node, Node) or not isinstance(array, np.ndarray | StoredArray):
        raise SessionError(
            f"{path or 'this tree'} is not a session: it has no {group}.{column}. A session holds"
            " spikes (timestamps, unit_index), units (id) and domain (start, end)."
        )
    return node.lazy_column(column)


def read_spikes(
    tree: Node, column: str, dtype: type, path: Path | None
) -> np.ndarray | ChunkedArray:
    """Return a column of the spikes; it stays in its file when it has this dtype there.

    Raises SessionError when it does not hold numbers, has another rank, or has to hold whole
    numbers and does not.
    """
    array = read_array(tree, "spikes", column, path)
    name = f"{path or 'this tree'}: spikes.{column}"
    check_numbers(array, name)
    if array.dtype == dtype:
        return array
    stored = np.asarray(array)
    with np.errstate(invalid="ignore", over="ignore"):
        values = stored.astype(dtype)
        wrong = values != stored
    if dtype is np.int64 and wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"{name}[{row}] is {stored[row]}, but must be a whole number, the position of a unit."
            f" {DAMAGED}"
        )
    return values


def read_unit_ids(tree: Node, session: str, path: Path | None) -> tuple[str, ...]:
    """Return the ids of the units.

    Raises SessionError when there is none, one occurs twice, or they are not a column of texts.
    """
    column = np.asarray(read_array(tree, "units", "id", path))
    if column.ndim != 1:
        raise SessionError(
            f"session {session}: units.id has shape {column.shape}, but must be 1-D. {DAMAGED}"
        )
    name = f"session {session}: units.id"
    unit_ids = [_text(unit, f"{name}[{row}]") for row, unit in enumerate(column.tolist())]
    if not unit_ids:
        raise SessionError(f"session {session} has no units; it needs at least one.")
    commonest, times = Counter(unit_ids).most_common(1)[0]
    if times > 1:
        raise SessionError(
            f"session {session} has several units called {commonest!r}; give each its own id."
        )
    return tuple(unit_ids)


def read_unit_table(tree: Node, num_units: int, session: str) -> dict[str, np.ndarray]:
    """Return the columns of the units but for their ids.

    Raises SessionError when a column does not have a row for every unit.
    """
    node = tree.group("units")
    columns = _columns(node)
    columns.pop("id", None)
    for name, column in columns.items():
        if column.shape[:1] != (num_units,):
            raise SessionError(
                f"session {session}: units.{name} has shape {column.shape}, but there are"
                f" {num_units} units. {DAMAGED}"
            )
    return columns


def _columns(node: Node) -> dict[str, np.ndarray]:
    names = [name for name, member in node.members.items() if not isinstance(member, Node)]
    return {name: node.column(name) for name in names}


def read_bounds(tree: Node, name: str, session: str) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends (s) of the intervals `name`.

    Raises SessionError as `read_table` does and, in a domain or a split, when a row has a bound
    that is not finite or ends before it starts, or when the rows span more than `LONGEST`.
    """
    starts, ends = _bounds(tree, name, session)
    if name.endswith("domain"):
        _check_domain(starts, ends, f"session {session}: {name}")
    return starts, ends


def _bounds(tree: Node, name: str, session: str) -> tuple[np.ndarray, np.ndarray]:
    node = find_intervals(tree, name, session)
    place = f"session {session}: {name}"
    starts, ends = node.column("start"), node.column("end")
    check_numbers(starts, f"{place}.start")
    check_numbers(ends, f"{place}.end")
    if len(starts) != len(ends):
        raise SessionError(
            f"{place} has {len(starts)} starts but {len(ends)} ends; every row needs both."
            f" {DAMAGED}"
        )
    return np.asarray(starts, np.float64), np.asarray(ends, np.float64)


def _check_domain(starts: np.ndarray, ends: np.ndarray, place: str) -> None:
    wrong = ~((starts <= ends) & np.isfinite(starts) & np.isfinite(ends))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"{place}, row {row}, is from {starts[row]} to {ends[row]} s; both must be times, and"
            f" the end not before the start. {DAMAGED}"
        )
    span = float(ends.max()) - float(starts.min()) if len(starts) else 0.0
    if not span < LONGEST:
        raise SessionError(
            f"{place} spans {span:g} s, but {LONGEST:g} s is the most; are its times in seconds?"
        )


def read_table(tree: Node, name: str, session: str) -> dict[str, np.ndarray]:
    """Return the columns of the intervals `name` as in the file.

    Raises SessionError when there are no such intervals, when the bounds are not numbers in two
    columns of one length, or when another column has another length.
    """
    starts, _ = _bounds(tree, name, session)
    columns = _columns(find_intervals(tree, name, session))
    for column, values in columns.items():
        if values.shape[:1] != starts.shape:
            raise SessionError(
                f"session {session}: {name}.{column} has shape {values.shape}, but there are"
                f" {len(starts)} rows. {DAMAGED}"
            )
    return columns


def interval_nodes(tree: Node) -> dict[str, Node]:
    """Map the dotted name of every group of intervals to its node."""
    return {name: node for name, node in tree.walk() if node.kind == "Interval"}


def find_intervals(tree: Node, name: str, session: str) -> Node:
    """Return the node of the intervals `name`. Raises SessionError when there is none."""
    nodes = interval_nodes(tree)
    if name not in nodes:
        named = [other for other in nodes if not other.endswith("domain")]
        raise SessionError(
            f"session {session} has no intervals {name!r}; it has"
            f" {', '.join(named) or 'none besides its domains'}.{suggest(name, nodes)}"
        )
    return nodes[name]


def behaviour_keys(tree: Node) -> tuple[str, ...]:
    """List "<series>.<column>" of every numeric column of every series but the spikes."""
    keys = []
    for name, node in tree.walk():
        if node.kind not in SERIES_KINDS or name == "spikes":
            continue
        for column, samples in node.members.items():
            if column != "timestamps" and _is_numeric(samples):
                keys.append(f"{name}.{column}")
    return tuple(keys)


def _is_numeric(samples: Node | np.ndarray | StoredArray) -> bool:
    if not isinstance(samples, np.ndarray | StoredArray):
        return False
    return samples.dtype.kind in "iuf" and samples.ndim in (1, 2)


def behaviour_unit(tree: Node, key: str) -> str:
    """Return the unit of a behaviour that the session names, or an empty string.

    The session has an attribute `units`, a JSON object of units by behaviour, or `target_unit`,
    that of the only behaviour.
    """
    known = _by_behaviour(tree, "units").get(key)
    if known is not None:
        return str(known)
    unit = read_attribute(tree, "session", "target_unit")
    return unit if unit and behaviour_keys(tree) == (key,) else ""


def behaviour_classes(tree: Node, key: str) -> tuple[str, ...]:
    """Return the names of the classes that a behaviour holds the numbers of; none for others.

    The session has an attribute `classes`, a JSON object of lists of names by behaviour. Raises
    SessionError when it is none.
    """
    names = _by_behaviour(tree, "classes").get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SessionError(f"the classes of {key} are {names!r}, but must be names. {DAMAGED}")
    return tuple(names)


def _by_behaviour(tree: Node, attribute: str) -> dict[str, Any]:
    """Return an attribute of the session that is a JSON object with a value by behaviour."""
    text = read_attribute(tree, "session", attribute)
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise SessionError(f"the {attribute} of the session are {text[:80]!r}. {DAMAGED}")
    return values


def find_series(tree: Node, key: str, session: str) -> tuple[str, str, Node]:
    """Split a behaviour key into the names of series and column, and return the series' node.

    Raises SessionError when there is no such behaviour, or it does not hold numbers.
    """
    for name, node in tree.walk():
        column = key.removeprefix(f"{name}.")
        if node.kind not in SERIES_KINDS or column == key or column not in node.members:
            continue
        if name != "spikes" and not isinstance(node.members[column], Node):
            return name, column, node
    keys = behaviour_keys(tree)
    raise SessionError(
        f"session {session} has no behaviour {key!r}; it has"
        f" {', '.join(keys) or 'none at all'}.{suggest(key, keys)}"
    )
