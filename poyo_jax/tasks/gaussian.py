"""Regression with a learned spread: decode a mean and a standard deviation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.tasks.interface import namespace
from poyo_jax.tasks.regression import Regression
from poyo_jax.types import Readout

LEAST, MOST = -10.0, 5.0  # log variance, in normalised units


@dataclass(frozen=True)
class Gaussian(Regression):
    """Mean and log variance of every channel; the loss is the negative log likelihood.

    The outputs are the means of all channels, then their log variances, in normalised units. A log
    variance of 0 is that of the behaviour itself, where a fresh head begins. It is clipped, so that
    no sample is ever infinitely unlikely.
    """

    def output_size(self, num_channels: int) -> int:
        """Two values a channel."""
        return 2 * num_channels

    def loss(
        self,
        outputs: Float[Any, "windows queries outputs"],
        targets: Float[Any, "windows queries channels"],
    ) -> Float[Any, "windows queries"]:
        """Negative log likelihood of normalised targets, without its constant; mean of channels."""
        xp = namespace(outputs)
        mean, log_variance = _halves(outputs)
        log_variance = xp.clip(log_variance, LEAST, MOST)
        squared = (targets - mean) ** 2
        return 0.5 * (log_variance + squared * xp.exp(-log_variance)).mean(axis=-1)

    def predict(
        self, outputs: Float[np.ndarray, "samples outputs"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Convert the means to the units of the session file."""
        return super().predict(_halves(outputs)[0], readout)

    def details(
        self, outputs: Float[np.ndarray, "samples outputs"], readout: Readout
    ) -> Mapping[str, Float[np.ndarray, "samples channels"]]:
        """Standard deviation of every value, in the units of the session file."""
        log_variance = np.clip(_halves(outputs)[1], LEAST, MOST)
        return {"std": np.exp(0.5 * log_variance) * np.array(readout.std)}

    def average(
        self, outputs: Float[np.ndarray, "members samples outputs"]
    ) -> Float[np.ndarray, "samples outputs"]:
        """Mean and log variance of the mixture: what members think differently adds to its spread.

        So do Lakshminarayanan et al. 2017, arXiv 1612.01474, section 2.4.
        """
        means, log_variances = _halves(outputs)
        within = np.exp(np.clip(log_variances, LEAST, MOST)).mean(axis=0)
        log_variance = np.log(within + means.var(axis=0))
        return np.concatenate([means.mean(axis=0), log_variance], axis=-1)


def _halves(outputs: Any) -> tuple[Any, Any]:
    """Means and log variances."""
    num_channels = outputs.shape[-1] // 2
    return outputs[..., :num_channels], outputs[..., num_channels:]
