"""A processor whose latents see no later ones, so that a stream could keep what it has computed.

The encoder lets each latent see the whole window, so models with it are an approximation of what a
cache could compute; `python -m experiments.studies.causal` measures what the mask alone costs.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.layers import FeedForward, Linear, join_heads, layer_norm, split_heads
from poyo_jax.model.rotary import grid_rotation, rotate

NUM_SITES = 4  # of dropout in a layer


class BlockCausal(nn.Module):
    """The layers of the usual processor, with a mask over the steps of the time grid."""

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "windows latents dim"],
        times: Float[np.ndarray, " latents"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Apply all layers; latents attend to those of their own and of earlier times (s)."""
        for number in range(self.config.depth):
            sites = [None] * NUM_SITES
            if seeds is not None:
                places = jnp.arange(NUM_SITES)[:, None]
                sites = list(fold(fold(seeds, jnp.array(number)), places))
            latents = self._layer(latents, times, sites, number)
        return latents

    def _layer(
        self, latents: jax.Array, times: np.ndarray, sites: list, number: int
    ) -> Float[Array, "windows latents dim"]:
        rate = self.config.residual_dropout
        branch = self._attention(latents, times, sites[0], number)
        latents = latents + dropout(branch, rate=rate, seeds=sites[1]).astype(latents.dtype)
        feedforward = FeedForward(self.config, self.compute, name=f"feedforward_{number}")
        branch = dropout(feedforward(latents, sites[2]), rate=rate, seeds=sites[3])
        return latents + branch.astype(latents.dtype)

    def _attention(
        self, x: jax.Array, times: np.ndarray, seeds: jax.Array | None, number: int
    ) -> Float[Array, "windows latents dim"]:
        config, dtype = self.config, self.compute.dtype
        channels = config.self_heads * config.head_dim
        rotation = grid_rotation(times, config.head_dim, config.frequencies).whole()
        project = Linear(
            3 * channels, use_bias=False, dtype=dtype, name=f"query_key_value_{number}"
        )
        hidden = project(layer_norm(f"norm_{number}")(x))
        hidden = rotate(split_heads(hidden, config.head_dim), rotation)  # [W, 3H, L, K]
        query, key, value = jnp.split(hidden, 3, axis=1)
        out = attend(
            query,
            key,
            value,
            back_end="xla",
            attention_dropout=config.attention_dropout,
            seeds=seeds,
            mask=times[:, None] >= times[None, :],
        )
        out = join_heads(rotate(out, rotation.inverse()))  # [W, H, L, K] -> [W, L, HK]
        return Linear(config.dim, dtype=dtype, name=f"output_{number}")(out)
