"""The Kalman filter of motor decoding.

Velocity moves linearly, and the square roots of the counts of a bin are linear in velocity.

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
from poyo_jax.baselines.search import BIN_SECONDS, SearchResult, Trial, best_of
from poyo_jax.checks import POSITIVE, check_numbers, integer, number
from poyo_jax.errors import DataError
from poyo_jax.metrics import r2_score
from poyo_jax.progress import Progress

DOUBLINGS = 60  # most doublings of the number of bins
SETTLED = 1e-12  # relative growth of the covariance
DIVERGED = 1e12  # most covariance, relative to the noise of a bin
MAX_SAMPLES = 200_000  # that a filter is fitted to, spread evenly
CHUNK = 4096  # bins whose counts are in memory at once
FLOOR = 1e-6  # smallest noise of a unit, relative to the mean one

Point = tuple[int, int, int, float, float]


class Kalman(NamedTuple):
    """Matrices of the linear Gaussian model.

    x[t] = A x[t-1] + w with w ~ N(0, W), and y[t] = H x[t] + q with q ~ N(0, Q), both about their
    means.
    """

    transition: Float64[np.ndarray, "state state"]  # A
    transition_noise: Float64[np.ndarray, "state state"]  # W
    observation: Float64[np.ndarray, "units state"]  # H
    observation_noise: Float64[np.ndarray, "units units"]  # Q
    mean_state: Float64[np.ndarray, " state"]
    mean_counts: Float64[np.ndarray, " units"]

    @property
    def gain(self) -> Float64[np.ndarray, "state units"]:
        """Steady gain, computed with the inverse of Q alone.

        Raises DataError when there is none, because the state grows without being observed.
        """
        projector = np.linalg.solve(self.observation_noise, self.observation).T  # H'Q^-1
        information = projector @ self.observation
        prior = _steady_covariance(self.transition, self.transition_noise, information)
        identity = np.eye(len(prior))
        posterior = prior @ np.linalg.inv(identity + information @ prior)
        return posterior @ projector


def _steady_covariance(
    transition: np.ndarray, noise: np.ndarray, information: np.ndarray
) -> np.ndarray:
    """Solve the Riccati equation P = A (P^-1 + H'Q^-1 H)^-1 A' + W, for P before a bin is seen.

    Every step doubles the number of bins that have been seen (Anderson, International Journal of
    Control 28:295-306, 1978), so that slow states settle as soon as fast ones.
    """
    identity = np.eye(len(transition))
    step, seen, covariance = transition.T, information, noise
    for _ in range(DOUBLINGS):
        factor = np.linalg.inv(identity + seen @ covariance)
        growth = step.T @ covariance @ factor @ step
        seen = seen + step @ factor @ seen @ step.T
        covariance = covariance + growth
        step = step @ factor @ step
        if not np.trace(covariance) <= DIVERGED * np.trace(noise):
            break
        if (np.diag(growth) <= SETTLED * np.diag(covariance)).all():
            return covariance
    fastest = np.abs(np.linalg.eigvals(transition)).max()
    raise DataError(
        f"the gain of the Kalman filter does not settle: its state grows by {fastest:.3g} a bin"
        " without being observed. Use other bins."
    )


def fit_kalman(
    states: Float64[np.ndarray, "samples state"],
    previous: Float64[np.ndarray, "samples state"],
    counts: Float64[np.ndarray, "samples units"],
    weights: Float64[np.ndarray, " samples"],
    shrinkage: float = 0.0,
) -> Kalman:
    """Estimate all four matrices by weighted maximum likelihood.

    `previous` holds the state one bin before each state. With many units Q is badly known:
    `shrinkage` is the share of it that its diagonal replaces. Raises DataError when there are
    fewer samples than numbers in a state.
    """
    if len(states) <= states.shape[1]:
        raise DataError(
            f"a Kalman filter is fitted to {len(states)} samples with a sample one bin before them,"
            f" but needs more than {states.shape[1]}. Use shorter bins, or label more."
        )
    share = weights / weights.sum()
    mean_state = share @ states
    mean_counts = share @ counts
    x = states - mean_state
    transition, transition_noise = _regress(previous - mean_state, x, share)
    observation, observation_noise = _regress(x, counts - mean_counts, share)
    noise = np.diag(observation_noise)
    smallest = FLOOR * max(noise.mean(), FLOOR)
    diagonal = np.diag(np.maximum(noise, smallest))
    shrunk = observation_noise + shrinkage * (diagonal - observation_noise)
    observation_noise = shrunk + FLOOR * diagonal
    return Kalman(
        transition, transition_noise, observation, observation_noise, mean_state, mean_counts
    )


def _regress(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit y = B x + noise by weighted least squares; return B and the covariance of the noise."""
    weighted = x * share[:, None]
    solution, *_ = np.linalg.lstsq(weighted.T @ x, weighted.T @ y, rcond=None)
    matrix = solution.T
    residuals = y - x @ matrix.T
    covariance = (residuals * share[:, None]).T @ residuals
    return matrix, covariance


def run_kalman(
    kalman: Kalman, innovations: Float64[np.ndarray, "bins *series state"]
) -> np.ndarray:
    """Filter several series side by side; return their states [bins, *series, state].

    Every series begins at the mean state. `innovations` are the counts about their mean, times the
    gain: `(counts - mean_counts) @ gain.T`.
    """
    gain = kalman.gain
    correction = np.eye(len(gain)) - gain @ kalman.observation
    step = (correction @ kalman.transition).T
    states = np.empty_like(innovations)
    state = np.zeros_like(innovations[0])
    for bin, innovation in enumerate(innovations):
        state = state @ step + innovation
        states[bin] = state
    return states + kalman.mean_state


@dataclass(frozen=True, kw_only=True)
class KalmanSearch:
    """Search over bin size, delay, order of the state, and shrinkage and scale of Q.

    A state of order 2 holds the velocity now and one bin before: velocity and acceleration. A scale
    above 1 trusts each bin less, since the noise of units lasts longer than a bin, and the model
    assumes that it does not. Raises ConfigError for numbers that cannot be.
    """

    bin_sizes: Sequence[float] = (0.05, 0.1, 0.2, 0.4)  #: s
    delays: Sequence[float] = (-0.1, 0.0, 0.1)  #: of behaviour behind counts, s; < 0 looks ahead
    orders: Sequence[int] = (1, 2)  #: velocities in a state
    shrinkages: Sequence[float] = (0.0, 0.5)  #: share of its diagonal that replaces Q
    scales: Sequence[float] = (1.0, 3.0, 10.0)  #: factors of Q

    def __post_init__(self) -> None:
        check_numbers("KalmanSearch.bin_sizes", self.bin_sizes, BIN_SECONDS)
        check_numbers("KalmanSearch.delays", self.delays, number(at_least=-10, at_most=10))
        check_numbers("KalmanSearch.orders", self.orders, integer(1, 100))
        check_numbers("KalmanSearch.shrinkages", self.shrinkages, number(at_least=0, at_most=1))
        check_numbers("KalmanSearch.scales", self.scales, POSITIVE)

    def run(self, samples: Samples, *, causal: bool, seed: int, progress: bool) -> SearchResult:
        """Run all trials, and decode the test split with the best one; `seed` is not used.

        Raises DataError when no point can be fitted.
        """
        longest_bin = max(*self.bin_sizes, samples.interval)
        reach = max(map(abs, self.delays)) + (max(self.orders) + 1) * longest_bin
        grid = Grid.of(samples, reach)
        targets, weights = grid.place(samples)
        readout = samples.readout
        mean, std = np.array(readout.mean), np.array(readout.std)
        valid, test = samples.masks["valid"], samples.masks["test"]
        trials, decoded = [], []
        unfit = DataError("a Kalman filter needs at least one point to search.")
        points = self._points(grid.interval, causal)
        with Progress("tuning kalman", 0, len(points), progress, unit="trial") as bar:
            for done, (ticks, delay, order, shrinkage, scale) in enumerate(points):
                bar.advance(done)
                counts, shift = grid.binned(ticks), delay * ticks
                try:
                    kalman = _fit(counts, targets, weights, ticks, shift, order, shrinkage)
                    kalman = kalman._replace(observation_noise=scale * kalman.observation_noise)
                    states = _run(kalman, counts, ticks)[grid.rows - shift, : len(mean)]
                except DataError as error:  # too few samples, or a gain that does not settle
                    unfit = error
                    continue
                values = states * std + mean
                size = ticks * grid.interval
                settings = {
                    "bin_size": round(size, 6),
                    "past": math.inf,
                    "future": round(max(0, -delay) * size, 6),
                    "delay": round(delay * size, 6),
                    "order": order,
                    "shrinkage": shrinkage,
                    "scale": scale,
                }
                score = r2_score(samples.targets[valid], values[valid])
                trials.append(Trial(settings, score))
                decoded.append(values[test])
        if not trials:
            raise unfit
        best = best_of(trials)
        return SearchResult(trials, best, decoded[best])

    def _points(self, interval: float, causal: bool) -> list[Point]:
        """Distinct points: (ticks of a bin, delay in bins, order, shrinkage, scale)."""
        points = []
        others = (self.orders, self.shrinkages, self.scales)
        combinations = product(self.bin_sizes, self.delays, *others)
        for size, delay, *rest in combinations:
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
    """Fit to the weighted train rows whose states now and one bin before were measured."""
    rows = np.flatnonzero(weights > 0)
    lags = ticks * np.arange(order + 1)
    needed = rows - lags[:, None]  # [order + 1, rows]
    measured = np.isfinite(targets[needed]).all(axis=(0, 2))
    rows = rows[measured]
    count = min(len(rows), MAX_SAMPLES)
    kept = np.linspace(0, len(rows) - 1, count).astype(int)
    rows = rows[kept]
    lagged = [targets[rows - lag] for lag in lags]
    now = np.concatenate(lagged[:-1], axis=1, dtype=np.float64)
    before = np.concatenate(lagged[1:], axis=1, dtype=np.float64)
    observed = np.sqrt(counts[rows - shift], dtype=np.float64)
    weights = weights[rows].astype(np.float64)
    return fit_kalman(now, before, observed, weights, shrinkage)


def _run(kalman: Kalman, counts: np.ndarray, ticks: int) -> Float64[np.ndarray, "rows state"]:
    """States at every row; rows that are one bin apart form a series."""
    gain = kalman.gain.T
    chunks = np.split(counts, range(CHUNK, len(counts), CHUNK))
    roots = (np.sqrt(chunk, dtype=np.float64) for chunk in chunks)
    pieces = [(root - kalman.mean_counts) @ gain for root in roots]
    innovations = np.concatenate(pieces)
    whole = len(counts) // ticks * ticks
    size = gain.shape[1]
    series = innovations[:whole].reshape(-1, ticks, size)
    states = run_kalman(kalman, series)
    return states.reshape(whole, size)
