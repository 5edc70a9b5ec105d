"""Write made-up files in the layout of FALCON, to try a decoder without a download.

    $ python -m experiments.falcon.make_files falcon_data/ --task m2

Channels fire to the behaviour (or to the letters of H2), so that decoders have something to find.
The numbers say nothing of the benchmark. Every session of the task gets a file for calibration, and
every held-in session one for minival, which is independent of it.
"""
# pynwb makes its classes by decorators that hide their arguments.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pynwb
import pynwb.behavior
from numpy.random import Generator

from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.falcon.recordings import BIN_SIZE
from poyo_jax.falcon.text import ALPHABET, text_to_channels

# pynwb makes its constructors at run time, where checks of types cannot see them.
nwb: Any = pynwb

Task = Literal["h1", "h2", "m1", "m2"]
CHANNELS = {"h1": 176, "h2": 192, "m1": 64, "m2": 96}
OUTPUTS = {"h1": 7, "h2": len(ALPHABET), "m1": 16, "m2": 2}
# The names of files on DANDI, for what a folder holds and for a session.
NAMES = {
    "h1": "sub-HumanPitt-{kind}_ses-{session}",
    "h2": "sub-T5-{kind}_ses-{session}",
    "m1": "sub-MonkeyL-{kind}_ses-{session}_behavior+ecephys",
    "m2": "sub-MonkeyN-{kind}_ses-{session}_behavior+ecephys",
}
SENTENCES = ("the cat sat", "we went home", "a big red dog", "say it again")
TRIAL_BINS = 100


