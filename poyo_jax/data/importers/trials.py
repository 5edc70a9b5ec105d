"""Lay trials that each have a zero of their own one after the other on one clock."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.derive import FEWEST_TRIALS, GAP, median_step, trial_splits
from poyo_jax.data.importers.arrays import checked_targets
from poyo_jax.data.importers.spike_forms import unit_names
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.numbers import to_seconds
from poyo_jax.errors import SessionError

PAUSE = 2.0  # s between trials at least; longer than a window, so that none holds two trials


class LaidTrials(NamedTuple):
    """Trials on one clock, in s."""

    spikes: dict[str, np.ndarray]  # times of every unit
    target_times: np.ndarray  # [samples]
    targets: np.ndarray  # [samples, channels]
    trials: Intervals
    zeros: np.ndarray  # where each trial has its zero, [trials]


class _Trial(NamedTuple):
    """One trial on its own clock, in s."""

    spikes: list[np.ndarray]  # times of every unit
    times: np.ndarray
    targets: np.ndarray


def lay_trials(
    spike_times: Any, target_times: Any, targets: Any, unit_ids: Any, per_second: float
) -> LaidTrials:
    """Lay trials one after the other. `Session.from_trials` describes arguments and errors."""
    count = _length(spike_times, "spike_times")
    times_of_trials = target_times
    if np.ndim(_first(target_times)) == 0:
        times_of_trials = [target_times] * count  # the same times in every trial
    for name, values in (("target_times", times_of_trials), ("targets", targets)):
        if _length(values, name) != count:
            raise SessionError(
                f"spike_times has {count} trials, but {name} has {len(values)}; pass one entry per"
                " trial."
            )
    names = _names(spike_times[0], unit_ids)
    trials = []
    for number in range(count):
        spikes = _spikes(spike_times[number], names, number, per_second)
        times = to_seconds(times_of_trials[number], f"target_times[{number}]", per_second)
        check_times(times, f"target_times[{number}]", strictly=True)
        try:
            values = checked_targets(targets[number], len(times))
        except SessionError as error:
            raise SessionError(f"trial {number}: {error}") from error
        trials.append(_Trial(spikes, times, values.reshape(len(times), -1)))
    _check_channels(trials)
    return _laid(trials, names)


def splits_of_trials(trials: Intervals) -> dict[str, Intervals]:
    """Split by trials where there are enough of them; an empty result stands for blocks."""
    if len(trials) < FEWEST_TRIALS:
        return {}
    table = {"start": trials.starts, "end": trials.ends}
    return trial_splits(table, trials, None, "spike_times")


def _laid(trials: Sequence[_Trial], names: Sequence[str]) -> LaidTrials:
    starts, ends, zeros = [], [], []
    clock = 0.0
    pause = max(PAUSE, 2 * GAP * max(map(_step, trials)))  # a gap between samples, too
    for trial in trials:
        first, last = _span(trial)
        starts.append(clock)
        ends.append(clock + last - first)
        zeros.append(clock - first)
        clock = ends[-1] + pause
    spikes = {}
    for unit, name in enumerate(names):
        pieces = [trial.spikes[unit] + zero for trial, zero in zip(trials, zeros, strict=True)]
        spikes[name] = np.concatenate(pieces)
    times = [trial.times + zero for trial, zero in zip(trials, zeros, strict=True)]
    return LaidTrials(
        spikes,
        np.concatenate(times),
        np.concatenate([trial.targets for trial in trials]),
        Intervals(np.array(starts), np.array(ends)),
        np.array(zeros),
    )


def _span(trial: _Trial) -> tuple[float, float]:
    """First and last moment of a trial, in s from its zero."""
    times = trial.times
    spikes = np.concatenate([np.zeros(0), *trial.spikes])
    first = min(times[0], spikes.min(initial=np.inf))
    last = max(times[-1] + _step(trial), np.nextafter(spikes.max(initial=-np.inf), np.inf))
    return float(first), float(last)


def _step(trial: _Trial) -> float:
    """Median step between the samples of a trial, in s; 0.1 s for a single sample."""
    return median_step(trial.times, alone=0.1)


def _names(first_trial: Any, unit_ids: Any) -> list[str]:
    if isinstance(first_trial, Mapping):
        return unit_names(list(first_trial))
    if unit_ids is not None:
        return unit_names(unit_ids)
    count = _length(first_trial, "spike_times[0]")
    return [f"unit_{number}" for number in range(count)]


def _spikes(trial: Any, names: Sequence[str], number: int, per_second: float) -> list[np.ndarray]:
    """Sorted times of every unit in one trial, in the order of the names."""
    label = f"spike_times[{number}]"
    if isinstance(trial, Mapping):
        by_name = dict(zip(unit_names(list(trial)), trial.values(), strict=True))
        if set(by_name) != set(names):
            raise SessionError(
                f"{label} has other units than the first trial; give every trial the same units,"
                " with no times for a unit that is silent."
            )
        trial = [by_name[name] for name in names]
    if _length(trial, label) != len(names):
        raise SessionError(
            f"{label} has {len(trial)} units, but there are {len(names)}; give every trial a list"
            " with the times of each unit, empty for a unit that is silent."
        )
    spikes = []
    for name, times in zip(names, trial, strict=True):
        times = times if np.ndim(times) else [times]
        times = np.sort(to_seconds(times, f"{label}, unit {name}", per_second))
        check_times(times, f"{label}, unit {name}")
        spikes.append(times)
    return spikes


def _check_channels(trials: Sequence[_Trial]) -> None:
    channels = [trial.targets.shape[1] for trial in trials]
    if len(set(channels)) > 1:
        number = next(i for i, count in enumerate(channels) if count != channels[0])
        raise SessionError(
            f"targets[{number}] has {channels[number]} channels, but targets[0] has {channels[0]};"
            " give every trial the same channels."
        )


def _length(values: Any, name: str) -> int:
    """Length of a list of trials or units. Raises SessionError when it is no list or empty."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        seen = f"of type {type(values).__name__}" if np.size(values) else "empty"
        raise SessionError(
            f"{name} is {seen}; pass lists with one entry per trial: in spike_times a list with the"
            " times of each unit, in target_times and targets one array."
        )
    return len(values)


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, Sequence | np.ndarray) and len(values) else None
