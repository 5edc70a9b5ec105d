"""Spikes of given rates: Poisson processes, thinned by refractoriness, at continuous times.

Nothing here loops over spikes or samples.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float64, Int64

GRID_STEP = 0.005  # s; rates are linear between the points of this grid
DEAD_TIME = 0.002  # s after a spike without any second spike
RECOVERY_TIME = 0.004  # s; time constant of the recovery after that

Rates = Float64[np.ndarray, " grid"]  # Hz
Spikes = Float64[np.ndarray, " spikes"]  # s
Sources = Int64[np.ndarray, " spikes"]


def rate_grid(duration: float) -> Float64[np.ndarray, " grid"]:
    """Times (s) from 0 to at least `duration` at which rates are to be given."""
    num_steps = int(np.ceil(duration / GRID_STEP))
    return np.arange(num_steps + 1) * GRID_STEP


def draw_trains(
    rng: np.random.Generator, rates: Iterable[Rates], duration: float
) -> tuple[Spikes, Sources]:
    """Draw spikes in [0, duration) from `rates` (Hz); return their sorted times (s) and sources.

    The source of a spike is the position of its rate in `rates`.
    """
    trains = [_draw_train(rng, rate, duration) for rate in rates]
    times = np.concatenate(trains)
    counts = [len(train) for train in trains]
    sources = np.repeat(np.arange(len(trains)), counts)
    order = np.argsort(times, kind="stable")
    return times[order], sources[order]


def _draw_train(rng: np.random.Generator, rates: Rates, duration: float) -> Spikes:
    of_steps = (rates[1:] + rates[:-1]) * (GRID_STEP / 2)
    expected = np.concatenate([[0.0], np.cumsum(of_steps)])
    total = expected[-1]
    counts = np.sort(rng.uniform(0.0, total, rng.poisson(total)))
    candidates = np.interp(counts, expected, rate_grid(duration))
    kept = _refractory(rng, candidates)
    return candidates[kept & (candidates < duration)]


def _refractory(rng: np.random.Generator, times: Spikes) -> Bool[np.ndarray, " spikes"]:
    """Choose the candidates (s) that become spikes, as a mask [spikes].

    The probability of a spike recovers with the time since the last spike before it.

    Whether a candidate stays depends on those before it. Starting from "all stay", each pass
    settles at least one more candidate, and in practice all of them within a few passes, because
    refractoriness only reaches a few milliseconds.
    """
    chances = rng.random(len(times))
    kept = np.ones(len(times), bool)
    previous = np.full(len(times), -np.inf)
    while True:
        kept_times = np.where(kept, times, -np.inf)
        previous[1:] = np.maximum.accumulate(kept_times)[:-1]
        recovering = np.maximum(times - previous - DEAD_TIME, 0.0)
        recovered = 1 - np.exp(-recovering / RECOVERY_TIME)
        settled = chances < recovered
        if np.array_equal(settled, kept):
            return kept
        kept = settled
