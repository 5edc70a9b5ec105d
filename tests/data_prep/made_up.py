"""A made-up data set: raw files are numpy archives of a few spikes. Run as a script, it prepares a
folder of them.
"""

import sys
import time
from pathlib import Path

import numpy as np

from data_prep.prepare import Job, prepare, recipe
from poyo_jax import Session
from poyo_jax.errors import RawDataError

PACE = 0.04  # seconds that a slow conversion takes


def write_raw(folder: Path, names: list[str], num_spikes: int = 4000) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        with (folder / f"{name}.raw").open("wb") as file:
            np.savez(
                file,
                times=np.sort(rng.random(num_spikes)) * 60,
                units=rng.integers(0, 5, num_spikes),
                id=name,
            )
    return [folder / f"{name}.raw" for name in names]


def convert(path: Path) -> Session:
    if path.read_bytes() == b"unforeseen":
        raise ZeroDivisionError("oh")
    try:
        with np.load(path) as raw:
            times, units, session_id = raw["times"], raw["units"], str(raw["id"])
    except ValueError as error:
        raise RawDataError(
            f"{path.name}: no numpy archive; expected one with times and units."
        ) from error
    grid = np.arange(0, 60, 0.01)
    velocity = np.stack([np.sin(grid), np.cos(grid)], axis=1)
    return Session.from_arrays(
        times, units, range(5), grid, velocity, session_id=session_id, brainset_id="made_up"
    )


def convert_slowly(path: Path) -> Session:
    time.sleep(PACE)
    return convert(path)


if __name__ == "__main__":
    raw, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    print("ready", flush=True)
    prepare(Job("made_up", convert_slowly, out, recipe()), sorted(raw.glob("*.raw")), workers)
