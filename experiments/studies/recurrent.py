"""A processor that passes information forward in time alone, by a gated recurrent layer."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.layers import Linear, layer_norm


class Recurrent(nn.Module):
    """Gated recurrent layers over the time steps of the window, each with all latents of a step."""

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "windows latents dim"],
        times: Float[np.ndarray, " latents"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Apply all layers; latents see those of their own and of earlier steps."""
        config, dtype = self.config, self.compute.dtype
        steps = latents.reshape(len(latents), len(np.unique(times)), -1)
        for number in range(config.depth):
            layer = nn.RNN(nn.GRUCell(4 * config.dim, dtype=dtype), name=f"recurrent_{number}")
            hidden = jnp.asarray(layer(layer_norm(f"norm_{number}")(steps)))
            update = Linear(steps.shape[-1], dtype=dtype, name=f"output_{number}")(hidden)
            site = None if seeds is None else fold(seeds, jnp.array(number))
            update = dropout(update, rate=config.residual_dropout, seeds=site)
            steps = steps + update.astype(steps.dtype)
        return steps.reshape(latents.shape)
