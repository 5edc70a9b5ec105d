"""Read the NWB files of FALCON as its evaluator does, and make sessions of them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.checks import check_choice
from poyo_jax.data.session import Session
from poyo_jax.errors import MissingDependencyError, RawDataError
from poyo_jax.falcon.text import text_to_channels
from poyo_jax.files import local_path

BIN_SIZE = 0.02  # s
# What only the files of a task have under /acquisition.
MARKS = {
    "h1": "OpenLoopKinematicsVelocity",
    "h2": "binned_spikes",
    "m1": "preprocessed_emg",
    "m2": "finger_vel",
}

TARGETS = {  # names of the behaviour in sessions
    "h1": "arm.velocity",
    "h2": "handwriting.characters",
    "m1": "muscles.emg",
    "m2": "fingers.velocity",
}


def falcon_session(path: str | Path, task: str) -> Session:
    """Make a session of one file of FALCON, with the bins that its evaluator would serve.

    The bins lie one after the other from 0 s on, as the evaluator serves them: pauses are left out.
    Spikes are spread evenly over their bin. Behaviour stands in the middle of its bin, in the units
    of the file, and is missing where the evaluation mask is off. The handwriting of H2 has a
    channel for each character, as `poyo_jax.falcon.text` says.

    Args:
        path: a file of the calibration folders, or of minival.
        task: "h1", "h2", "m1" or "m2".

    Raises:
        ConfigError: there is no such task.
        RawDataError: the file has not the layout of the task.
        MissingDependencyError: falcon-challenge is not installed.
    """
    check_choice("task", task, MARKS)
    path, config = local_path(path), task_config(task)
    counts, targets = _bins(path, task, config)
    names = [f"channel_{number}" for number in range(counts.shape[1])]
    return Session.from_counts(
        counts,
        BIN_SIZE,
        targets,
        session_id=f"falcon_{task}/{session_tag(config, path)}",
        unit_ids=names,
        target_key=TARGETS[task],
        domain=[[0.0, len(counts) * BIN_SIZE]],
    )


def task_config(task: str) -> Any:
    """The configuration of a task, of falcon-challenge. Raises MissingDependencyError without."""
    try:
        from falcon_challenge.config import (  # pyright: ignore[reportMissingImports]
            FalconConfig,
            FalconTask,
        )
    except ImportError as error:
        raise MissingDependencyError(
            f"files of FALCON need falcon-challenge, which cannot be imported ({error}); run: pip"
            " install 'poyo_jax[falcon]'"
        ) from error
    return FalconConfig(getattr(FalconTask, task))


def session_tag(config: Any, path: str | Path) -> str:
    """The name by which the evaluator knows the session of a file, such as Run1_20201019.

    Raises RawDataError for a name of a file that has none.
    """
    try:
        tag = config.hash_dataset(Path(path).stem)
    except (KeyError, IndexError, ValueError) as error:
        raise RawDataError(
            f"the name of {path} does not tell the session of {config.task.name} ({error!r}). Keep"
            " the names of the files as DANDI or the evaluator gives them."
        ) from error
    digits = tag.removeprefix("ses-")
    if digits == tag:
        return tag
    return f"{digits[:4]}.{digits[4:6]}.{digits[6:]}"  # H2 on DANDI; the evaluator has 2022.05.18


def _bins(path: Path, task: str, config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Counts [bins, channels] and behaviour [bins, outputs] of a file."""
    from falcon_challenge.dataloaders import load_nwb  # pyright: ignore[reportMissingImports]

    _check_layout(path, task)
    try:
        counts, targets, trial_ends, mask = load_nwb(path, config.task)
    except Exception as error:  # of NWB, HDF5, pandas and numpy
        raise RawDataError(
            f"{path} is no whole file of FALCON {task.upper()} ({type(error).__name__}:"
            f" {str(error)[:200]}). Download it again."
        ) from error
    if counts.shape[1] != config.n_channels:
        raise RawDataError(
            f"{path} has {counts.shape[1]} channels, but FALCON {task.upper()} has"
            f" {config.n_channels}. Give a file of that task."
        )
    if task == "h2":
        return _handwriting(path, counts, targets, trial_ends, mask)
    return counts, np.where(np.asarray(mask)[:, None], np.asarray(targets, np.float64), np.nan)


def _check_layout(path: Path, task: str) -> None:
    """Raise RawDataError unless the file has the mark of the task."""
    try:
        with h5py.File(path, "r") as file:
            inside = set(file["acquisition"])  # pyright: ignore[reportArgumentType]
    except (OSError, KeyError) as error:
        raise RawDataError(
            f"{path} cannot be read as a file of FALCON ({error}). Check the path, or download it"
            " again."
        ) from error
    if MARKS[task] in inside:
        return
    others = [other for other, mark in MARKS.items() if mark in inside]
    guess = (
        f"it looks like {others[0].upper()}" if others else "it looks like no task that is known"
    )
    raise RawDataError(
        f"{path} is no file of FALCON {task.upper()}: it has no {MARKS[task]}, and {guess}. Give"
        " the task of the file."
    )


def _handwriting(
    path: Path, counts: np.ndarray, sentences: list, trial_ends: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The bins that are served of each trial, and the character of each bin."""
    trials = np.split(np.arange(len(counts)), np.flatnonzero(trial_ends)[:-1] + 1)
    if len(trials) != len(sentences):
        raise RawDataError(
            f"{path} has {len(sentences)} sentences, but its bins fall into {len(trials)} trials."
            " Download it again."
        )
    served = [trial[mask[trial]] for trial in trials]
    texts = ["".join(map(chr, sentence)) for sentence in sentences]
    channels = [text_to_channels(text, len(bins)) for text, bins in zip(texts, served, strict=True)]
    return counts[np.concatenate(served)], np.concatenate(channels)
