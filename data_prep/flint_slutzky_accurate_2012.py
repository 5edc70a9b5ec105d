"""Flint, Slutzky et al.: monkey C reaches in three dimensions; trials are all that was kept.

Source: Flint_2012_e1 ... e5 of the DREAM data base (MATLAB 5 files); the rules are those of brainsets 0.1.2 to 0.2.2.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from data_prep import rules
from poyo_jax import Session
from poyo_jax.data import nwb
from poyo_jax.data.behaviour import check_times
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.layout import Node
from poyo_jax.data.nodes import data_node, interval_node, irregular_node, units_node
from poyo_jax.errors import RawDataError, SessionError

NAME = "flint_slutzky_accurate_2012"
FILE_NAME = re.compile(r"Flint_2012_(e\d+)\.mat")
DATE = "2013-05-30"  # of the archive; the days of the recordings are known for some only
SHARES = (0.7, 0.1, 0.2)


def convert(path: Path) -> Session:
    """The session in a raw file: its first recording. Raises RawDataError when the file is not as described."""
    if not (match := FILE_NAME.fullmatch(path.name)):
        raise RawDataError(f"{path.name}: not a name of this data set; expected Flint_2012_e<1-5>.mat.")
    try:
        trials = _trials(path)
        times = [_column(trial, "Time") for trial in trials]
        velocity = np.concatenate([_velocity(trial, len(time)) for trial, time in zip(trials, times, strict=True)])
        spikes = [_spikes(trial) for trial in trials]
        return Session(_tree(f"monkey_c_{match[1]}", times, velocity, spikes))
    except (RawDataError, SessionError) as error:
        raise RawDataError(f"{path.name}: {error}") from error


def _tree(recording: str, times: list[np.ndarray], velocity: np.ndarray, spikes: list[list[np.ndarray]]) -> Node:
    num_units = len(spikes[0])
    if not num_units or any(len(trial) < num_units for trial in spikes):
        counts = sorted({len(trial) for trial in spikes})
        raise RawDataError(f"trials have {counts} units (Neuron); expected as many as the first one, {num_units}.")
    domain = _spans(times)
    by_unit = [np.concatenate([trial[unit] for trial in spikes]) for unit in range(num_units)]
    spike_times, units = nwb.sort_spikes(np.concatenate(by_unit), np.array([len(unit) for unit in by_unit]))
    in_trials = [np.concatenate(trial) for trial in spikes if any(len(unit) for unit in trial)]
    recorded = _spans(in_trials)
    splits = zip(("train", "valid", "test"), rules.permutation_split(len(times), SHARES), strict=True)
    return data_node(
        {
            "brainset": _brainset(),
            "subject": data_node(id="monkey_c", species="MACACA_MULATTA"),
            **rules.session_nodes(f"{recording}_reaching", DATE, recording, "UTAH_ARRAY_SPIKES"),
            "domain": interval_node(domain),
            "spikes": nwb.spikes_node(spike_times, units, recorded),
            "units": units_node([f"unit_{unit}" for unit in range(num_units)], unit_number=np.arange(num_units)),
            "hand": irregular_node(np.concatenate(times), domain, vel=velocity),
            "trials": interval_node(domain),
            **{
                f"{name}_domain": interval_node(Intervals(domain.starts[rows], domain.ends[rows]))
                for name, rows in splits
            },
        }
    )


def _brainset() -> Node:
    return rules.brainset_node(
        NAME,
        origin="0.0.0",
        derived="1.0.0",
        source="https://portal.nersc.gov/project/crcns/download/dream/data_sets/Flint_2012",
        description=(
            "Monkeys recordings of Motor Cortex (M1) and dorsal Premotor Cortex (PMd)  128-channel acquisition system "
            "(Cerebus,Blackrock, Inc.)  while performing reaching tasks on right hand"
        ),
    )


def _spans(trials: list[np.ndarray]) -> Intervals:
    """From the first to the last time of every trial. Raises SessionError unless trials follow each other."""
    return Intervals(np.array([times.min() for times in trials]), np.array([times.max() for times in trials]))


def _trials(path: Path) -> np.ndarray:
    """The trials of the first recording, as MATLAB structs."""
    try:
        subjects = loadmat(path)["Subject"]
        trials = subjects[0, 0][subjects.dtype.names[0]].ravel()
    except OSError as error:
        raise RawDataError(f"cannot be read ({error}); fetch it again.") from error
    except Exception as error:  # scipy raises many kinds for damaged files
        raise RawDataError(
            f"is cut off or has no struct array Subject with trials ({type(error).__name__}: {error}); fetch it again."
        ) from error
    if not len(trials):
        raise RawDataError("Subject(1) has no trials; expected one at least.")
    return trials


def _column(trial: Any, name: str) -> np.ndarray:
    times = _field(trial, name).astype(np.float64).ravel()
    if len(times) < 2 or not np.isfinite(times).all():
        raise RawDataError(f"{name} of a trial has {len(times)} values, or NaN; expected finite times.")
    check_times(times, f"{name} of a trial", strictly=True)
    return times


def _velocity(trial: Any, count: int) -> np.ndarray:
    velocity = _field(trial, "HandVel")
    if velocity.ndim != 2 or len(velocity) != count or velocity.shape[1] < 2:
        raise RawDataError(f"HandVel of a trial has shape {velocity.shape}; expected {count} rows of 2 or 3 values.")
    return velocity[:, :2].astype(np.float64)


def _spikes(trial: Any) -> list[np.ndarray]:
    """Spike times of every unit in a trial."""
    neurons = _field(trial, "Neuron")
    (name, *_) = neurons.dtype.names or ("Spike",)
    spikes = [neuron[name].astype(np.float64).ravel() for neuron in neurons.ravel()]
    if not all(np.isfinite(times).all() for times in spikes):
        raise RawDataError("a spike time (Neuron) is NaN; expected finite times.")
    return spikes


def _field(trial: Any, name: str) -> np.ndarray:
    if name not in (trial.dtype.names or ()):
        raise RawDataError(f"a trial has no field {name}; it has {', '.join(trial.dtype.names or ())}.")
    return trial[name]
