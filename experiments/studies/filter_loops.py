"""Wiener and Kalman filters that move a cursor, update by update."""

from collections import deque

import numpy as np

from experiments.studies.subject import STEP
from poyo_jax import Session


class Recent:
    """Spikes of the last seconds, and their counts in bins that end now."""

    def __init__(self, num_units: int, num_bins: int, bin_size: float):
        self.shape, self._size = (num_units, num_bins), bin_size
        self._hops: deque = deque(maxlen=round(num_bins * bin_size / STEP))

    def counts(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Add spikes, and return the counts [units, bins]."""
        self._hops.append((times, units))
        all_times, all_units = (np.concatenate(part) for part in zip(*self._hops, strict=True))
        counts = np.zeros(self.shape)
        age = np.floor((now - all_times) / self._size).astype(int)
        bins = np.clip(self.shape[1] - 1 - age, 0, self.shape[1] - 1)
        np.add.at(counts, (all_units, bins), 1)
        return counts


class WienerLoop:
    """A causal Wiener filter with the bins and the ridge that are best on the valid split."""

    def __init__(self, block: Session):
        from poyo_jax.baselines import fit_baseline, spike_counts

        chosen = fit_baseline("wiener", block, causal=True, progress=False).settings
        bins, size = round(chosen["past"] / chosen["bin_size"]), chosen["bin_size"]
        times, velocity = _train(block)
        x = spike_counts(block, times, np.arange(-bins, 1) * size).astype(np.float64)
        mean_x, mean_y = x.mean(axis=0), velocity.mean(axis=0)
        xx, xy = np.cov(x.T, bias=True), (x - mean_x).T @ (velocity - mean_y) / len(x)
        penalty = chosen["ridge"] * np.trace(xx) / len(xx) * np.eye(len(xx))
        self._weights = np.linalg.solve(xx + penalty, xy)
        self._offset = mean_y - mean_x @ self._weights
        self._recent = Recent(len(block.unit_ids), bins, size)

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Velocity in cm/s."""
        counts = self._recent.counts(now, times, units)
        return counts.ravel() @ self._weights + self._offset


class KalmanLoop:
    """A Kalman filter with the bins, order and noise that are best on the valid split.

    With bins longer than a step several filters take turns, as in the baseline.
    """

    def __init__(self, block: Session):
        from poyo_jax.baselines import KalmanSearch, fit_baseline, spike_counts
        from poyo_jax.baselines.kalman import fit_kalman

        search = KalmanSearch(bin_sizes=(0.06, 0.1, 0.2), delays=(0.0,))
        fit = fit_baseline("kalman", block, search=search, causal=True, progress=False)
        size, order = fit.settings["bin_size"], int(fit.settings["order"])
        self._ticks = round(size / STEP)
        times, velocity = _train(block)
        first = self._ticks * order
        rows = np.arange(first, len(times))
        lagged = [velocity[rows - self._ticks * lag] for lag in range(order + 1)]
        counts = spike_counts(block, times[rows], np.array([-size, 0.0]))
        kalman = fit_kalman(
            np.concatenate(lagged[:-1], axis=1),
            np.concatenate(lagged[1:], axis=1),
            np.sqrt(counts, dtype=np.float64),
            np.ones(len(rows)),
            fit.settings["shrinkage"],
        )
        noise = fit.settings["scale"] * kalman.observation_noise
        kalman = kalman._replace(observation_noise=noise)
        correction = np.eye(len(kalman.gain)) - kalman.gain @ kalman.observation
        self._kalman, self._gain = kalman, kalman.gain
        self._step = correction @ kalman.transition
        self._states = [np.zeros(len(self._step)) for _ in range(self._ticks)]
        self._recent = Recent(len(block.unit_ids), 1, size)
        self._number = 0

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Velocity in cm/s."""
        counts = np.sqrt(self._recent.counts(now, times, units)[:, 0])
        turn = self._number % self._ticks
        self._number += 1
        innovation = self._gain @ (counts - self._kalman.mean_counts)
        self._states[turn] = self._step @ self._states[turn] + innovation
        return (self._states[turn] + self._kalman.mean_state)[:2]


def _train(block: Session) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and velocities in cm/s of the train split."""
    behaviour = block.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    inside = block.split("train").contains(times)
    return times[inside], behaviour.values(0, behaviour.count)[inside].astype(np.float64)
