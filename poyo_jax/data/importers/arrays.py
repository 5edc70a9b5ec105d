"""From arrays in memory to the tree of a session, with every check of the arrays."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, irregular_node, table_node, units_node
from poyo_jax.errors import SessionError

Pairs = Intervals | Iterable  # (start, end) pairs, an array [n, 2], or Intervals

NUM_BLOCKS = 10
BLOCKS = {"train": (0, 1, 2, 4, 6, 7, 9), "valid": (5,), "test": (3, 8)}


def tree_from_arrays(
    spike_times: ArrayLike,
    spike_units: ArrayLike,
    unit_ids: ArrayLike,
    target_times: ArrayLike,
    targets: ArrayLike,
    *,
    ids: dict[str, str | None],
    target_key: str,
    splits: dict[str, Pairs | None],
    intervals: dict[str, Pairs],
    domain: Pairs | None,
) -> Node:
    """Check arrays and arrange them in the layout of a session file.

    `Session.from_arrays` describes the arguments and the errors.
    """
    given_domain = None if domain is None else _pairs(domain, "domain")
    ids_of_units = np.asarray(unit_ids).ravel().tolist()
    names = np.array([_text(name) for name in ids_of_units], object)
    spike_times = _times(spike_times, "spike_times", given_domain)
    spike_units = _spike_units(spike_units, len(spike_times), len(names))
    target_times = _times(target_times, "target_times", given_domain, strictly=True)
    targets = _targets(targets, len(target_times))
    session_domain = given_domain or _default_domain(spike_times, target_times)

    tree = data_node()
    for group, name in ids.items():
        if name is not None:
            tree.members[group] = data_node(id=_name(name, f"{group}_id"))
    tree.members["units"] = units_node(names)
    tree.members["spikes"] = irregular_node(spike_times, session_domain, unit_index=spike_units)
    place_targets(tree, target_key, targets, target_times, session_domain)
    for name, pairs in intervals.items():
        place_intervals(tree, name, pairs, session_domain)
    tree.members["domain"] = interval_node(session_domain)
    for name, split in choose_splits(splits, session_domain).items():
        tree.members[f"{name}_domain"] = interval_node(split)
    return tree


# --- checks


def _array(values: ArrayLike, name: str, ndims: tuple[int, ...] = (1,)) -> np.ndarray:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise SessionError(
            f"{name} is not an array of numbers ({error}); pass numbers in rows of one length."
        ) from error
    if array.ndim not in ndims:
        expected = " or ".join(f"{ndim}-D" for ndim in ndims)
        raise SessionError(f"{name} has shape {array.shape}; pass a {expected} array.")
    return array


def _times(
    values: ArrayLike, name: str, domain: Intervals | None, *, strictly: bool = False
) -> np.ndarray:
    times = _array(values, name)
    check_times(times, name, strictly=strictly)
    outside = (times < 0) if domain is None else (times < 0) & ~domain.contains(times)
    if outside.any():
        row = int(np.argmax(outside))
        raise SessionError(
            f"{name}[{row}] is {times[row]} s, before the session begins; "
            "shift all times so that they start at 0, or pass a `domain` that includes it."
        )
    return times


def _spike_units(values: ArrayLike, num_spikes: int, num_units: int) -> np.ndarray:
    units = _array(values, "spike_units")
    if len(units) != num_spikes:
        raise SessionError(
            f"spike_units has {len(units)} entries but spike_times {num_spikes}; pass one per"
            " spike."
        )
    known = (units >= 0) & (units < num_units)
    wrong = ~(known & (units == np.floor(units)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"spike_units[{row}] is {units[row]:g}, but there are {num_units} units; "
            f"pass whole numbers in 0 ... {num_units - 1}, the positions in unit_ids."
        )
    return units.astype(np.int64)


def _targets(values: ArrayLike, num_times: int) -> np.ndarray:
    targets = _array(values, "targets", (1, 2))
    if len(targets) != num_times:
        raise SessionError(
            f"targets has {len(targets)} rows but target_times {num_times} entries; pass one per"
            " sample."
        )
    if not targets.size:
        raise SessionError(
            f"targets has shape {targets.shape}; a session needs at least one sample of behaviour."
        )
    return targets


def _name(name: str, argument: str) -> str:
    if not isinstance(name, str) or not name:
        raise SessionError(f"{argument} is {name!r}; pass a name that is not empty.")
    return name


def _pairs(pairs: Pairs, name: str) -> Intervals:
    """Intervals from what the user passed, which must hold some time."""
    try:
        intervals = Intervals.from_pairs(pairs)
    except (TypeError, ValueError) as error:
        raise SessionError(f"{name}: {error}") from error
    if not intervals.duration > 0:
        raise SessionError(
            f"{name} holds no time; pass (start, end) pairs with start < end, or leave it out."
        )
    return intervals


# --- defaults


def _default_domain(spike_times: np.ndarray, target_times: np.ndarray) -> Intervals:
    """From the first spike or target to the last spike, or to one sample after the last target."""
    period = np.median(np.diff(target_times)) if len(target_times) > 1 else 1.0
    start, stop = target_times[0], target_times[-1] + period
    if len(spike_times):
        start = min(start, spike_times[0])
        stop = max(stop, np.nextafter(spike_times[-1], np.inf))  # an interval does not hold its end
    return Intervals.from_pairs([(start, stop)])


def choose_splits(given: Mapping[str, Pairs | None], domain: Intervals) -> dict[str, Intervals]:
    """The given splits, checked, or ten blocks when there is none."""
    splits = {}
    for name, pairs in given.items():
        if pairs is not None:
            splits[name] = _pairs(pairs, name)
    if not splits:
        return _ten_blocks(domain)
    for name, split in splits.items():
        if not len(split.intersect(domain)):
            raise SessionError(
                f"{name} {split} lies outside the domain {domain}; give all times in the same"
                " seconds."
            )
        for other in splits:
            if other > name and len(shared := split.intersect(splits[other])):
                raise SessionError(f"{name} and {other} share {shared}; cut it from one of them.")
    return splits


def _ten_blocks(domain: Intervals) -> dict[str, Intervals]:
    """Cut the domain's span into ten equal blocks; keep of each what lies in the domain."""
    edges = np.linspace(domain.starts[0], domain.ends[-1], NUM_BLOCKS + 1)
    starts, ends = edges[:-1], edges[1:]
    splits = {}
    for name, blocks in BLOCKS.items():
        rows = list(blocks)
        splits[name] = Intervals(starts[rows], ends[rows]).intersect(domain)
    return splits


