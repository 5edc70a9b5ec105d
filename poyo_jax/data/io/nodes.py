"""Make the nodes of session files for `Session.from_arrays`, `Session.from_nwb`, `data_prep`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node


def data_node(members: Mapping[str, Node | np.ndarray] | None = None, **attrs: Any) -> Node:
    """A group of groups, with attributes; those that are None are left out."""
    attrs = {"absolute_start": 0.0} | {
        name: value for name, value in attrs.items() if value is not None
    }
    return Node("Data", attrs, dict(members or {}))


def interval_node(intervals: Intervals, columns: Mapping[str, np.ndarray] | None = None) -> Node:
    """Intervals, with further columns of one row per interval."""
    return Node(
        "Interval", {}, {"start": intervals.starts, "end": intervals.ends, **(columns or {})}
    )


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
    attrs = {} if tuple(timekeys) == ("start", "end") else {"timekeys": np.array(timekeys, "S")}
    return Node("Interval", attrs, dict(columns))


def irregular_node(timestamps: np.ndarray, domain: Intervals, **columns: np.ndarray) -> Node:
    """A series whose samples carry time stamps, in seconds."""
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
    """The units of a session, with further columns of one row per unit."""
    return Node("ArrayDict", {}, {"id": np.array(list(unit_ids), object), **columns})
