"""Settings of the computation, which leave the parameters as they are."""

from dataclasses import dataclass

import jax.numpy as jnp

from poyo_jax.config import BackEnd, Remat, RunConfig

FLOAT32 = jnp.dtype(jnp.float32)


@dataclass(frozen=True)
class Compute:
    """Settings of the model's computation. Every module gets them beside the `ModelConfig`."""

    dtype: jnp.dtype = FLOAT32
    """Type of matrix products and activations; parameters, norms and softmax are float32."""
    back_end: BackEnd = "auto"
    """Implementation of attention (model/attention/api.py)."""
    platform: str | None = None
    """Platform of the devices that compute (model/hardware.py); None is that of this process."""
    remat: Remat = "auto"
    """Activations that the backward pass computes again (`RunConfig.remat`)."""
    rows_per_group: int | None = None
    """Packed token rows that are attended at the same time (`RunConfig.rows_per_group`)."""

    @classmethod
    def of_run(cls, run: RunConfig, platform: str | None = None) -> "Compute":
        """The settings of a run on devices of a platform, by default those of this process."""
        return cls(
            dtype=jnp.dtype(run.compute_dtype),
            back_end=run.attention,
            platform=platform,
            remat=run.remat,
            rows_per_group=run.rows_per_group,
        )
