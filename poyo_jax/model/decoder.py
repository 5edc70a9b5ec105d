"""Decoder: queries at the times asked for read the latents."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import DECODER_SITES, fold
from poyo_jax.model.layers import FeedForward, Linear, join_heads, layer_norm, split_heads
from poyo_jax.model.rotary import grid_rotation, query_rotation, rotate


class Decoder(nn.Module):
    """Cross-attention from queries to latents, then a feed-forward block.

    A query starts as the vector of its session and its output, and rotates with its time. Values do
    not rotate.
    """

    config: ModelConfig
    compute: Compute

    def setup(self):
        config = self.config
        dtype = self.compute.dtype
        channels = config.cross_heads * config.head_dim
        self.norm = layer_norm()
        self.context_norm = layer_norm()
        self.query = Linear(channels, use_bias=False, dtype=dtype)
        self.key_value = Linear(2 * channels, use_bias=False, dtype=dtype)
        self.output = Linear(config.dim, dtype=dtype)
        self.feedforward = FeedForward(config, self.compute)

    def __call__(
        self,
        latents: Float[Array, "windows latents dim"],
        starts: Float[Array, "windows kinds dim"],
        query_outputs: Int8[Array, "windows queries"] | None,
        query_times: Float[Array, "windows queries"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows queries dim"]:
        """Compute one vector for each query; a head predicts from it.

        `starts` are the vectors of each window's session with each output, of which a query takes
        the one that `query_outputs` numbers; None if there is one. Times are in s from the start of
        the window. `seeds` decide dropout; None switches it off.
        """
        config = self.config
        key, value = self._keys_and_values(latents)
        out = attend(
            self._queries(starts, query_outputs, query_times),
            key,
            value,
            back_end=self.compute.back_end,
            platform=self.compute.platform,
            attention_dropout=config.attention_dropout,
            seeds=None if seeds is None else fold(seeds, DECODER_SITES),
        )
        out = self.output(join_heads(out))  # [W, H, Q, K] -> [W, Q, D]
        out = _of_queries(starts, query_outputs) + out
        seeds = None if seeds is None else fold(seeds, DECODER_SITES + 1)
        return out + self.feedforward(out, seeds)

    def _queries(self, starts: Array, query_outputs: Array | None, query_times: Array) -> Array:
        """Rotated queries [windows, heads, queries, head_dim]."""
        config = self.config
        query = self.query(self.norm(starts))
        if query_outputs is None:
            query = split_heads(query, config.head_dim)
            query = jnp.repeat(query, query_times.shape[1], axis=2)  # [W, H, 1, K] -> [W, H, Q, K]
        else:
            query = split_heads(_of_queries(query, query_outputs), config.head_dim)
        rotation = query_rotation(query_times, config.head_dim, config.frequencies)
        rotation = jax.tree.map(lambda x: x[:, None], rotation)  # [W, Q, F] -> [W, 1, Q, F]
        return rotate(query, rotation)

    def _keys_and_values(self, latents: Array) -> tuple[Array, Array]:
        """Rotated keys and values, each [windows, heads, latents, head_dim]."""
        config = self.config
        key_value = self.key_value(self.context_norm(latents))
        key_value = split_heads(key_value, config.head_dim)
        key, value = jnp.split(key_value, 2, axis=1)  # [W, 2H, L, K] -> 2 x [W, H, L, K]
        rotation = grid_rotation(config.latent_times, config.head_dim, config.frequencies)
        return rotate(key, rotation), value


def _of_queries(
    vectors: Float[Array, "windows kinds dim"],
    query_outputs: Int8[Array, "windows queries"] | None,
) -> Float[Array, "windows _queries dim"]:
    """The vector of each query's output; the only one stands for all queries."""
    if query_outputs is None:
        return vectors
    return jnp.take_along_axis(vectors, query_outputs[..., None].astype(jnp.int32), axis=1)
