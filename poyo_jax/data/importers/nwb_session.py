"""Import sessions from NWB files with spikes of units and a behaviour series, in bulk by h5py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import h5py
import numpy as np

from poyo_jax import __version__
from poyo_jax.data.derive import measured_time, trial_splits
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.arrays import Clocks
from poyo_jax.data.importers.nwb_behaviour import read_behaviours
from poyo_jax.data.importers.nwb_series import Series, find_target, looks_like, read_series
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.importers.spike_forms import tell_restarts
from poyo_jax.data.importers.splits import choose_splits
from poyo_jax.data.importers.targets import tell_names
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, table_node, units_node
from poyo_jax.errors import ConfigError, RawDataError, suggest

Table = dict[str, np.ndarray]
RENAMED = {"start_time": "start", "stop_time": "end"}
NO_TRIALS: Table = {"start": np.zeros(0), "end": np.zeros(0)}


@dataclass(frozen=True, kw_only=True)
class NwbOptions:
    """Options of the import of an NWB file. Raises ConfigError when an option cannot be used."""

    target: str
    """The behaviour to decode: path or name of a series, such as
    processing/behavior/Velocity/cursor_vel.
    """
    more_targets: tuple[str, ...] = ()
    """Further behaviours, named in the same way."""
    split: str | None = None
    """trials, blocks, or trials where there are six or more and blocks elsewhere."""
    phases: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Movement phases: for each name the columns of the trial table where it begins and ends."""
    max_speed: float | None = None
    """Speed above which samples are outliers, in the unit of the file and seconds."""
    max_acceleration: float | None = None
    """Acceleration above which samples are outliers, in the unit of the file and seconds."""
    derive_velocity: bool = False
    """Decode the derivative of the target, which then holds positions."""
    brainset_id: str | None = None
    """Name of the data set."""
    time_unit: str = "s"
    """Unit of the spike times, where the file departs from the seconds of NWB: ms, us, samples."""
    sampling_rate: float | None = None
    """Rate in Hz of spike times in samples."""

    def __post_init__(self) -> None:
        if self.split not in ("trials", "blocks", None):
            raise ConfigError(
                f"split is {self.split!r}; choose 'trials' or 'blocks', or leave it out."
            )
        for name in ("max_speed", "max_acceleration"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise ConfigError(f"{name} is {limit}; pass a positive number, or leave it out.")
        Clocks.of(self.time_unit, None, self.sampling_rate)
        one_only = self.derive_velocity or self.max_speed or self.max_acceleration
        if self.more_targets and one_only:
            raise ConfigError(
                "derive_velocity, max_speed and max_acceleration are for one target, but"
                f" {1 + len(self.more_targets)} are given; leave these options out."
            )
        for name in self.phases:
            if not name.isidentifier() or name == "domain":
                raise ConfigError(
                    f"a phase is called {name!r}; choose a name such as 'reach_period'."
                )
        if self.derive_velocity and looks_like(self.target) == "velocity":
            raise ConfigError(
                f"target {self.target} is a velocity already; leave derive_velocity out."
            )


def nwb_tree(
    path: str | Path,
    options: NwbOptions,
    session_id: str | None = None,
    *,
    allow_links: bool = False,
) -> Node:
    """The tree of a session from an NWB file. See `Session.from_nwb`."""
    with open_raw(path, allow_links=allow_links) as raw:
        clocks = Clocks.of(options.time_unit, None, options.sampling_rate)
        units, spikes = _units_and_spikes(raw, clocks.spikes)
        names = (options.target, *options.more_targets)
        every = [read_series(raw, find_target(raw, name)) for name in names]
        behaviours = read_behaviours(every, options)
        tables = _other_tables(raw)
        domain = _valid_time(raw, behaviours.domain, tables)
        spike_times = spikes.column("timestamps")
        parts = (measured_time(domain, each.times, each.values, spike_times) for each in every)
        measured = reduce(Intervals.union, parts)
        trials = _trials(raw)
        splits = trial_splits(trials, measured, options.split, f"{raw.path.name}: {nwb.TRIALS}")
        session_id = session_id or raw.path.stem
        tree = data_node(_identity(raw, every, behaviours.units, options, session_id))
        tree.members |= {
            "domain": interval_node(domain),
            "units": units,
            "spikes": spikes,
            **behaviours.series,
        }
        for name, intervals in behaviours.outliers.items():
            tree.members[f"{name}_outlier_segments"] = interval_node(intervals)
        if options.phases:
            outliers = list(behaviours.outliers.values())
            phases = _phases(raw, trials, options.phases, domain, outliers)
            tree.members["movement_phases"] = phases
        for split, intervals in choose_splits(splits, domain, measured).items():
            tree.members[f"{split}_domain"] = interval_node(intervals)
        for table, columns in ({"trials": trials} | tables).items():
            if len(columns["start"]):
                member = f"{table}_intervals" if table in tree.members else table
                tree.members[member] = table_node(columns)
        return tree


# --- who and when


def _identity(
    raw: RawFile,
    every: Sequence[Series],
    units: Mapping[str, str],
    options: NwbOptions,
    session_id: str,
) -> dict[str, Node]:
    """The groups that name data set, subject and session, and tell where the targets came from."""
    date = None
    if raw.has("session_start_time"):
        date = f"{nwb.recording_date(raw)} 00:00:00"
    first, derived = every[0], options.derive_velocity
    unit = f"{first.unit}/s" if derived and first.unit else first.unit
    session = data_node(
        id=session_id,
        recording_date=date,
        source=raw.path.name,
        target=", ".join(series.path for series in every),
        target_unit=unit if len(every) == 1 else None,
    )
    if len(every) > 1:
        tell_names(session, units, {})
    groups = {"session": session}
    if options.brainset_id:
        groups["brainset"] = data_node(id=options.brainset_id, poyo_jax_version=__version__)
    if raw.has("general/subject/subject_id"):
        if raw.has("general/subject/species"):
            groups["subject"] = nwb.subject_node(raw)
        else:
            groups["subject"] = data_node(id=nwb.subject_id(raw))
    return groups


# --- spikes


def _units_and_spikes(raw: RawFile, per_second: float) -> tuple[Node, Node]:
    if not raw.has("units/spike_times"):
        state = "without spike_times" if raw.has("units") else "missing"
        wanted = (
            "a table of units with spike_times; sort the spikes into units first, or use"
            " Session.from_arrays"
        )
        raise raw.wrong("units", state, wanted)
    times, counts = nwb.spikes_by_unit(raw)
    times = times if per_second == 1 else times / per_second
    num_units = len(counts)
    ids = unit_ids(raw, num_units)
    tell_restarts(np.split(times, np.cumsum(counts)[:-1]), ids)
    columns = _unit_columns(raw, num_units)
    columns |= {"unit_number": np.arange(num_units), "count": counts}
    return units_node(ids, **columns), nwb.spikes_node(*nwb.sort_spikes(times, counts))


def _unit_columns(raw: RawFile, num_units: int) -> Table:
    """Read the columns of the units, and group and location of each unit's first electrode."""
    columns: Table = {}
    try:
        rows = nwb.electrode_rows(raw, num_units)
        for name in ("group_name", "location"):
            if raw.has(f"{nwb.ELECTRODES}/{name}"):
                texts = np.array(raw.texts(f"{nwb.ELECTRODES}/{name}"), object)
                columns[name] = texts[rows]
    except (RawDataError, IndexError):
        columns = {}  # no electrodes, or a unit without one, which NWB allows
    group = raw.file["units"]
    if isinstance(group, h5py.Group):
        columns |= _plain_columns(group, num_units)
    for name in ("electrodes", "spike_times"):  # of files without an index
        columns.pop(name, None)
    return columns


def unit_ids(raw: RawFile, num_units: int) -> list[str]:
    """Make unit ids from electrode groups if all units have electrodes, else from stored ids."""
    if raw.has("units/electrodes") and raw.has(f"{nwb.ELECTRODES}/group_name"):
        try:
            return nwb.unit_ids(raw, num_units)
        except RawDataError:
            pass  # a unit without electrode, which NWB allows
    numbers = np.arange(num_units)
    if raw.has("units/id"):
        numbers = raw.array("units/id", (num_units,))
    return [f"unit_{number}" for number in numbers]


# --- tables


def _valid_time(raw: RawFile, domain: Intervals, tables: Mapping[str, Table]) -> Intervals:
    """Cut the file's invalid times out of the domain."""
    invalid = tables.get("invalid_times", NO_TRIALS)
    if not len(invalid["start"]):
        return domain
    left = domain.subtract(Intervals.from_overlapping(invalid["start"], invalid["end"]))
    if not len(left):
        found = "all of the time in which the target was measured"
        raise raw.wrong("intervals/invalid_times", found, "valid time; choose another target")
    return left


def _trials(raw: RawFile) -> Table:
    """The trials that hold time, sorted by start; NO_TRIALS where there is no table."""
    if not raw.has(nwb.TRIALS):
        return NO_TRIALS
    columns = nwb.trial_table(raw, tuple(RENAMED))
    for name in RENAMED:
        columns[name] = raw.array(f"{nwb.TRIALS}/{name}", (None,))
    return _timed(columns)


def _other_tables(raw: RawFile) -> dict[str, Table]:
    """Read the interval tables other than the trials.

    Keep the rows that last longer than 0 s and the columns with one number or text per row.
    """
    groups = raw.file.get("intervals")
    if not isinstance(groups, h5py.Group):
        return {}
    tables: dict[str, Table] = {}
    for name, group in groups.items():
        if name == "trials" or not isinstance(group, h5py.Group):
            continue
        if all(column in group for column in RENAMED):
            starts = raw.array(f"intervals/{name}/start_time", (None,))
            ends = raw.array(f"intervals/{name}/stop_time", (len(starts),))
            times = {"start_time": starts, "stop_time": ends}
            tables[name] = _timed(_plain_columns(group, len(starts)) | times)
    return tables


def _plain_columns(group: h5py.Group, count: int) -> Table:
    """Read the columns with one number or text per row."""
    columns: Table = {}
    for name, member in group.items():
        if not isinstance(member, h5py.Dataset) or member.shape != (count,):
            continue
        ragged = name.endswith("_index") or f"{name}_index" in group
        if name == "id" or ragged:
            continue
        if h5py.check_string_dtype(member.dtype):
            columns[name] = np.asarray(member.asstr()[()], object)
        elif member.dtype.kind in "biuf":
            columns[name] = member[()]
    return columns


def _timed(columns: Table) -> Table:
    """Keep the rows that last longer than 0 s, sorted by start."""
    table = {name: columns[name] for name in columns if name not in RENAMED}
    for name, new in RENAMED.items():
        table[new] = columns[name].astype(np.float64)
    starts, ends = table["start"], table["end"]
    finite = np.isfinite(starts) & np.isfinite(ends)
    rows = np.flatnonzero(finite & (starts < ends))
    order = np.argsort(starts[rows], kind="stable")
    rows = rows[order]
    return {name: values[rows] for name, values in table.items()}


def _phases(
    raw: RawFile,
    trials: Table,
    phases: Mapping[str, tuple[str, str]],
    domain: Intervals,
    outliers: Sequence[Intervals],
) -> Node:
    """Movement phases between two times of every trial, from which outliers are cut."""
    members = {"domain": interval_node(domain)}
    for name, bounds in phases.items():
        phase = Intervals.from_overlapping(
            *(_trial_times(raw, trials, column, name) for column in bounds)
        )
        if not len(phase):
            found = f"between {' and '.join(bounds)} holds no time in any trial"
            raise RawDataError(
                f"{raw.path.name}: phase {name} {found}; swap the columns, or choose others."
            )
        for of_behaviour in outliers:
            phase = phase.subtract(of_behaviour)
        members[name] = interval_node(phase)
    return data_node(members)


def _trial_times(raw: RawFile, trials: Table, column: str, phase: str) -> np.ndarray:
    name = RENAMED.get(column, column)
    times = trials.get(name, np.zeros(0, object))
    if times.dtype.kind not in "iuf" or times.ndim != 1:
        known = [
            name
            for name, values in trials.items()
            if values.dtype.kind in "iuf" and values.ndim == 1
        ]
        state = "is not one number per trial" if column in trials else "is missing"
        no_table = "the columns of a trial table, which the file lacks"
        columns = ", ".join(known) if len(trials["start"]) else no_table
        raise RawDataError(
            f"{raw.path.name}: {nwb.TRIALS}/{column}, a bound of phase {phase}, {state}; choose"
            f" among {columns}."
            f"{suggest(column, known)}"
        )
    return times.astype(np.float64)
