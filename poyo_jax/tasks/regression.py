"""Regression: decode a continuous behaviour."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.metrics import r2_of_sums, r2_sums
from poyo_jax.tasks.interface import Metric, Task
from poyo_jax.types import Readout


def _session_sums(
    targets: np.ndarray, values: np.ndarray, readout: Readout
) -> Float64[np.ndarray, "4 channels"]:
    return r2_sums(targets, values, readout.mean)


R2 = Metric(
    name="r2",
    label="R²",
    text="R2",
    higher_is_better=True,
    perfect=1.0,
    sums=_session_sums,
    score=r2_of_sums,
)


@dataclass(frozen=True)
class Regression(Task):
    """Regression of a continuous behaviour: squared error of z-scored targets, scored by R2."""

    @property
    def metric(self) -> Metric:
        """R2, the mean over channels."""
        return R2

    def output_size(self, num_channels: int) -> int:
        """One value a channel."""
        return num_channels

    def normalise(
        self, values: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Subtract the mean of the readout and divide by its standard deviation (SD)."""
        return (values - np.array(readout.mean)) / np.array(readout.std)

    def loss(
        self,
        outputs: Float[Any, "windows queries channels"],
        targets: Float[Any, "windows queries channels"],
    ) -> Float[Any, "windows queries"]:
        """Squared error in normalised units (SD squared), its mean over channels."""
        return ((outputs - targets) ** 2).mean(axis=-1)

    def predict(
        self, outputs: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Invert `normalise`."""
        return outputs * np.array(readout.std) + np.array(readout.mean)
