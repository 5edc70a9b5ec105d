"""Make the tree of a session from arrays in memory, and check the arrays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from poyo_jax.data.behaviour import LARGEST, check_times
from poyo_jax.data.derive import first_of_runs, gradient_of_runs, measured_time, median_step
from poyo_jax.data.importers.labels import numbers_and_names
from poyo_jax.data.importers.spike_forms import flat_spikes
from poyo_jax.data.importers.splits import Pairs, choose_splits, to_intervals
from poyo_jax.data.importers.targets import (
    Target,
    check_measured,
    checked_units,
    named_values,
    tell_names,
)
from poyo_jax.data.intervals import Intervals, pair_columns
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, irregular_node, table_node, units_node
from poyo_jax.data.numbers import ticks_per_second, to_numbers, to_seconds
from poyo_jax.errors import ConfigError, SessionError


@dataclass(frozen=True)
class Clocks:
    """Ticks per second of the spike times and intervals, and of the times of targets."""

    spikes: float
    targets: float

    @classmethod
    def of(
        cls, time_unit: str, target_time_unit: str | None, sampling_rate: float | None
    ) -> "Clocks":
        """Look up the units. Raises ConfigError for a unit or a rate that cannot be used."""
        units = (time_unit, target_time_unit or time_unit)
        if sampling_rate is not None and "samples" not in units:
            raise ConfigError(
                f"sampling_rate is {sampling_rate!r}, but times are in {time_unit!r}; pass"
                " time_unit='samples', or leave sampling_rate out."
            )
        return cls(*(ticks_per_second(unit, sampling_rate) for unit in units))


def tree_from_arrays(
    spike_times: Any,
    spike_units: Any,
    unit_ids: Any,
    target_times: Any,
    targets: Any,
    *,
    ids: dict[str, str | None],
    target_key: str,
    target_unit: Any = None,
    splits: dict[str, Pairs | None],
    intervals: dict[str, Pairs],
    domain: Pairs | None,
    clocks: Clocks,
    derive_velocity: bool,
) -> Node:
    """Check arrays and arrange them in the layout of a session file.

    `Session.from_arrays` describes the arguments and the errors.
    """
    if not isinstance(targets, Mapping) and (target_times is None or targets is None):
        missing = "target_times" if target_times is None else "targets"
        raise SessionError(
            f"{missing} is missing; pass the behaviour as target_times [samples] and targets"
            " [samples, channels], by name if you leave spike_units and unit_ids out."
        )
    given_domain = None
    if domain is not None:
        given_domain = to_intervals(_scaled(domain, "domain", clocks.spikes), "domain")
    spike_times, spike_units, names = flat_spikes(spike_times, spike_units, unit_ids, clocks.spikes)
    check_begin(spike_times, "spike_times", given_domain)
    if isinstance(targets, Mapping):
        check_one_only(target_key, derive_velocity)
        behaviours = _named(targets, target_times, target_unit, clocks.targets)
    else:
        behaviours = [_only(target_times, targets, target_key, clocks.targets, derive_velocity)]
    for behaviour in behaviours:
        named = isinstance(targets, Mapping)
        label = f"times of {behaviour.key!r}" if named else "target_times"
        check_begin(behaviour.times, label, given_domain)
    session_domain = given_domain or _default_domain(spike_times, behaviours)

    tree = data_node()
    for group, name in ids.items():
        if name is not None:
            tree.members[group] = data_node(id=_name(name, f"{group}_id"))
    if isinstance(targets, Mapping):
        units = {behaviour.key: behaviour.unit for behaviour in behaviours}
        classes = {behaviour.key: behaviour.classes for behaviour in behaviours}
        tell_names(tree.group("session"), units, classes)
    elif target_unit is not None:
        tree.group("session").attrs["target_unit"] = _name(target_unit, "target_unit")
    tree.members["units"] = units_node(names)
    tree.members["spikes"] = irregular_node(spike_times, session_domain, unit_index=spike_units)
    for behaviour in behaviours:
        place_targets(tree, behaviour.key, behaviour.samples, behaviour.times, session_domain)
    if not isinstance(intervals, Mapping):
        raise SessionError(
            f"intervals is a {type(intervals).__name__}; pass a mapping of names to (start, end)"
            " pairs: intervals={'trials': [(7, 9)]}."
        )
    for name, pairs in intervals.items():
        if name in splits or name == "domain":
            raise SessionError(
                f"intervals has {name!r}, which is an argument of its own; pass {name}=[(7, 9)]."
            )
        place_intervals(tree, name, _scaled(pairs, name, clocks.spikes), session_domain)
    tree.members["domain"] = interval_node(session_domain)
    measured = time_of_any(behaviours, session_domain, spike_times)
    given = {name: _scaled(pairs, name, clocks.spikes) for name, pairs in splits.items()}
    for name, split in choose_splits(given, session_domain, measured).items():
        tree.members[f"{name}_domain"] = interval_node(split)
    return tree


def check_one_only(target_key: str, derive_velocity: bool) -> None:
    """Raise SessionError for what belongs to one behaviour without a name."""
    if derive_velocity:
        raise SessionError(
            "derive_velocity is for one behaviour, but targets are given by name; pass"
            " np.gradient(positions, times, axis=0) for those that are positions."
        )
    if target_key != "cursor.vel":
        raise SessionError(
            f"target_key is {target_key!r}, but targets are given by name; leave it out."
        )


def _named(targets: Mapping, target_times: Any, units: Any, per_second: float) -> list[Target]:
    """Behaviours that are given by name. Raises SessionError for one that was not measured."""
    by_key = checked_units(units, targets)
    behaviours = []
    for key, (times, values) in named_values(targets, target_times, per_second).items():
        values, classes = numbers_and_names(values, key)
        samples = checked_targets(values, len(times), key)
        target = Target(key, times, samples, by_key.get(key, ""), classes)
        check_measured(target)
        behaviours.append(target)
    return behaviours


def _only(times: Any, values: Any, key: str, per_second: float, derive_velocity: bool) -> Target:
    """The behaviour that is given without a name."""
    seconds = to_seconds(times, "target_times", per_second)
    check_times(seconds, "target_times", strictly=True)
    samples = checked_targets(values, len(seconds))
    if derive_velocity:
        samples = velocity(samples, seconds)
    return Target(key, seconds, samples)


def time_of_any(
    behaviours: Sequence[Target], domain: Intervals, spike_times: np.ndarray
) -> Intervals:
    """The time in which spikes and at least one of the behaviours were measured."""
    parts = (measured_time(domain, each.times, each.measured, spike_times) for each in behaviours)
    return reduce(Intervals.union, parts)


def velocity(positions: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Differentiate positions within runs without gaps, in their unit per second."""
    if len(times) < 2:
        raise SessionError(
            f"derive_velocity needs two samples at least, but targets has {len(times)}; leave it"
            " out."
        )
    return gradient_of_runs(positions, times, first_of_runs(times))


