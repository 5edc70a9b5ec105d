"""Read units, spikes, trials, subject and date from NWB files of motor cortex, in bulk by h5py."""

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from poyo_jax.data.importers.raw_file import RawFile
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, irregular_node

TRIALS = "intervals/trials"
ELECTRODES = "general/extracellular_ephys/electrodes"


def recording_date(raw: RawFile) -> str:
    """The date of the recording as it was written where it was made, YYYY-MM-DD."""
    text = raw.text("session_start_time")
    if len(text) < 10 or text[4] != "-" or text[7] != "-":
        raise raw.wrong("session_start_time", repr(text), "a date such as 2013-10-03T00:00:00")
    return text[:10]


def subject_id(raw: RawFile) -> str:
    return raw.text("general/subject/subject_id").lower()


def subject_node(raw: RawFile) -> Node:
    """Subject with id, species and sex."""
    species = raw.text("general/subject/species")
    if "NCBITaxon" in species:
        species = f"NCBITaxon_{species.rsplit('_', 1)[-1].rsplit('/', 1)[-1]}"
    sex = raw.text("general/subject/sex") if raw.has("general/subject/sex") else None
    return data_node(id=subject_id(raw), species=species, sex=sex)


def spikes_by_unit(raw: RawFile) -> tuple[np.ndarray, np.ndarray]:
    """Read the times of all spikes [spikes] in s, and the number of spikes of each unit [units].

    The times of a unit follow each other; units come in the order of the file.
    """
    times = raw.array("units/spike_times", (None,), finite=True)
    times = times.astype(np.float64, copy=False)
    ends = raw.ends("units/spike_times", len(times))
    counts = np.diff(ends, prepend=0)
    if not len(counts):
        raise raw.wrong("units", "an empty table", "at least one unit")
    return times, counts


def sort_spikes(times: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort spikes by time: return the time (s) and the unit of each spike [spikes].

    Spikes at the same time stay in the order of their units.
    """
    order = np.argsort(times, kind="stable")
    units = np.repeat(np.arange(len(counts)), counts)
    return times[order], units[order]


def spikes_node(times: np.ndarray, units: np.ndarray, domain: Intervals | None = None) -> Node:
    """Make the node of a session's spikes.

    The default domain reaches from the first spike to the last one.
    """
    if not domain:
        first_and_last = [(times[0], times[-1])] if len(times) else []
        domain = Intervals.from_pairs(first_and_last)
    return irregular_node(times, domain, unit_index=units)


def electrode_rows(raw: RawFile, num_units: int) -> np.ndarray:
    """Row of the electrode table on which every unit was recorded (its first one), [units]."""
    rows = raw.array("units/electrodes", (None,)).astype(np.int64)
    if raw.has("units/electrodes_index"):
        ends = raw.ends("units/electrodes", len(rows))
        starts = np.concatenate([[0], ends[:-1]])
        starts = starts.astype(np.int64)
        if (empty := starts == ends).any():
            raise raw.wrong(
                f"units/electrodes of unit {int(np.argmax(empty))}",
                "empty",
                "one electrode at least",
            )
        rows = rows[starts]
    if len(rows) != num_units:
        raise raw.wrong(
            "units/electrodes",
            f"given for {len(rows)} units",
            f"one row for each of {num_units} units",
        )
    return rows


def group_names(raw: RawFile, rows: np.ndarray) -> list[str]:
    """Name of the electrode group of every one of these rows of the electrode table."""
    names = raw.texts(f"{ELECTRODES}/group_name")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(names):
        wrong = rows.min() if rows.min() < 0 else rows.max()
        found = f"a table of {len(names)} electrodes, but units refer to row {wrong}"
        raise raw.wrong(
            f"{ELECTRODES}/group_name", found, "a row for every electrode that units refer to"
        )
    return [names[row] for row in rows]


def unit_ids(raw: RawFile, num_units: int) -> list[str]:
    """Ids as brainsets makes them: electrode group, electrode and number of every unit."""
    rows = electrode_rows(raw, num_units)
    groups = group_names(raw, rows)
    return [
        f"group_{group}/elec{row}/unit_{unit}"
        for unit, (group, row) in enumerate(zip(groups, rows, strict=True))
    ]


def trial_table(raw: RawFile, needed: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the columns of the trial table whose values have the same shape in every trial.

    Raises RawDataError when a column in `needed` is missing or the columns differ in length.

    Text becomes an object array of str, unsigned integers int64. Ragged columns whose rows differ
    in length and references are left out.
    """
    group = raw.file.get(TRIALS)
    members = group if isinstance(group, h5py.Group) else ()
    names = [str(name) for name in members if name != "id"]
    columns = {}
    for name in names:
        column = _column(raw, name, names)
        if column is not None:
            columns[name] = column
    for name in needed:
        if name not in columns:
            found = f"missing (there are {', '.join(columns) or 'none'})"
            raise raw.wrong(f"{TRIALS}/{name}", found, "a column with one row per trial")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise raw.wrong(
            TRIALS, f"columns of different lengths ({lengths})", "one row per trial in every column"
        )
    return columns


def _column(raw: RawFile, name: str, names: list[str]) -> np.ndarray | None:
    data_set = raw.file[f"{TRIALS}/{name}"]
    if name.endswith("_index") or f"{name}_index_index" in names:
        return None
    if not isinstance(data_set, h5py.Dataset) or not data_set.ndim:
        return None
    if h5py.check_string_dtype(data_set.dtype):
        values = np.asarray(data_set.asstr()[()], object)
    elif data_set.dtype.kind in "biuf":
        values = data_set[()]
        values = values.astype(np.int64) if values.dtype.kind == "u" else values
    else:
        return None
    if f"{name}_index" not in names:
        return values
    return _stacked(values, raw.ends(f"{TRIALS}/{name}", len(values)))


def _stacked(values: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
    """Stack the rows of a ragged column to [rows, length, ...]; None if their lengths differ."""
    lengths = np.diff(ends, prepend=0)
    if not len(lengths) or (lengths != lengths[0]).any():
        return None
    shape = (len(lengths), lengths[0], *values.shape[1:])
    return values.reshape(shape)


@dataclass(frozen=True, eq=False)
class Samples:
    """The times (s) [samples] and the stored values [samples, ...] of a series in an NWB file."""

    times: np.ndarray
    values: np.ndarray


def read_samples(raw: RawFile, path: str) -> Samples:
    """Read the series at an HDF5 path.

    Its samples have time stamps (s), or a starting time (s) and a rate (Hz).
    """
    data = raw.data_set(f"{path}/data")
    if not data.ndim:
        raise raw.wrong(f"{path}/data", "a single number", "one row per sample")
    values = raw.array(f"{path}/data", (None,) * data.ndim)
    if raw.has(f"{path}/timestamps"):
        return Samples(raw.times(f"{path}/timestamps", len(values)), values)
    start = raw.data_set(f"{path}/starting_time")
    rate = float(start.attrs.get("rate", np.nan))
    if not rate > 0 or not np.isfinite(start[()]):
        found = f"{start[()]} s with a rate of {rate} Hz"
        raise raw.wrong(f"{path}/starting_time", found, "a time in seconds and a positive rate")
    times = float(start[()]) + np.arange(len(values)) / rate
    return Samples(times, values)
