"""Spikes of given rates: Poisson processes, thinned by refractoriness, at continuous times.

Nothing here loops over spikes or samples.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float64, Int64

GRID_STEP = 0.005  # s; rates are linear between the points of this grid
DEAD_TIME, RECOVERY_TIME = (
    0.002,
    0.004,
)  # s: no second spike at all; time constant of the recovery after that


def rate_grid(duration: float) -> Float64[np.ndarray, " grid"]:
    """Times (s) from 0 to at least `duration` at which rates are to be given."""
    return np.arange(int(np.ceil(duration / GRID_STEP)) + 1) * GRID_STEP


def draw_trains(
    rng: np.random.Generator, rates: Iterable[Float64[np.ndarray, " grid"]], duration: float
) -> tuple[Float64[np.ndarray, " spikes"], Int64[np.ndarray, " spikes"]]:
    """Draw spikes in [0, duration) from `rates` (Hz); return their sorted times (s) and sources.

    The source of a spike is the position of its rate in `rates`.
    """
    trains = [_draw_train(rng, rate, duration) for rate in rates]
    times = np.concatenate(trains)
    sources = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    order = np.argsort(times, kind="stable")
    return times[order], sources[order]


def _draw_train(
    rng: np.random.Generator, rates: Float64[np.ndarray, " grid"], duration: float
) -> Float64[np.ndarray, " spikes"]:
    expected = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) * (GRID_STEP / 2))])
    counts = np.sort(rng.uniform(0.0, expected[-1], rng.poisson(expected[-1])))
    candidates = np.interp(counts, expected, rate_grid(duration))
    return candidates[_refractory(rng, candidates) & (candidates < duration)]


def _refractory(
    rng: np.random.Generator, times: Float64[np.ndarray, " spikes"]
) -> Bool[np.ndarray, " spikes"]:
    """Choose the candidates (s) that become spikes, as a mask [spikes].

    The probability of a spike recovers with the time since the last spike before it.

    Whether a candidate stays depends on those before it. Starting from "all stay", each pass
    settles at least one more candidate, and in practice all of them within a few passes, because
    refractoriness only reaches a few milliseconds.
    """
    chances = rng.random(len(times))
    kept, previous = np.ones(len(times), bool), np.full(len(times), -np.inf)
    while True:
        previous[1:] = np.maximum.accumulate(np.where(kept, times, -np.inf))[:-1]
        recovered = 1 - np.exp(-np.maximum(times - previous - DEAD_TIME, 0.0) / RECOVERY_TIME)
        settled = chances < recovered
        if np.array_equal(settled, kept):
            return kept
        kept = settled