# --- checks


def check_begin(times: np.ndarray, name: str, domain: Intervals | None) -> None:
    """Raise SessionError for a time below zero that the domain does not hold."""
    outside = (times < 0) if domain is None else (times < 0) & ~domain.contains(times)
    if outside.any():
        row = int(np.argmax(outside))
        raise SessionError(
            f"{name}[{row}] is {times[row]} s, before the session begins; "
            "shift all times so that they start at 0, or pass a `domain` that includes it."
        )


def checked_targets(values: Any, num_times: int, name: str = "targets") -> np.ndarray:
    """Return targets [samples] or [samples, channels] in float64; NaN where not measured."""
    targets = _numeric_targets(values, name)
    if len(targets) != num_times:
        turned = ""
        if targets.ndim == 2 and targets.shape[1] == num_times:
            turned = " (targets.T)"
        raise SessionError(
            f"{name} has {len(targets)} rows but target_times {num_times} entries; pass one per"
            f" sample{turned}."
        )
    if not targets.size:
        raise SessionError(
            f"{name} has shape {targets.shape}; a session needs at least one sample of behaviour."
        )
    check_range(targets, name)
    return targets


def check_range(targets: np.ndarray, name: str) -> None:
    """Raise SessionError for a target that float32 cannot hold."""
    beyond = np.abs(targets) > LARGEST
    if beyond.any():
        place = np.argwhere(beyond)[0].tolist()
        raise SessionError(
            f"{name}{place} is {targets[tuple(place)]:g}, beyond what a model can compute"
            f" ({LARGEST:.2g}, the largest number of float32); pass NaN where nothing was measured,"
            " or another unit."
        )


