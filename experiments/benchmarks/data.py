"""Measure the speed of data: a large raw file, cold windows, thousands of sessions, intervals."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

UNITS, SPIKES, SAMPLES, TRIALS = 200, 70_000_000, 9_000_000, 2_500
RAW_NAME = "sub-Nitschke_ses-20090812_behavior+ecephys.nwb"
PREPARE = """
import resource, sys, time
from pathlib import Path
from data_prep.churchland_shenoy_neural_2012 import convert
began = time.perf_counter()
convert(Path(sys.argv[1])).save(sys.argv[2], compress=sys.argv[3] == "compressed")
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def measure_data(num_sessions: int) -> dict:
    """Print and return every figure."""
    figures: dict = {"intersect_ms": measure_intersect()}
    print(f"intersect 20,000 x 20,000 intervals: {figures['intersect_ms']:.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / RAW_NAME
        write_raw(raw)
        print(
            f"raw file of {UNITS} units, {SPIKES / 1e6:.0f} M spikes, {SAMPLES / 1e6:.0f} M"
            " samples:"
        )
        for kind in ("plain", "compressed"):
            figures[kind] = measure_prepare(raw, Path(folder) / f"{kind}.h5", kind)
        figures |= measure_opening(Path(folder) / "many", num_sessions)
    return figures


def write_raw(path: Path) -> None:
    """Write a raw file of the size of Churchland and Shenoy's.

    Spikes are random, and the hand makes a random walk.
    """
    rng, per_trial, per_unit = np.random.default_rng(0), SAMPLES // TRIALS, SPIKES // UNITS
    starts = 10 + np.arange(TRIALS) * (per_trial / 1000 + 1.0)
    with h5py.File(path, "w") as file:
        file["session_start_time"] = "2009-08-12T00:00:00-07:00"
        file["general/subject/subject_id"] = "Nitschke"
        file["general/subject/species"] = "Macaca mulatta"
        file["general/extracellular_ephys/electrodes/group_name"] = np.array([b"1"] * UNITS, object)
        times = file.create_dataset("units/spike_times", (per_unit * UNITS,), float)
        for unit in range(UNITS):
            trial = np.sort(rng.integers(0, TRIALS, per_unit))
            spikes = np.sort(starts[trial] + rng.random(per_unit) * per_trial / 1000)
            times[unit * per_unit : (unit + 1) * per_unit] = (
                np.round(spikes * 30_000) / 30_000
            )  # of the amplifier
        file["units/spike_times_index"] = per_unit * np.arange(1, UNITS + 1)
        stamps = (starts[:, None] + np.arange(per_trial) / 1000).ravel()
        for name in ("Cursor", "Hand", "Eye"):
            group = file.create_group(f"processing/behavior/Position/{name}")
            group["timestamps"] = stamps
            group["data"] = np.cumsum(rng.normal(size=(len(stamps), 2)), axis=0)
        after = {
            "target_presentation_time": 0.2,
            "go_cue_time": 1.0,
            "move_begins_time": 1.3,
            "move_ends_time": 1.8,
        }
        trials = {name: starts + seconds for name, seconds in after.items()}
        trials |= {"start_time": starts, "stop_time": starts + per_trial / 1000}
        trials |= {
            "discard_trial": np.zeros(TRIALS, np.uint8),
            "task_success": np.ones(TRIALS, np.uint8),
        }
        for name, column in trials.items():
            file[f"intervals/trials/{name}"] = column


def measure_prepare(raw: Path, out: Path, kind: str) -> dict:
    """Measure the conversion of the raw file, the size of the session, and cold windows."""
    command = [sys.executable, "-c", PREPARE, str(raw), str(out), kind]
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, env=_environment()
    ).stdout
    seconds, peak = map(float, text.split())
    figures = {
        "seconds": seconds,
        "peak_gib": peak,
        "gigabytes": out.stat().st_size / 1e9,
        **measure_windows(out),
    }
    print(
        f"  {kind}: {seconds:.0f} s, {peak:.1f} GiB at most, session of {figures['gigabytes']:.2f}"
        f" GB; cold: open {figures['open_ms']:.0f} ms, first window"
        f" {figures['first_window_ms']:.1f} ms, others {figures['window_ms']:.1f} ms in median;"
        f" warm {figures['warm_ms']:.2f} ms"
    )
    return figures


def measure_windows(path: Path) -> dict:
    """Milliseconds to open a session and to read windows of 1 s that no cache holds."""
    from poyo_jax import Session

    _forget(path)
    began = time.perf_counter()
    session = Session.open(path)
    opened = time.perf_counter()
    starts = np.random.default_rng(0).uniform(10, 9_000, 50)
    cold, warm = [], []
    for start in starts:
        cold.append(_seconds(session, start))
        warm.append(_seconds(session, start))
    return {
        "open_ms": 1e3 * (opened - began),
        "first_window_ms": 1e3 * cold[0],
        "window_ms": 1e3 * float(np.median(cold)),
        "warm_ms": 1e3 * float(np.median(warm)),
    }


def _seconds(session, start: float) -> float:
    """Time to read the spikes and the velocity of a window."""
    began = time.perf_counter()
    session.spikes_between(start, start + 1.0)
    behaviour = session.behaviour("cursor.vel")
    behaviour.values(*behaviour.range(start, start + 1.0))
    return time.perf_counter() - began


def measure_opening(folder: Path, count: int) -> dict:
    """Seconds to open many sessions, without and with their manifest."""
    from poyo_jax import open_sessions
    from poyo_jax.data.simulate import simulate_study

    folder.mkdir()
    (session,) = simulate_study(0, 1, num_units=(100, 100), duration=60.0)
    session.save(folder / "s00000.h5")
    for number in range(1, count):
        os.link(folder / "s00000.h5", folder / f"s{number:05d}.h5")
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        sessions = open_sessions(folder)
        seconds.append(time.perf_counter() - began)
    train = sum(session.split("train").duration for session in sessions)
    print(
        f"open {count} sessions ({train / 3600:.0f} h of training): {seconds[0]:.1f} s the first"
        f" time, {seconds[1]:.1f} s from the manifest"
    )
    return {"open_first_s": seconds[0], "open_again_s": seconds[1]}


def measure_intersect(count: int = 20_000) -> float:
    """Milliseconds to intersect two sets of intervals, the best of ten."""
    from poyo_jax.data.intervals import Intervals

    rng = np.random.default_rng(0)
    a, b = (Intervals(*np.sort(rng.random(2 * count)).reshape(count, 2).T) for _ in range(2))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a.intersect(b)
        seconds.append(time.perf_counter() - began)
    return 1e3 * min(seconds)


def _forget(path: Path) -> None:
    """Drop the file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
