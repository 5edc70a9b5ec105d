"""Metrics of predictions against targets."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64

from poyo_jax.errors import DataError

# Underscores: the function itself compares the sizes, with a message of its own.
Samples = Float[np.ndarray, "_samples _channels"]


def r2_per_channel(targets: Samples, predictions: Samples) -> Float64[np.ndarray, " channels"]:
    """Compute the coefficient of determination of each channel.

    It is 1 - (sum of squared errors) / (sum of squares about the mean).

    Targets and predictions are in the same units. Samples with a NaN target are left out. A channel
    whose targets never vary gives NaN. Computed in float64.

    Raises:
        DataError: the shapes differ, or fewer than two samples have targets.
    """
    scores, _ = _scores(targets, predictions)
    return scores


def r2_score(targets: Samples, predictions: Samples) -> float:
    """Average `r2_per_channel` over the channels that vary, for two arrays in the same units.

    Raises DataError as `r2_per_channel` does, and if no channel varies.
    """
    scores, varying = _scores(targets, predictions)
    if not varying.any():
        raise DataError(
            f"none of the {len(varying)} channels of the targets varies, so R2 is not defined."
            " Score another split or another behaviour, or leave the session out."
        )
    return float(scores[varying].mean())


def _scores(
    targets: Samples, predictions: Samples
) -> tuple[Float64[np.ndarray, " channels"], Bool[np.ndarray, " channels"]]:
    """R2 of every channel, and a mask of those that vary; the others have NaN."""
    targets, predictions = _measured(targets, predictions)
    varying = targets.min(axis=0) < targets.max(axis=0)
    errors = np.sum((targets - predictions) ** 2, axis=0)
    spread = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0)
    return 1.0 - errors / np.where(varying, spread, np.nan), varying


def _measured(targets: Samples, predictions: Samples) -> tuple[np.ndarray, np.ndarray]:
    """The samples with targets, in float64."""
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    if targets.shape != predictions.shape or targets.ndim != 2:
        raise DataError(
            f"targets have shape {targets.shape} but predictions {predictions.shape}; "
            "R2 compares them one by one, so give two arrays [samples, channels] of one shape."
        )
    given, measured = len(targets), ~np.isnan(targets).any(axis=1)
    targets, predictions = (
        targets[measured].astype(np.float64),
        predictions[measured].astype(np.float64),
    )
    if len(targets) < 2:
        raise DataError(
            f"R2 needs at least 2 samples with targets, but got {len(targets)} of {given}; "
            "check that the split and the evaluation interval of this session share some time."
        )
    return targets, predictions


def r2_sums(
    targets: Samples, predictions: Samples, origin: Sequence[float]
) -> Float64[np.ndarray, "4 channels"]:
    """Sum up samples for R2; the sums of several sets of samples can be added.

    Count, sum, and sum of squares of (target - origin), and sum of squared errors. An `origin` near
    the mean keeps it exact; it must be the same for all sets.
    """
    centred, errors = (
        targets.astype(np.float64) - np.asarray(origin),
        targets.astype(np.float64) - predictions,
    )
    count = np.full(len(origin), float(len(targets)))
    return np.stack(
        [count, centred.sum(axis=0), np.square(centred).sum(axis=0), np.square(errors).sum(axis=0)]
    )


def r2_of_sums(sums: Float64[np.ndarray, "4 channels"]) -> float:
    """Compute R2 like `r2_score`, but from `r2_sums`.

    NaN for fewer than two samples or if no channel varies.
    """
    count, total, squares, errors = sums
    if count.min() < 2:
        return math.nan
    spread = squares - total**2 / count
    varying = spread > 1e-12 * squares
    if not varying.any():
        return math.nan
    return float((1.0 - errors[varying] / spread[varying]).mean())