def _numeric_targets(values: Any, name: str) -> np.ndarray:
    try:
        return to_numbers(values, name, (1, 2))
    except SessionError as error:
        if "it holds text" not in str(error):
            raise
        raise SessionError(
            f"{error} Labels of classes cannot be decoded as numbers; give them a name:"
            " targets={'target.direction': labels}."
        ) from error


def _name(name: str, argument: str) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip("./ "):
        raise SessionError(
            f"{argument} is {name!r}; pass a name of printable characters, such as 'monday'."
        )
    return name


def _scaled(pairs: Any, name: str, per_second: float) -> Any:
    """Convert (start, end) pairs to seconds; `Intervals` are in seconds already."""
    if not isinstance(pairs, Iterable) or isinstance(pairs, Intervals) or per_second == 1:
        return pairs
    return to_numbers(list(pairs), name, (1, 2)) / per_second


def _default_domain(spike_times: np.ndarray, behaviours: Sequence[Target]) -> Intervals:
    """Span the first spike or target to the last spike, or to one sample after the last target."""
    start = min(target.times[0] for target in behaviours)
    stop = max(target.times[-1] + median_step(target.times) for target in behaviours)
    if len(spike_times):
        start = min(start, spike_times[0])
        stop = max(stop, np.nextafter(spike_times[-1], np.inf))  # an interval does not hold its end
    return Intervals.from_pairs([(start, stop)])


# --- layout


def _is_reserved(name: str) -> bool:
    return not name or name == "domain" or name.endswith("_domain")


def place_targets(
    tree: Node, key: str, targets: np.ndarray, times: np.ndarray, domain: Intervals
) -> None:
    """Add the behaviour under "<series>.<column>"; columns of one series have the same times."""
    series, _, column = key.partition(".")
    known = tree.members.get(series)
    if isinstance(known, Node) and _takes(known, series, column, times):
        members = known.members | {column: targets}
        tree.members[series] = replace(known, members=members)
        return
    taken = known is not None or column == "timestamps" or "." in column
    if taken or _is_reserved(series) or _is_reserved(column):
        raise SessionError(
            f"target_key is {key!r}; pass '<series>.<column>' with free names, for example"
            " 'cursor.vel'."
        )
    tree.members[series] = irregular_node(times, domain, **{column: targets})


def _takes(known: Any, series: str, column: str, times: np.ndarray) -> bool:
    """Tell if a series takes another column of behaviour at these times."""
    if not isinstance(known, Node) or known.kind != "IrregularTimeSeries" or series == "spikes":
        return False
    free = column not in known.members and not _is_reserved(column) and "." not in column
    return free and np.array_equal(known.column("timestamps"), times)


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
        starts, ends = pair_columns(pairs, f"intervals {name!r}")
    except (TypeError, ValueError) as error:
        raise SessionError(
            f"intervals {name!r} are not (start, end) pairs ({error}); pass pairs in seconds."
        ) from error
    wrong = ~(starts <= ends)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"intervals {name!r}, row {row}: start {starts[row]}, end {ends[row]}; correct that"
            " row."
        )
    order = np.lexsort((ends, starts))
    parent.members[last] = table_node({"start": starts[order], "end": ends[order]})


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
