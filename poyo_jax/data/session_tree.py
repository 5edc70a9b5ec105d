"""Read the parts of a session from its tree of groups: ids, arrays, intervals and behaviours."""

from pathlib import Path

import numpy as np

from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.lazy_arrays import ChunkedArray, StoredArray
from poyo_jax.errors import SessionError, suggest

SERIES_KINDS = ("IrregularTimeSeries", "RegularTimeSeries")


def read_attribute(tree: Node, group: str, name: str) -> str | None:
    """Return an attribute of a group as text, None when the group or the attribute is missing."""
    node = tree.members.get(group)
    if not isinstance(node, Node) or node.attrs.get(name) is None:
        return None
    return str(node.attrs[name])


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
    """Return a column of the spikes; it stays in its file when it has this dtype there."""
    array = read_array(tree, "spikes", column, path)
    if isinstance(array, np.ndarray) or array.dtype != dtype:
        return np.asarray(array, dtype)
    return array


def read_unit_ids(tree: Node, session: str, path: Path | None) -> tuple[str, ...]:
    """Return the ids of the units. Raises SessionError when there is none or one occurs twice."""
    column = np.asarray(read_array(tree, "units", "id", path))
    unit_ids = tuple(
        unit.decode() if isinstance(unit, bytes) else str(unit) for unit in column.tolist()
    )
    if not unit_ids:
        raise SessionError(f"session {session} has no units; it needs at least one.")
    if len(set(unit_ids)) < len(unit_ids):
        twice = next(unit_id for unit_id in unit_ids if unit_ids.count(unit_id) > 1)
        raise SessionError(
            f"session {session} has several units called {twice!r}; give each its own id."
        )
    return unit_ids


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

    `target_unit` is that of the target: the only behaviour of sessions that have this attribute.
    """
    unit = read_attribute(tree, "session", "target_unit")
    return unit if unit and behaviour_keys(tree) == (key,) else ""


def find_series(tree: Node, key: str, session: str) -> tuple[str, str, Node]:
    """Split a behaviour key into the names of series and column, and return the series' node.

    Raises SessionError when there is no such behaviour.
    """
    keys = behaviour_keys(tree)
    if key not in keys:
        raise SessionError(
            f"session {session} has no behaviour {key!r}; it has"
            f" {', '.join(keys) or 'none at all'}.{suggest(key, keys)}"
        )
    name, column = key.rsplit(".", 1)
    return name, column, dict(tree.walk())[name]
