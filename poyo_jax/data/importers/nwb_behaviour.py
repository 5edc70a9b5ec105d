"""Behaviour series of an NWB file as series of a session."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from poyo_jax.data.derive import first_of_runs, gradient_of_runs, intervals_where, run_intervals
from poyo_jax.data.importers.arrays import check_range
from poyo_jax.data.importers.nwb_series import Series, looks_like, session_key
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import domain_of, irregular_node, regular_node
from poyo_jax.errors import ConfigError, RawDataError

if TYPE_CHECKING:
    from poyo_jax.data.importers.nwb_session import NwbOptions


@dataclass(frozen=True, eq=False)
class Behaviours:
    """Behaviours of a session."""

    series: dict[str, Node]  # by name
    units: dict[str, str]  # by key
    outliers: dict[str, Intervals]  # by name of the series, if limits are given

    @property
    def domain(self) -> Intervals:
        """Where at least one of them was measured."""
        return reduce(Intervals.union, map(domain_of, self.series.values()))


def read_behaviours(every: Sequence[Series], options: "NwbOptions") -> Behaviours:
    """The series of the session.

    Those of one name and the same times become one, as position and velocity of a cursor; one with
    other times is called "<series>_<column>". Raises RawDataError for two of one key.
    """
    made = Behaviours({}, {}, {})
    for series in every:
        name, column, node, outliers = _behaviour(series, options)
        if name in made.series and _same_times(made.series[name], node):
            node = _joined(made.series[name], node, column, series)
        elif name in made.series:
            name = f"{name}_{column}"
        if f"{name}.{column}" in made.units:
            raise _twice(series)
        made.series[name] = node
        made.units[f"{name}.{column}"] = series.unit
        if outliers is not None:
            made.outliers[name] = outliers
    return made


def _same_times(known: Node, new: Node) -> bool:
    times, others = (
        np.asarray(node.members.get("timestamps", np.zeros(0))) for node in (known, new)
    )
    bounds = [domain_of(node) for node in (known, new)]
    same = bounds[0] == bounds[1] and known.attrs == new.attrs
    return known.kind == new.kind and same and np.array_equal(times, others)


def _joined(known: Node, new: Node, column: str, series: Series) -> Node:
    if column in known.members:
        raise _twice(series)
    return replace(known, members=known.members | {column: new.members[column]})


def _twice(series: Series) -> RawDataError:
    return RawDataError(
        f"the targets hold {series.path} twice, or another series that becomes the same behaviour;"
        " name each once, or import one alone and add it with Session.with_behaviour."
    )


def _behaviour(series: Series, options: "NwbOptions") -> tuple[str, str, Node, Intervals | None]:
    """Name, column and node of a series, and its outliers if limits are given."""
    name, column = session_key(series.path, derived=options.derive_velocity)
    firsts = first_of_runs(series.times)
    samples = series.values
    check_range(samples, f"{series.path}/data")
    if options.derive_velocity:
        samples = gradient_of_runs(samples, series.times, firsts)
    if series.rate is not None:
        node = regular_node(series.rate, series.times[0], **{column: samples})
    else:
        runs = run_intervals(series.times, firsts)
        node = irregular_node(series.times, runs, **{column: samples})
    if options.max_speed is None and options.max_acceleration is None:
        return name, column, node, None
    kind = "velocity" if options.derive_velocity else looks_like(series.path)
    if kind == "other":
        raise ConfigError(
            f"max_speed and max_acceleration need a position or a velocity, but {series.path} is"
            " not called so; leave them out, or pass derive_velocity if it holds positions."
        )
    velocity = samples
    if kind != "velocity":
        velocity = gradient_of_runs(samples, series.times, firsts)
    return name, column, node, _outliers(series.times, velocity, firsts, options)


def _outliers(
    times: np.ndarray, velocity: np.ndarray, firsts: np.ndarray, options: "NwbOptions"
) -> Intervals:
    """Samples faster, or speeding up more, than the limits, each with the sample before it."""
    beyond = np.zeros(len(times), bool)
    if options.max_speed is not None:
        beyond |= _lengths(velocity) > options.max_speed
    if options.max_acceleration is not None:
        acceleration = gradient_of_runs(velocity, times, firsts)
        beyond |= _lengths(acceleration) > options.max_acceleration
    beyond[:-1] |= beyond[1:]
    return intervals_where(beyond, times)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    rows = vectors.reshape(len(vectors), -1)
    return np.linalg.norm(rows, axis=1)