# --- layout


def _is_reserved(name: str) -> bool:
    return not name or name == "domain" or name.endswith("_domain")


def place_targets(
    tree: Node, key: str, targets: np.ndarray, times: np.ndarray, domain: Intervals
) -> None:
    """Add the behaviour under "<series>.<column>"."""
    series, _, column = key.partition(".")
    taken = series in tree.members or column == "timestamps" or "." in column
    if taken or _is_reserved(series) or _is_reserved(column):
        raise SessionError(
            f"target_key is {key!r}; pass '<series>.<column>' with free names, for example"
            " 'cursor.vel'."
        )
    tree.members[series] = irregular_node(times, domain, **{column: targets})


def place_intervals(tree: Node, name: str, pairs: Pairs, domain: Intervals) -> None:
    """Add intervals under a dotted name; like trials, they may overlap and come in any order."""
    *groups, last = name.split(".")
    parent = _data_group(tree, groups, domain)
    reserved = any(map(_is_reserved, (*groups, last)))
    if parent is None or last in parent.members or reserved:
        raise SessionError(
            f"intervals cannot be called {name!r}; choose a free name, for example 'trials'."
        )
    try:
        table = np.array(list(pairs), np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise SessionError(
            f"intervals {name!r} are not (start, end) pairs ({error}); pass pairs in seconds."
        ) from error
    wrong = ~(table[:, 0] <= table[:, 1])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"intervals {name!r}, row {row}: start {table[row, 0]}, end {table[row, 1]}; correct"
            " that row."
        )
    order = np.lexsort((table[:, 1], table[:, 0]))
    starts, ends = table[order].T
    parent.members[last] = table_node({"start": starts.copy(), "end": ends.copy()})


def _data_group(tree: Node, path: list[str], domain: Intervals) -> Node | None:
    """Return the Data group at a path and create it if it is missing.

    Return None if the path leads to something other than a Data group.
    """
    for name in path:
        empty = data_node({"domain": interval_node(domain)})
        nested = tree.members.setdefault(name, empty)
        if not isinstance(nested, Node) or nested.kind != "Data":
            return None
        tree = nested
    return tree


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
