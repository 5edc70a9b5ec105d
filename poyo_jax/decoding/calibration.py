"""Calibration of learned spreads: how often the measured value lies where the model says.

A Gaussian output decodes a mean and a standard deviation, so it claims intervals that hold a given
share of the samples. `calibrate` finds, on the valid split, the factor of each channel by which the
standard deviations must be multiplied. `coverage` counts what is inside the intervals; for classes
it counts how often the likeliest class is right, by its probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from poyo_jax.distributed.processes import gather
from poyo_jax.types import Prediction

LEVELS = tuple(np.round(np.arange(1, 20) / 20, 2).tolist())  # shares of samples that are claimed
TOLD = (0.5, 0.8, 0.95)  # of them, those that are named in tables
CALIBRATED = 0.8  # the share that is right after the calibration
BINS = 10  # of the probability of the likeliest class
EDGES = np.geomspace(1e-3, 1e3, 1201)  # of errors in standard deviations


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a model claims about its errors, and what is so, over all scored samples."""

    claimed: Float64[np.ndarray, " points"]
    """Share of samples that an interval is said to hold; of classes, the mean probability of the
    likeliest class in a bin of probabilities.
    """
    observed: Float64[np.ndarray, " points"]  #: share that it holds; that is right, of classes
    weights: Float64[np.ndarray, " points"]  #: share of the samples that a point stands for

    @property
    def error(self) -> float:
        """Expected calibration error: weighted mean distance of `observed` and `claimed`.

        NaN without samples.
        """
        if not len(self.weights):
            return math.nan
        return float((self.weights * np.abs(self.observed - self.claimed)).sum())

    @property
    def coverage(self) -> dict[float, float]:
        """Observed share inside the intervals of 50, 80 and 95 %; empty for classes."""
        observed = dict(zip(self.claimed.tolist(), self.observed.tolist(), strict=True))
        return {level: observed[level] for level in TOLD if level in observed}


def calibrations(predictions: Sequence[Sequence[Prediction]]) -> dict[str, tuple[float, ...]]:
    """The factors of every output with a standard deviation, by name.

    `predictions` are those of each session, which must not be calibrated.
    """
    by_output: dict[str, list[Prediction]] = {}
    for of_session in predictions:
        for prediction in of_session:
            by_output.setdefault(prediction.output, []).append(prediction)
    factors = {name: calibrate(own) for name, own in by_output.items()}
    return {name: each for name, each in factors.items() if each is not None}


def calibrate(predictions: Sequence[Prediction]) -> tuple[float, ...] | None:
    """Find the factor of each channel for the standard deviations of an output.

    With it the interval of 80 % holds 80 % of the scored samples of all sessions and processes.
    Returns None without a standard deviation or a sample. All processes must call this.
    """
    spread = [prediction for prediction in predictions if prediction.std is not None]
    if not spread:
        return None
    channels = spread[0].values.shape[1]
    counts = np.zeros((channels, len(EDGES) + 1))
    for prediction in spread:
        errors = _errors(prediction)
        for channel in range(channels):
            bins = np.searchsorted(EDGES, errors[:, channel])
            counts[channel] += np.bincount(bins, minlength=len(EDGES) + 1)
    counts = gather(counts).sum(axis=0)
    if not counts.any():
        return None
    middles = np.sqrt(np.append(EDGES, EDGES[-1]) * np.append(EDGES[0], EDGES))
    shares = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    errors = [middles[np.argmax(of_channel >= CALIBRATED)] for of_channel in shares]
    return tuple(float(error) / width_of(CALIBRATED) for error in errors)


def coverage(predictions: Sequence[Prediction]) -> Calibration | None:
    """Compare what an output claims with what is so; None if it claims nothing.

    All processes must call this.
    """
    if any(prediction.std is not None for prediction in predictions):
        return _of_intervals(predictions)
    if any(prediction.probabilities is not None for prediction in predictions):
        return _of_classes(predictions)
    return None


def width_of(level: float) -> float:
    """Half of the width of the interval that holds a share of a Gaussian, in SD."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _errors(prediction: Prediction) -> Float64[np.ndarray, "samples channels"]:
    """Errors of the scored samples, in standard deviations."""
    scored = prediction.scored
    assert prediction.std is not None
    errors = np.abs(prediction.targets[scored] - prediction.values[scored])
    return errors / prediction.std[scored]


def _of_intervals(predictions: Sequence[Prediction]) -> Calibration:
    widths = np.array([width_of(level) for level in LEVELS])
    sums = np.zeros(len(LEVELS) + 1)
    for prediction in predictions:
        errors = _errors(prediction)
        sums[:-1] += (errors[..., None] <= widths).sum(axis=(0, 1))
        sums[-1] += errors.size
    *inside, total = gather(sums).sum(axis=0).tolist()
    if not total:
        return Calibration(*[np.zeros(0)] * 3)
    equal = np.full(len(LEVELS), 1 / len(LEVELS))
    return Calibration(np.array(LEVELS), np.array(inside) / total, equal)


def _of_classes(predictions: Sequence[Prediction]) -> Calibration:
    sums = np.zeros((3, BINS))  # number of samples, sum of probabilities, number of right ones
    for prediction in predictions:
        assert prediction.probabilities is not None
        scored = prediction.scored
        likeliest = prediction.probabilities[scored].max(axis=1)
        right = prediction.values[scored, 0] == prediction.targets[scored, 0]
        bins = np.minimum((likeliest * BINS).astype(int), BINS - 1)
        for row, values in enumerate((np.ones(len(bins)), likeliest, right)):
            sums[row] += np.bincount(bins, values, minlength=BINS)
    counts, claimed, observed = gather(sums).sum(axis=0)
    filled = counts > 0
    counts = counts[filled]
    total = counts.sum()
    return Calibration(claimed[filled] / counts, observed[filled] / counts, counts / total)
