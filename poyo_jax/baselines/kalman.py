"""The Kalman filter of motor decoding: velocity moves linearly, and the counts of a bin are linear
in velocity.

Wu, Gao, Bienenstock, Donoghue and Black, Neural Computation 18:80-118 (2006); the gain is the
steady one, to which it converges within some ten bins (Malik, Truccolo, Brown and Hochberg, IEEE
TNSRE 19:25-34, 2011).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from poyo_jax.baselines.grid import Grid
from poyo_jax.baselines.samples import Samples
from poyo_jax.baselines.search import Found, Trial, best_of
from poyo_jax.errors import DataError
from poyo_jax.metrics import r2_score

STEPS, DIVERGED = (
    1000,
    1e12,
)  # most iterations of the Riccati equation, and most growth of its covariance
MAX_SAMPLES = 200_000  # that a filter is fitted to, spread evenly
CHUNK = 4096  # bins whose counts are in memory at once
FLOOR = 1e-6  # smallest noise of a unit, relative to the mean one


class Kalman(NamedTuple):
    """x[t] = A x[t-1] + w, w ~ N(0, W), and y[t] = H x[t] + q, q ~ N(0, Q); about the means of
    both.
    """

    transition: Float64[np.ndarray, "state state"]  # A
    transition_noise: Float64[np.ndarray, "state state"]  # W
    observation: Float64[np.ndarray, "units state"]  # H
    observation_noise: Float64[np.ndarray, "units units"]  # Q
    mean_state: Float64[np.ndarray, " state"]
    mean_counts: Float64[np.ndarray, " units"]

    @property
    def gain(self) -> Float64[np.ndarray, "state units"]:
        """The steady gain, which needs the inverse of Q alone. Raises DataError when it does not
        settle.
        """
        projector = np.linalg.solve(self.observation_noise, self.observation).T  # H'Q^-1
        information, identity = projector @ self.observation, np.eye(len(self.transition))
        posterior = np.zeros_like(self.transition)
        for _ in range(STEPS):
            prior = self.transition @ posterior @ self.transition.T + self.transition_noise
            previous, posterior = posterior, prior @ np.linalg.inv(identity + information @ prior)
            if np.allclose(
                previous, posterior, rtol=1e-9, atol=1e-12 * np.trace(self.transition_noise)
            ):
                return posterior @ projector
            if np.trace(prior) > DIVERGED * np.trace(self.transition_noise):
                break
        raise DataError(
            "the gain of the Kalman filter does not settle: its state grows by"
            f" {np.abs(np.linalg.eigvals(self.transition)).max():.3g} a bin without being observed."
            " Use other bins."
        )


def fit_kalman(
    states: Float64[np.ndarray, "samples state"],
    previous: Float64[np.ndarray, "samples state"],
    counts: Float64[np.ndarray, "samples units"],
    weights: Float64[np.ndarray, " samples"],
    shrinkage: float = 0.0,
) -> Kalman:
    """The weighted maximum likelihood of all four matrices; `previous` holds the state one bin
    before each.

    `shrinkage` is the share of its diagonal that replaces Q, which many units leave badly known.
    Raises DataError when there are fewer samples than numbers in a state.
    """
    if len(states) <= states.shape[1]:
        raise DataError(
            f"a Kalman filter is fitted to {len(states)} samples with a sample one bin before them,"
            f" but needs more than {states.shape[1]}. Use shorter bins, or label more."
        )
    share = weights / weights.sum()
    mean_state, mean_counts = share @ states, share @ counts
    x, before, y = states - mean_state, previous - mean_state, counts - mean_counts
    transition, transition_noise = _regress(before, x, share)
    observation, observation_noise = _regress(x, y, share)
    noise = np.diag(observation_noise)
    diagonal = np.diag(np.maximum(noise, FLOOR * max(noise.mean(), FLOOR)))
    observation_noise = (
        observation_noise + shrinkage * (diagonal - observation_noise) + FLOOR * diagonal
    )
    return Kalman(
        transition, transition_noise, observation, observation_noise, mean_state, mean_counts
    )


def _regress(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix B of y = B x + noise by weighted least squares, and the covariance of the
    noise.
    """
    weighted = x * share[:, None]
    matrix = np.linalg.lstsq(weighted.T @ x, weighted.T @ y, rcond=None)[0].T
    rest = y - x @ matrix.T
    return matrix, (rest * share[:, None]).T @ rest


def run_kalman(
    kalman: Kalman, innovations: Float64[np.ndarray, "bins *series state"]
) -> np.ndarray:
    """States [bins, *series, state] of series that are filtered side by side, from the mean state
    on.

    `innovations` are the counts about their mean, times the gain: `(counts - mean_counts) @
    gain.T`.
    """
    gain = kalman.gain
    step = ((np.eye(len(gain)) - gain @ kalman.observation) @ kalman.transition).T
    states, state = np.empty_like(innovations), np.zeros_like(innovations[0])
    for bin, innovation in enumerate(innovations):
        state = state @ step + innovation
        states[bin] = state
    return states + kalman.mean_state