@dataclass(frozen=True, kw_only=True)
class MakeFiles:
    """Write made-up files in the layout of FALCON."""

    folder: Folder
    """Folder that gets a folder of the task."""
    task: Task
    """The task."""
    num_trials: int = 20
    """Trials of 2 s in each file."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(make_files, MakeFiles, arguments, description=__doc__)


def make_files(options: MakeFiles) -> None:
    """Write the files of all sessions of a task."""
    held_in, held_out = session_names(options.task)
    kinds = [("held-in-calib", held_in), ("held-out-calib", held_out), ("held-in-minival", held_in)]
    for number, (kind, sessions) in enumerate(kinds):
        for session in sessions:
            place = "minival" if "minival" in kind else kind.replace("-", "_")
            name = NAMES[options.task].format(kind=kind, session=session)
            path = options.folder / options.task / place / f"{name}.nwb"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = [number, *map(ord, session)]
            write(path, options.task, options.num_trials, np.random.default_rng(seed))
    print(f"{len(held_in)} held-in and {len(held_out)} held-out sessions are in {options.folder}")


def session_names(task: Task) -> tuple[list[str], list[str]]:
    """The held-in and the held-out sessions of a task, as names of files on DANDI have them."""
    from falcon_challenge.config import (  # pyright: ignore[reportMissingImports]
        H1_NEW_TO_OLD,
    )
    from falcon_challenge.evaluator import (  # pyright: ignore[reportMissingImports]
        DATASET_HELDINOUT_MAP,
    )

    old = {tag: name for name, tag in H1_NEW_TO_OLD.items()}

    def name(tag: str) -> str:
        if task == "h1":
            return old[tag]
        if task == "m2":
            run, date = tag.split("_")
            return f"{date[:4]}-{date[4:6]}-{date[6:]}-{run}"
        return tag.replace(".", "")

    tags = DATASET_HELDINOUT_MAP[task]
    return [name(tag) for tag in tags["held_in"]], [name(tag) for tag in tags["held_out"]]


def write(path: Path, task: Task, num_trials: int, rng: Generator) -> None:
    """Write one file."""
    num_bins = num_trials * TRIAL_BINS
    sentences = [SENTENCES[number] for number in rng.integers(len(SENTENCES), size=num_trials)]
    if task == "h2":
        shares = [text_to_channels(sentence, TRIAL_BINS) for sentence in sentences]
        behaviour = np.concatenate(shares)
    else:
        behaviour = wander(num_bins, OUTPUTS[task], rng)
    tuning = np.random.default_rng(CHANNELS[task]).normal(size=(OUTPUTS[task], CHANNELS[task]))
    strength = 2.5 if task == "h2" else 0.8 / np.sqrt(OUTPUTS[task])
    counts = rng.poisson(0.2 * np.exp(strength * behaviour @ tuning)).clip(max=20)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    file = nwb.NWBFile("made up", str(path.stem), start)
    mask = np.ones(num_bins, bool)
    mask[:5] = False
    add = {"h1": add_h1, "h2": add_h2, "m1": add_m1, "m2": add_m2}[task]
    add(file, counts, behaviour, mask, sentences)
    with nwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


def wander(num_bins: int, num_outputs: int, rng: Generator) -> np.ndarray:
    """Smooth behaviour [bins, outputs] of about unit variance."""
    noise = rng.normal(size=(num_bins + 40, num_outputs))
    window = np.hanning(41)[:, None] / np.sqrt(np.sum(np.hanning(41) ** 2))
    columns = [np.convolve(noise[:, i], window[:, 0], "valid") for i in range(num_outputs)]
    return np.stack(columns, axis=1)


def add_h1(file: Any, counts: Any, behaviour: Any, mask: Any, sentences: Any) -> None:
    """Bins end at the time stamps, offset + number x rate."""
    add_units(file, counts, -BIN_SIZE)
    clock = {"rate": BIN_SIZE, "starting_time": 0.0, "unit": "n/a"}
    positions = np.cumsum(behaviour, axis=0) * BIN_SIZE
    add_series(file, "OpenLoopKinematics", positions, offset=0.0, **clock)
    add_series(file, "OpenLoopKinematicsVelocity", behaviour, **clock)
    add_series(file, "eval_mask", mask, **clock)
    add_series(file, "TrialNum", np.arange(len(counts)) // TRIAL_BINS, **clock)


def add_m1(file: Any, counts: Any, behaviour: Any, mask: Any, sentences: Any) -> None:
    """Bins end at the time stamps of the muscles."""
    add_units(file, counts, 0.0)
    times = (np.arange(len(counts)) + 1) * BIN_SIZE
    add_channels(file, "preprocessed_emg", behaviour, times)
    add_series(file, "eval_mask", mask, timestamps=times, unit="bool")
    add_trials(file, times)


def add_m2(file: Any, counts: Any, behaviour: Any, mask: Any, sentences: Any) -> None:
    """Bins begin at the time stamps of the fingers."""
    add_units(file, counts, 0.0)
    times = np.arange(len(counts)) * BIN_SIZE
    add_channels(file, "finger_vel", behaviour, times)
    add_series(file, "eval_mask", mask, timestamps=times, unit="bool")
    add_trials(file, times)


def add_h2(file: Any, counts: Any, behaviour: Any, mask: Any, sentences: list[str]) -> None:
    """Bins come as they are; a pause stands between two trials."""
    trials = np.arange(len(counts)) // TRIAL_BINS
    times = np.arange(len(counts)) * BIN_SIZE + 0.5 * trials
    add_series(file, "binned_spikes", counts, timestamps=times, unit="n/a")
    add_series(file, "eval_mask", mask, timestamps=times, unit="bool")
    file.add_trial_column("cue", "sentence to write")
    for number, sentence in enumerate(sentences):
        inside = times[trials == number]
        cue = sentence.replace(" ", ">")
        file.add_trial(start_time=inside[0], stop_time=inside[-1], cue=cue)


def add_units(file: Any, counts: np.ndarray, begin: float) -> None:
    """Spikes that fall into bins of these counts, the first of which begins at `begin` s."""
    for channel in counts.T:
        bins = np.repeat(np.arange(len(channel)), channel)
        nth = np.arange(len(bins)) - np.searchsorted(bins, bins)
        within = (nth + 0.5) / channel[bins]
        file.add_unit(spike_times=begin + (bins + within) * BIN_SIZE)


def add_series(file: Any, name: str, data: np.ndarray, **clock: Any) -> None:
    file.add_acquisition(nwb.TimeSeries(name=name, data=data, **clock))


def add_channels(file: Any, name: str, data: np.ndarray, times: np.ndarray) -> None:
    container = nwb.behavior.BehavioralTimeSeries(name=name)
    for number, channel in enumerate(data.T):
        series = nwb.TimeSeries(name=f"channel_{number}", data=channel, timestamps=times, unit="AU")
        container.add_timeseries(series)
    file.add_acquisition(container)


def add_trials(file: Any, times: np.ndarray) -> None:
    for first in range(0, len(times), TRIAL_BINS):
        last = times[min(first + TRIAL_BINS, len(times)) - 1]
        file.add_trial(start_time=times[first], stop_time=last)


if __name__ == "__main__":
    main()
