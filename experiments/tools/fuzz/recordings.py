"""Targets that are recordings: session files, NWB files and MATLAB files.

They carry no digest: a damaged number may be a valid one. So what is read must either be equal to
what was written, or keep the contract of a session.
"""

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from experiments.tools.fuzz.mutate import mutated_bytes
from experiments.tools.fuzz.structure import change_file
from experiments.tools.fuzz.target import Target, need
from poyo_jax.data.io.trial import mark_sound
from poyo_jax.data.session import SPLITS, Session

DURATION, NUM_UNITS, NUM_SPIKES = 4.0, 3, 60
TIMES = np.arange(40) / 10


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spike times (s), their units, and the behaviour at TIMES."""
    rng = np.random.default_rng(0)
    spike_times = np.sort(rng.uniform(0, DURATION, NUM_SPIKES))
    return spike_times, rng.integers(0, NUM_UNITS, NUM_SPIKES), rng.normal(size=(len(TIMES), 2))


def check_session(session: Session) -> None:
    """Read everything; raise OtherValue unless it keeps the contract of a session."""
    session.check()
    times, units = np.asarray(session.spike_times), np.asarray(session.spike_units)
    need(times.dtype == np.float64 and times.ndim == 1, f"spike times are {times.dtype}")
    need(bool(np.isfinite(times).all()), "spike times are not finite")
    need(bool((np.diff(times) >= 0).all()), "spike times are not sorted")
    need(len(units) == len(times), f"{len(units)} units for {len(times)} spikes")
    inside = (units >= 0) & (units < len(session.unit_ids))
    need(bool(inside.all()), "a spike's unit does not exist")
    need(len(set(session.unit_ids)) == len(session.unit_ids), "units have the same name")
    need(all(isinstance(name, str) for name in session.unit_ids), "a unit's name is no text")
    found, found_units = session.spikes_between(1.0, 2.0)
    need(len(found) == len(found_units), "spikes between two times have no units")
    need(isinstance(session.id, str), "the session's id is no text")
    repr(session)
    _check_intervals(session)
    for key in session.behaviour_keys:
        _check_behaviour(session, key)


def _check_intervals(session: Session) -> None:
    for name in session.interval_names:
        intervals = session.intervals(name)
        bounds = np.stack([intervals.starts, intervals.ends])
        need(bounds.dtype == np.float64, f"{name} is of type {bounds.dtype}")
        need(not np.isnan(bounds).any(), f"{name} has a bound that is NaN")
        need(bool((bounds[0] < bounds[1]).all()), f"{name} ends before it starts")
        session.table(name)
    for split in SPLITS:
        if session.has_split(split):
            session.split(split)


def _check_behaviour(session: Session, key: str) -> None:
    behaviour = session.behaviour(key)
    values = behaviour.values(0, behaviour.count)
    times = behaviour.times_at(np.arange(behaviour.count))
    need(values.ndim == 2 and len(values) == len(times), f"{key} has shape {values.shape}")
    need(values.dtype.kind == "f", f"{key} is of type {values.dtype}")
    need(bool(np.isfinite(times).all()), f"times of {key} are not finite")
    need(bool((np.diff(times) > 0).all()), f"times of {key} do not increase")
    first, end = behaviour.range(1.0, 2.0)
    need(0 <= first <= end <= behaviour.count, f"a range of {key} is {first} to {end}")


class _Recording(Target):
    """A recording in one file."""

    file = "original.h5"
    damaged = "damaged.h5"

    @abstractmethod
    def open(self, path: Path) -> Session:
        """Read the file."""

    def warm_up(self) -> None:
        self.original = (self.folder / self.file).read_bytes()
        check_session(self.open(self.folder / self.file))

    def damage(self, path: Path, number: int) -> None:
        path.write_bytes(mutated_bytes(self.original, self.rng(number)))

    def attempt(self, number: int) -> None:
        path = self.folder / f"{number % 100}_{self.damaged}"
        path.unlink(missing_ok=True)
        self.damage(path, number)
        try:
            check_session(self.open(path))
        finally:
            path.unlink(missing_ok=True)


class _Structure:
    """Changes the objects of the file instead of its bytes."""

    def damage(self: Any, path: Path, number: int) -> None:
        shutil.copyfile(self.folder / self.file, path)
        change_file(path, self.rng(number))


# --- session files


class SessionBytes(_Recording):
    """Bytes of a session file."""

    name = "session_bytes"

    def make(self) -> None:
        times, units, values = arrays()
        trials: dict = {"trials": [(0.0, 1.0), (1.0, 2.0)]}
        session = Session.from_arrays(
            *(times, units, ["a", "b", "c"], TIMES, values),
            session_id="s",
            brainset_id="lab",
            intervals=trials,
        )
        session.save(self.folder / self.file)

    def open(self, path: Path) -> Session:
        return Session.open(path)


class SessionStructure(_Structure, SessionBytes):
    """Objects of a session file."""

    name = "session_structure"


# --- NWB files


class NwbBytes(_Recording):
    """Bytes of an NWB file."""

    name = "nwb_bytes"

    def make(self) -> None:
        times, units, values = arrays()
        by_unit = [times[units == unit] for unit in range(NUM_UNITS)]
        behaviour = "processing/behavior/Velocity/cursor_vel"
        with h5py.File(self.folder / self.file, "w") as file:
            file.attrs["nwb_version"] = "2.8.0"
            file["session_start_time"] = "2024-05-06T07:08:09+02:00"
            file["general/subject/subject_id"] = "Ada"
            file["units/spike_times"] = np.concatenate(by_unit)
            file["units/spike_times_index"] = np.cumsum([len(spikes) for spikes in by_unit])
            file["units/id"] = np.arange(NUM_UNITS)
            file[f"{behaviour}/data"] = values
            file[f"{behaviour}/data"].attrs.update({"unit": "cm/s", "conversion": 1.0})
            file[f"{behaviour}/timestamps"] = TIMES
            file["intervals/trials/start_time"] = np.arange(8) / 2
            file["intervals/trials/stop_time"] = np.arange(8) / 2 + 0.4

    def open(self, path: Path) -> Session:
        from poyo_jax.data.importers.nwb_series import candidate_targets

        candidate_targets(path)
        return Session.from_nwb(path, "cursor_vel")


class NwbStructure(_Structure, NwbBytes):
    """Objects of an NWB file."""

    name = "nwb_structure"


# --- MATLAB files


class Matlab5Bytes(_Recording):
    """Bytes of a MATLAB file of version 5."""

    name = "matlab_5_bytes"
    file, damaged = "original.mat", "damaged.mat"

    def make(self) -> None:
        from scipy.io import savemat

        times, units, values = arrays()
        by_unit = np.empty(NUM_UNITS, object)
        for unit in range(NUM_UNITS):
            by_unit[unit] = times[units == unit]
        fields = {"spikes": by_unit, "t": TIMES, "vel": values}
        savemat(self.folder / self.file, {"data": fields}, do_compression=False)

    def open(self, path: Path) -> Session:
        fields = {"spike_times": "data.spikes", "target_times": "data.t", "targets": "data.vel"}
        mark_sound(path)  # this process takes the place of the child that reads it first
        return Session.from_matlab(path, **fields)  # pyright: ignore[reportAttributeAccessIssue]


class Matlab7Bytes(Matlab5Bytes):
    """Bytes of a MATLAB file of version 7.3."""

    name = "matlab_7_bytes"

    def make(self) -> None:
        times, units, values = arrays()
        path = self.folder / self.file
        with h5py.File(path, "w", userblock_size=512) as file:
            cells = [times[units == unit] for unit in range(NUM_UNITS)]
            references = []
            for unit, spikes in enumerate(cells):
                file[f"#refs#/{unit}"] = spikes[None]
                references.append(file[f"#refs#/{unit}"].ref)
            file.create_dataset("data/spikes", data=[references], dtype=h5py.ref_dtype)
            file["data/spikes"].attrs["MATLAB_class"] = np.bytes_("cell")
            file["data/t"] = TIMES[None]
            file["data/vel"] = values.T
            file["data"].attrs["MATLAB_class"] = np.bytes_("struct")
            for name in ("data/t", "data/vel", *(f"#refs#/{unit}" for unit in range(NUM_UNITS))):
                file[name].attrs["MATLAB_class"] = np.bytes_("double")
        content = bytearray(path.read_bytes())
        header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64"
        content[: len(header)] = header
        path.write_bytes(content)


class Matlab7Structure(_Structure, Matlab7Bytes):
    """Objects of a MATLAB file of version 7.3."""

    name = "matlab_7_structure"