@dataclass(frozen=True, kw_only=True)
class KalmanSearch:
    """Bins, delay of the behaviour behind the counts, velocities in a state, shrinkage and scale of
    Q.

    A state of order 2 holds the velocity now and one bin before, which is velocity and
    acceleration. A scale above 1 trusts each bin less: the noise of units lasts for longer than a
    bin, which the model does not know.
    """

    bin_sizes: Sequence[float] = (0.05, 0.1, 0.2, 0.4)  #: s
    delays: Sequence[float] = (-0.1, 0.0, 0.1)  #: s; negative ones look ahead
    orders: Sequence[int] = (1, 2)  #: velocities in a state
    shrinkages: Sequence[float] = (0.0, 0.5)  #: share of its diagonal that replaces Q
    scales: Sequence[float] = (1.0, 3.0, 10.0)  #: factors of Q

    def run(self, samples: Samples, *, causal: bool, seed: int) -> Found:
        """All trials, and the test split as the best one decodes it; nothing is drawn.

        Raises DataError when no point can be fitted.
        """
        grid = Grid.of(samples)
        targets, weights = grid.place(samples)
        readout, valid, test = samples.readout, samples.masks["valid"], samples.masks["test"]
        trials, decoded, unfit = (
            [],
            [],
            DataError("a Kalman filter needs at least one point to search."),
        )
        for ticks, delay, order, shrinkage, scale in self._points(grid.interval, causal):
            counts, shift = grid.binned(ticks), delay * ticks
            try:
                kalman = _fit(counts, targets, weights, ticks, shift, order, shrinkage)
            except DataError as error:  # bins longer than the trials
                unfit = error
                continue
            kalman = kalman._replace(observation_noise=scale * kalman.observation_noise)
            states = _run(kalman, counts, ticks)[grid.rows - shift, : len(readout.mean)]
            values = states * np.array(readout.std) + np.array(readout.mean)
            size = ticks * grid.interval
            settings = {
                "bin_size": size,
                "past": math.inf,
                "future": max(0, -delay) * size,
                "delay": delay * size,
            }
            settings = {name: round(value, 6) for name, value in settings.items()}
            score = r2_score(samples.targets[valid], values[valid])
            trials.append(
                Trial(settings | {"order": order, "shrinkage": shrinkage, "scale": scale}, score)
            )
            decoded.append(values[test])
        if not trials:
            raise unfit
        best = best_of(trials)
        return Found(trials, best, decoded[best])

    def _points(self, interval: float, causal: bool) -> list[tuple[int, int, int, float, float]]:
        """(ticks of a bin, delay in bins, order, shrinkage, scale), each once."""
        points = []
        for size, delay, *rest in product(
            self.bin_sizes, self.delays, self.orders, self.shrinkages, self.scales
        ):
            ticks = max(1, round(size / interval))
            bins = round(delay / (ticks * interval))
            if bins >= 0 or not causal:
                points.append((ticks, bins, *rest))
        return list(dict.fromkeys(points))


def _fit(
    counts: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    ticks: int,
    shift: int,
    order: int,
    shrinkage: float,
) -> Kalman:
    """Fit to the rows of positive weight whose states now and one bin before were measured in the
    train split.
    """
    rows = np.flatnonzero(weights > 0)
    needed = rows - ticks * np.arange(order + 1)[:, None]  # [order + 1, rows]
    rows = rows[np.isfinite(targets[needed]).all(axis=(0, 2))]
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_SAMPLES)).astype(int)]
    now, before = (
        np.concatenate(
            [targets[rows - (i + first) * ticks] for i in range(order)], axis=1, dtype=np.float64
        )
        for first in (0, 1)
    )
    observed = np.sqrt(counts[rows - shift], dtype=np.float64)
    return fit_kalman(now, before, observed, weights[rows].astype(np.float64), shrinkage)


def _run(kalman: Kalman, counts: np.ndarray, ticks: int) -> Float64[np.ndarray, "rows state"]:
    """States at every row; rows one bin apart are a series of their own."""
    gain = kalman.gain.T
    parts = np.split(counts, range(CHUNK, len(counts), CHUNK))
    innovations = np.concatenate(
        [(np.sqrt(part, dtype=np.float64) - kalman.mean_counts) @ gain for part in parts]
    )
    whole = len(counts) // ticks * ticks
    states = run_kalman(kalman, innovations[:whole].reshape(-1, ticks, gain.shape[1]))
    return states.reshape(whole, gain.shape[1])
