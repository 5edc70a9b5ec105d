"""Flint, Slutzky et al.: monkey C reaches in three dimensions; trials are all that was kept.

Source: Flint_2012_e1 ... e5 of the DREAM data base (MATLAB 5 files); the rules are those of
brainsets 0.1.2 to 0.2.2.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from data_prep import rules
from data_prep.catalogue import CatalogueEntry, Form
from poyo_jax import Session
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import need_file
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, irregular_node, units_node
from poyo_jax.errors import RawDataError, SessionError

NAME = "flint_slutzky_accurate_2012"
FILE_NAME = re.compile(r"Flint_2012_(e\d+)\.mat")
DATE = "2013-05-30"  # of the archive; the days of the recordings are known for some only
SHARES = (0.7, 0.1, 0.2)


def convert(path: Path) -> Session:
    """Convert the first recording in a raw file to a session.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    if not (match := FILE_NAME.fullmatch(path.name)):
        raise RawDataError(
            f"{path.name}: not a name of this data set; expected Flint_2012_e<1-5>.mat."
        )
    need_file(path)
    try:
        trials = _trials(path)
        times = [trial.times() for trial in trials]
        velocity = np.concatenate(
            [trial.velocity(len(time)) for trial, time in zip(trials, times, strict=True)]
        )
        spikes = [trial.spikes() for trial in trials]
        return Session(_tree(f"monkey_c_{match[1]}", times, velocity, spikes))
    except (RawDataError, SessionError) as error:
        raise RawDataError(f"{path.name}: {error}") from error


def _tree(
    recording: str, times: list[np.ndarray], velocity: np.ndarray, spikes: list[list[np.ndarray]]
) -> Node:
    num_units = len(spikes[0])
    if not num_units or any(len(trial) < num_units for trial in spikes):
        counts = sorted({len(trial) for trial in spikes})
        raise RawDataError(
            f"Trial.Neuron has {counts} units in different trials; expected as many as in Trial(1),"
            " at least."
        )
    domain = _spans(times, "Time")
    by_unit = [np.concatenate([trial[unit] for trial in spikes]) for unit in range(num_units)]
    spike_times, units = nwb.sort_spikes(
        np.concatenate(by_unit), np.array([len(unit) for unit in by_unit])
    )
    in_trials = [np.concatenate(trial) for trial in spikes if any(len(unit) for unit in trial)]
    recorded = _spans(in_trials, "Neuron.Spike")
    splits = zip(
        ("train", "valid", "test"), rules.permutation_split(len(times), SHARES), strict=True
    )
    return data_node(
        {
            "brainset": _brainset(),
            "subject": data_node(id="monkey_c", species="MACACA_MULATTA"),
            **rules.session_nodes(f"{recording}_reaching", DATE, recording, "UTAH_ARRAY_SPIKES"),
            "domain": interval_node(domain),
            "spikes": nwb.spikes_node(spike_times, units, recorded),
            "units": units_node(
                [f"unit_{unit}" for unit in range(num_units)], unit_number=np.arange(num_units)
            ),
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
            "Monkeys recordings of Motor Cortex (M1) and dorsal Premotor Cortex (PMd)  128-channel"
            " acquisition system (Cerebus,Blackrock, Inc.)  while performing reaching tasks on"
            " right hand"
        ),
    )


def _spans(trials: list[np.ndarray], field: str) -> Intervals:
    """Return the first and the last time of every trial.

    Raises RawDataError unless the trials follow each other.
    """
    try:
        return Intervals(
            np.array([times.min() for times in trials]), np.array([times.max() for times in trials])
        )
    except SessionError as error:
        raise RawDataError(f"Trial.{field}: {error} Trials must follow each other.") from error


# --- reading


@dataclass(frozen=True)
class _Trial:
    """A trial as MATLAB struct, with the name under which MATLAB knows it."""

    name: str
    struct: Any

    def wrong(self, field: str, found: str, expected: str) -> RawDataError:
        return RawDataError(f"{self.name}.{field} is {found}; expected {expected}.")

    def numbers(self, field: str) -> np.ndarray:
        values = self.field(field)
        if values.dtype.kind not in "biuf":
            raise self.wrong(field, f"of type {values.dtype}", "numbers")
        return values.astype(np.float64)

    def times(self) -> np.ndarray:
        times = self.numbers("Time").ravel()
        if len(times) < 2 or not np.isfinite(times).all():
            found = f"of {len(times)} values, {int(np.isnan(times).sum())} of them NaN"
            raise self.wrong("Time", found, "two finite times at least")
        if (wrong := np.diff(times) <= 0).any():
            row = int(np.argmax(wrong))
            raise self.wrong(
                f"Time({row + 2})", f"{times[row + 1]} s after {times[row]} s", "increasing times"
            )
        return times

    def velocity(self, count: int) -> np.ndarray:
        """The velocity in the plane, [count, 2]."""
        velocity = self.numbers("HandVel")
        if velocity.ndim != 2 or len(velocity) != count or velocity.shape[1] < 2:
            raise self.wrong(
                "HandVel", f"of shape {velocity.shape}", f"{count} rows of 2 or 3 values"
            )
        return velocity[:, :2]

    def spikes(self) -> list[np.ndarray]:
        """Spike times of every unit, from the first field of its struct."""
        neurons = self.field("Neuron")
        if neurons.size and not neurons.dtype.names:
            raise self.wrong(
                "Neuron", f"of type {neurons.dtype}", "a struct array, one element per unit"
            )
        spikes = [np.asarray(neuron[0]).ravel() for neuron in neurons.ravel()]
        for unit, times in enumerate(spikes):
            if times.dtype.kind not in "biuf" or not np.isfinite(times).all():
                raise self.wrong(f"Neuron({unit + 1})", "not all finite numbers", "spike times")
        return [times.astype(np.float64) for times in spikes]

    def field(self, name: str) -> np.ndarray:
        names = self.struct.dtype.names or ()
        if name not in names:
            raise self.wrong(
                name, "missing", f"a field (the trial has {', '.join(names) or 'none'})"
            )
        return np.asarray(self.struct[name])


def _trials(path: Path) -> list[_Trial]:
    """The trials of the first recording."""
    try:
        subjects = loadmat(path)["Subject"]
        trials = subjects[0, 0][subjects.dtype.names[0]].ravel()
    except OSError as error:
        raise RawDataError(f"cannot be read ({error}); fetch it again.") from error
    except Exception as error:  # scipy raises many kinds for damaged files
        raise RawDataError(
            f"is cut off or has no struct array Subject with trials ({type(error).__name__}:"
            f" {error}); fetch it again."
        ) from error
    if not len(trials):
        raise RawDataError("Subject(1) has no trials; expected one at least.")
    return [
        _Trial(f"Subject(1).Trial({number})", trial) for number, trial in enumerate(trials, start=1)
    ]


CATALOGUE = (
    CatalogueEntry(
        name=NAME,
        title="Flint, Slutzky et al.: monkey C, reaches in three dimensions",
        archive=Form(
            "https://portal.nersc.gov/project/crcns/download/dream/data_sets/Flint_2012",
            tuple(f"Flint_2012_e{number}.mat" for number in range(1, 6)),
        ),
        licence="site terms: scientific use, no redistribution",
        convert=convert,
        raw_files=("Flint_2012_e*.mat",),
        num_files=5,
        raw_gigabytes=3.2,
        processed_gigabytes=0.15,
    ),
)
