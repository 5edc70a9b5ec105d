"""Small NWB-like files, written with h5py alone."""

from pathlib import Path

import h5py
import numpy as np

VELOCITY = "processing/behavior/Velocity/cursor_vel"
TIMES = np.arange(3000) / 100
PHASES = {"reach_period": ("go_cue_time", "stop_time")}


def samples(count=3000, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, channels))


def unit_spikes(num_units=3, num_spikes=40, seed=1):
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, 30, num_spikes)) for _ in range(num_units)]


def trial_columns(count=10, length=2.0, period=3.0):
    """Columns of trials that begin every `period` seconds."""
    start = np.arange(count) * period
    return {
        "start_time": start,
        "stop_time": start + length,
        "go_cue_time": start + 0.5,
        "result": ["R"] * count,
    }


def trial_table(**columns):
    """Ten trials, some of whose columns are replaced."""
    return {"trials": trial_columns() | columns}


def write_nwb(
    path: Path, *, units=None, series=None, tables=None, electrodes=True, subject="Ada"
) -> Path:
    """A file with units (a list of spike times each), series {path: fields} and tables {name:
    columns of intervals}.
    """
    units = unit_spikes() if units is None else units
    series = {VELOCITY: {"data": samples(), "timestamps": TIMES}} if series is None else series
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["session_start_time"] = "2024-05-06T07:08:09+02:00"
        if subject:
            file["general/subject/subject_id"] = subject
        write_units(file, units)
        if electrodes and units:
            write_electrodes(file, len(units))
        for name, fields in series.items():
            write_series(file, name, **fields)
        for name, columns in (tables or {}).items():
            for column, values in columns.items():
                file[f"intervals/{name}/{column}"] = values
    return path


def write_units(file: h5py.File, units: list) -> None:
    if units:
        file["units/spike_times"] = np.concatenate(units).astype(np.float64)
        file["units/spike_times_index"] = np.cumsum([len(times) for times in units]).astype(
            np.uint32
        )
        file["units/id"] = 10 * np.arange(len(units))


def write_electrodes(file: h5py.File, num_units: int) -> None:
    """Two electrodes in groups M1 and PMd; units in turn."""
    file["general/extracellular_ephys/electrodes/group_name"] = ["M1", "PMd"]
    file["units/electrodes"] = np.arange(num_units) % 2
    file["units/electrodes_index"] = np.arange(num_units) + 1


def write_series(
    file: h5py.File, name: str, *, data, timestamps=None, start=None, rate=None, **attrs
) -> None:
    data_set = file.create_dataset(f"{name}/data", data=data)
    data_set.attrs.update({"unit": "cm/s"} | attrs)
    if timestamps is not None:
        file[f"{name}/timestamps"] = timestamps
    if start is not None:
        file[f"{name}/starting_time"] = start
        if rate is not None:
            file[f"{name}/starting_time"].attrs["rate"] = rate
