"""Make the nodes of session files for `Session.from_arrays`, `Session.from_nwb`, `data_prep`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node


def data_node(members: Mapping[str, Node | np.ndarray] | None = None, **attrs: Any) -> Node:
    """Make a group of groups, with the attributes that are not None."""
    given = {name: value for name, value in attrs.items() if value is not None}
    return Node("Data", {"absolute_start": 0.0} | given, dict(members or {}))


def interval_node(intervals: Intervals, columns: Mapping[str, np.ndarray] | None = None) -> Node:
    """Make a table of intervals, with further columns of one row per interval."""
    bounds: dict[str, Any] = {"start": intervals.starts, "end": intervals.ends}
    return Node("Interval", {}, bounds | dict(columns or {}))


def domain_of(series: Node) -> Intervals:
    """The domain of a series."""
    domain = series.group("domain")
    return Intervals(domain.column("start"), domain.column("end"))


def table_node(
    columns: Mapping[str, np.ndarray], timekeys: Sequence[str] = ("start", "end")
) -> Node:
    """Make a table of intervals with the columns `start` and `end` (s).

    Rows may overlap, as the trials of raw files do.
    """
    attrs = {}
    if tuple(timekeys) != ("start", "end"):
        attrs["timekeys"] = np.array(timekeys, "S")
    return Node("Interval", attrs, dict(columns))


def irregular_node(timestamps: np.ndarray, domain: Intervals, **columns: np.ndarray) -> Node:
    """Make a series whose samples have time stamps (s)."""
    return Node(
        "IrregularTimeSeries",
        {},
        {"timestamps": timestamps, **columns, "domain": interval_node(domain)},
    )


def regular_node(sampling_rate: float, start: float, **columns: np.ndarray) -> Node:
    """Make a series with a fixed `sampling_rate` (Hz) whose first sample is at `start` (s).

    NaN marks samples that were not measured.
    """
    count = len(next(iter(columns.values())))
    domain = Intervals.from_pairs([(start, start + count / sampling_rate)])
    return Node(
        "RegularTimeSeries",
        {"sampling_rate": float(sampling_rate)},
        {**columns, "domain": interval_node(domain)},
    )


def units_node(unit_ids: Sequence[str] | np.ndarray, **columns: np.ndarray) -> Node:
    """Make the units of a session, with further columns of one row per unit."""
    ids = np.array(list(unit_ids), object)
    return Node("ArrayDict", {}, {"id": ids, **columns})
