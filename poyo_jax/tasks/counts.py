"""Counts: decode how many events a sample has, by Poisson regression."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.errors import DataError
from poyo_jax.tasks.interface import Metric, Task, namespace
from poyo_jax.types import Kind, Readout

LIMIT = 15.0  # of the log of a rate, either way


def deviance_sums(
    targets: Float[np.ndarray, "samples channels"],
    values: Float[np.ndarray, "samples channels"],
    readout: Readout,
) -> Float64[np.ndarray, "4 channels"]:
    """Number of samples, sum of counts, and sums of count * log(count) and of the deviance / 2."""
    targets, values = targets.astype(float), np.maximum(values.astype(float), 1e-9)
    logs = targets * np.log(np.maximum(targets, 1))
    deviance = logs - targets - (targets * np.log(values) - values)
    samples = np.full(targets.shape[1], float(len(targets)))
    return np.stack([samples, targets.sum(axis=0), logs.sum(axis=0), deviance.sum(axis=0)])


def explained_deviance(sums: Float64[np.ndarray, "4 channels"]) -> float:
    """1 - deviance / deviance of the mean count, the mean over channels that vary; NaN if none."""
    samples, total, logs, deviance = sums
    if samples.min() < 2:
        return math.nan
    mean = np.maximum(total / samples, 1e-9)
    of_mean = logs - total * np.log(mean)
    varying = of_mean > 1e-9
    if not varying.any():
        return math.nan
    return float((1 - deviance[varying] / of_mean[varying]).mean())


DEVIANCE = Metric(
    name="deviance",
    label="explained deviance",
    text="explained deviance",
    higher_is_better=True,
    perfect=1.0,
    sums=deviance_sums,
    score=explained_deviance,
)


@dataclass(frozen=True)
class Counts(Task):
    """Poisson regression of counts of events, scored by the share of the deviance explained.

    The outputs are logs of the expected counts.
    """

    kind: ClassVar[Kind] = "counts"  #: of its readouts

    @property
    def metric(self) -> Metric:
        """Share of the deviance that is explained: as R2, 1 is perfect and the mean count has 0."""
        return DEVIANCE

    def output_size(self, num_channels: int) -> int:
        """One value a channel."""
        return num_channels

    def normalise(
        self, values: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float[np.ndarray, "samples channels"]:
        """Check the counts. Raises DataError unless they are whole numbers from 0 on."""
        wrong = np.isfinite(values) & ((values < 0) | (values != np.floor(values)))
        if wrong.any():
            raise DataError(
                f"{readout.value_key} has the value {values[wrong][0]:g}, but counts are whole"
                " numbers from 0 on. Decode it as continuous, with kind='continuous'."
            )
        return values

    def loss(
        self,
        outputs: Float[Any, "windows queries channels"],
        targets: Float[Any, "windows queries channels"],
    ) -> Float[Any, "windows queries"]:
        """Negative log likelihood without its constant, its mean over channels."""
        xp = namespace(outputs)
        log_rates = xp.clip(outputs, -LIMIT, LIMIT)
        return (xp.exp(log_rates) - targets * log_rates).mean(axis=-1)

    def predict(
        self, outputs: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Expected counts."""
        return np.exp(np.clip(outputs.astype(float), -LIMIT, LIMIT))

    def average(
        self, outputs: Float[np.ndarray, "members samples channels"]
    ) -> Float[np.ndarray, "samples channels"]:
        """Logarithm of the mean of the expected counts."""
        return np.log(np.exp(np.clip(outputs, -LIMIT, LIMIT)).mean(axis=0))
