"""Fields of raw recordings as the archives' files hold them, and how they are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

TRIALS = "intervals/trials"
ELECTRODES = "general/extracellular_ephys/electrodes"
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class WithAttributes:
    """A field whose data set has attributes."""

    values: Any
    attrs: dict[str, Any] = field(default_factory=dict)


def write_fields(path: Path, fields: Fields, changes: Fields | None) -> Path:
    """Write an HDF5 file of these fields. One that is a function is called with the file and the
    field's name.
    """
    with h5py.File(path, "w") as file:
        for name, value in ({**fields, **(changes or {})}).items():
            if callable(value):
                value(file, name)
            elif value is not None:
                stored = value if isinstance(value, WithAttributes) else WithAttributes(value)
                file[name] = stored.values
                file[name].attrs.update(stored.attrs)
    return path


def place(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def compact_date(date: str) -> str:
    return date.replace("-", "")


def nwb_fields(
    subject: str, date: str, groups: Sequence[str], spikes: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Subject, date, electrodes and units; unit 0 was recorded on two electrodes."""
    rows = [np.array([unit % len(groups)]) for unit in range(len(spikes))]
    rows[0] = np.array([len(groups) - 1, 0])
    return {
        "general/subject/subject_id": subject,
        "general/subject/species": "Macaca mulatta",
        "general/subject/sex": "M",
        "session_start_time": f"{date}T12:39:08-04:00",
        f"{ELECTRODES}/id": 100 + np.arange(len(groups)),
        f"{ELECTRODES}/group_name": list(groups),
        "units/id": 1000 + np.arange(len(spikes)),
        "units/electrodes": np.concatenate(rows),
        "units/electrodes_index": np.cumsum([len(row) for row in rows]).astype(np.uint8),
        "units/spike_times": np.concatenate(spikes),
        "units/spike_times_index": np.cumsum([len(times) for times in spikes]).astype(np.uint16),
    }


def trial_fields(columns: Fields) -> dict[str, Any]:
    return {f"{TRIALS}/{name}": values for name, values in columns.items()}


def reference_column(count: int) -> Callable[[h5py.File, str], None]:
    """A function that writes a column of references to a time series, as pynwb makes
    `timeseries`.
    """

    def write(file: h5py.File, name: str) -> None:
        dtype = np.dtype([("idx_start", "<i4"), ("count", "<i4"), ("timeseries", h5py.ref_dtype)])
        target = next(member for member in file.values() if isinstance(member, h5py.Group))
        file[name] = np.array([(0, 1, target.ref)] * count, dtype)

    return write


def characters(text: str) -> np.ndarray:
    """Text as MATLAB 7.3 keeps it."""
    return np.array([[ord(character)] for character in text], np.uint16)


def cell_array(shape: tuple[int, int], cells: Mapping[tuple[int, int], np.ndarray]) -> Any:
    """A function that writes these cells, and empty ones everywhere else, as MATLAB 7.3 does."""

    def write(file: h5py.File, name: str) -> None:
        references = np.empty(shape, h5py.ref_dtype)
        for sort, channel in np.ndindex(*shape):
            values = cells.get((sort, channel))
            target = file.create_dataset(
                f"#refs#/{name}_{sort}_{channel}",
                data=np.zeros(2, np.uint64) if values is None else values,
            )
            if values is None:
                target.attrs["MATLAB_empty"] = np.uint8(1)
            references[sort, channel] = target.ref
        file.create_dataset(name, data=references, dtype=h5py.ref_dtype)

    return write


def structs(rows: Sequence[Fields]) -> np.ndarray:
    """A MATLAB struct array, [rows, 1], of the fields that no row lacks."""
    if not rows:
        return np.zeros((0, 0))
    names = [name for name in rows[0] if all(row[name] is not None for row in rows)]
    table = np.empty((len(rows), 1), [(name, object) for name in names])
    for row, fields in enumerate(rows):
        table[row, 0] = tuple(fields[name] for name in names)
    return table
