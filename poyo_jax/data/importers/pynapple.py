"""Sessions from objects of pynapple, which is not imported: what has the same members will do."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.derive import (
    first_of_runs,
    gradient_of_runs,
    run_intervals,
    trial_splits,
)
from poyo_jax.data.importers.arrays import (
    check_one_only,
    check_range,
    place_intervals,
    place_targets,
    time_of_any,
)
from poyo_jax.data.importers.nwb import sort_spikes, spikes_node
from poyo_jax.data.importers.splits import choose_splits
from poyo_jax.data.importers.targets import Target, key_of
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, units_node
from poyo_jax.errors import SessionError


def pynapple_tree(
    spikes: Any,
    target: Any,
    *,
    ids: Mapping[str, str | None],
    target_key: str,
    derive_velocity: bool,
    splits: Mapping[str, Any],
    intervals: Mapping[str, Any],
) -> Node:
    """The tree of a session. Arguments and errors: see `Session.from_pynapple`."""
    _need(spikes, "spikes", ("index", "to_tsd"), "TsGroup")
    targets = {target_key: target}
    if isinstance(target, Mapping):
        check_one_only(target_key, derive_velocity)
        targets = _by_key(target)
    made = [_behaviour(key, each, derive_velocity) for key, each in targets.items()]
    behaviours = [behaviour for behaviour, _ in made]
    domain = reduce(Intervals.union, (runs for _, runs in made))
    tree = data_node()
    for group, name in ids.items():
        if name is not None:
            tree.members[group] = data_node(id=name)
    tree.members |= _units_and_spikes(spikes)
    for each, runs in made:
        place_targets(tree, each.key, each.samples, each.times, runs)
    for name, rows in intervals.items():
        place_intervals(tree, name, _bounds(rows), domain)
        dict(tree.walk())[name].members |= _columns(rows)
    tree.members["domain"] = interval_node(domain)
    given = {}
    for name, rows in splits.items():
        if rows is not None:
            given[name] = _bounds(rows)
    spike_times = tree.group("spikes").column("timestamps")
    measured = time_of_any(behaviours, domain, spike_times)
    chosen = choose_splits(given or _by_trials(tree, measured), domain, measured)
    for name, split in chosen.items():
        tree.members[f"{name}_domain"] = interval_node(split)
    return tree


def _by_key(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Targets by their keys. Raises SessionError when there is none, or two have one key."""
    if not targets:
        raise SessionError("target is empty; pass at least one Tsd or TsdFrame by its name.")
    by_key = {key_of(name): target for name, target in targets.items()}
    if len(by_key) < len(targets):
        raise SessionError(
            f"target has two behaviours with one name among {', '.join(targets)}; give each a name"
            " of its own."
        )
    return by_key


def _behaviour(key: str, target: Any, derive_velocity: bool) -> tuple[Target, Intervals]:
    """A behaviour, and its runs without gaps."""
    _need(target, "target", ("t", "values", "time_support"), "Tsd or TsdFrame")
    times, values = _samples(target)
    firsts = _first_samples(times, target.time_support)
    if derive_velocity:
        values = gradient_of_runs(values, times, firsts)
    return Target(key, times, values), run_intervals(times, firsts)


def _need(value: Any, argument: str, members: tuple[str, ...], kind: str) -> None:
    if not all(hasattr(value, member) for member in members):
        raise SessionError(f"{argument} is a {type(value).__name__}; pass a {kind} of pynapple.")


def _samples(target: Any) -> tuple[np.ndarray, np.ndarray]:
    times = np.asarray(target.t, np.float64)
    values = np.asarray(target.values, np.float64)
    if values.ndim not in (1, 2) or len(values) < 2 or not values.size:
        raise SessionError(
            f"target has shape {values.shape}; pass a Tsd or TsdFrame with two samples and one"
            " channel at least."
        )
    check_times(times, "times of target", strictly=True)
    check_range(values, "target")
    return times, values


def _first_samples(times: np.ndarray, support: Any) -> np.ndarray:
    """Rows of the first samples of runs without gaps, each in one interval of the time support."""
    rows = np.searchsorted(np.asarray(support.start), times, side="right")
    first_of_rows = np.flatnonzero(np.diff(rows)) + 1
    return np.union1d(first_of_runs(times), first_of_rows)


def _units_and_spikes(spikes: Any) -> dict[str, Node]:
    numbers = np.asarray(spikes.index)
    if not len(numbers):
        raise SessionError("spikes is a TsGroup without units; a session needs one at least.")
    order = np.argsort(numbers)
    merged = spikes.to_tsd()
    places = np.searchsorted(numbers[order], np.asarray(merged.values))
    units = order[places]
    counts = np.bincount(units, minlength=len(numbers))
    by_unit = np.argsort(units, kind="stable")
    times = np.asarray(merged.t, np.float64)[by_unit]
    ids = [f"unit_{number}" for number in numbers]
    columns = _columns(spikes)
    columns |= {"unit_number": np.arange(len(numbers)), "count": counts}
    return {
        "units": units_node(ids, **columns),
        "spikes": spikes_node(*sort_spikes(times, counts)),
    }


def _columns(owner: Any) -> dict[str, np.ndarray]:
    """Read the metadata columns with one number or text per row.

    The columns `id`, `rate`, `start` and `end` are left out: the session has these values already.
    """
    columns: dict[str, np.ndarray] = {}
    for name in getattr(owner, "metadata_columns", ()):
        values = np.asarray(owner.metadata[name])
        if name in ("id", "rate", "start", "end") or values.ndim != 1:
            continue
        if values.dtype.kind not in "biuf":
            values = np.array(list(map(str, values)), object)
        columns[str(name)] = values
    return columns


def _bounds(rows: Any) -> Any:
    """The rows of an IntervalSet, [rows, 2]; anything else as it is."""
    if hasattr(rows, "start") and hasattr(rows, "end"):
        bounds = [np.asarray(rows.start), np.asarray(rows.end)]
        return np.stack(bounds, axis=1)
    return rows


def _by_trials(tree: Node, measured: Intervals) -> dict[str, Intervals]:
    if not isinstance(trials := tree.members.get("trials"), Node):
        return {}
    table = {name: trials.column(name) for name in trials.members}
    return trial_splits(table, measured, None, "trials")
