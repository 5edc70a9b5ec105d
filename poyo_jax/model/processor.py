"""Processor: layers of self-attention and feed-forward among the latents."""

from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend
from poyo_jax.model.attention.flash import ATTENDED
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.hardware import own_platform
from poyo_jax.model.layers import (
    PRODUCT,
    FeedForward,
    Linear,
    feedforward_flops,
    join_heads,
    layer_norm,
    split_heads,
)
from poyo_jax.model.rotary import Rotation, grid_rotation, rotate

# Up to this depth the loop over layers is unrolled: a tenth faster on CPUs, slower to compile.
UNROLLED_DEPTH = 8
NUM_SITES = 4  # of dropout in a layer
_save_only = jax.checkpoint_policies.save_only_these_names
# What is stored of a layer beside its input, by `RunConfig.remat`.
_STORED = {"layers": None, "attention": _save_only(ATTENDED), "products": _save_only(PRODUCT)}


class Transformer(nn.Module):
    """The processor of the paper: `ModelConfig.depth` layers whose attention rotates with time."""

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "windows latents dim"],
        times: Float[np.ndarray, " latents"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Apply all layers to the latents.

        `times` (s, from the start of the window) are those of the latents. `seeds` decide dropout;
        None switches it off.
        """
        config = self.config
        remat = self.compute.remat
        if remat == "auto":
            platform = self.compute.platform or own_platform()
            remat = "attention" if platform == "tpu" else "none"
        rotation = grid_rotation(times, config.head_dim, config.frequencies).whole()
        layer = Layer
        if remat != "none":
            layer = nn.remat(Layer, prevent_cse=False, policy=_STORED[remat])
        unrolled = config.depth <= UNROLLED_DEPTH and remat == "none"
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=cast(Any, (0, nn.broadcast)),
            length=config.depth,
            unroll=config.depth if unrolled else 1,
        )(config, self.compute, name="layers")
        latents, _ = layers(latents, _seeds_of_layers(seeds, config.depth), rotation)
        return latents

    @staticmethod
    def flops(config: ModelConfig) -> int:
        """Operations of a forward pass over the latents of one window (model/flops.py)."""
        dim = config.dim
        channels = config.self_heads * config.head_dim
        latents = config.num_latent_steps * config.num_latents
        projections = 2 * dim * 3 * channels + 2 * channels * dim
        scores_and_values = 4 * channels * latents
        of_latent = projections + scores_and_values + feedforward_flops(dim)
        return config.depth * latents * of_latent


def _seeds_of_layers(
    seeds: UInt32[Array, " windows"] | None, depth: int
) -> UInt32[Array, "depth sites windows"] | None:
    """A seed for every place of dropout in every layer."""
    if seeds is None:
        return None
    layers = jnp.arange(depth)[:, None, None]
    sites = jnp.arange(NUM_SITES)[:, None]
    return fold(fold(seeds, layers), sites)


class Layer(nn.Module):
    """Self-attention and feed-forward over the latents.

    Each is followed by dropout and added to the residual stream.
    """

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "windows latents dim"],
        seeds: UInt32[Array, "sites windows"] | None,
        rotation: Rotation,
    ):
        sites = [None] * NUM_SITES if seeds is None else list(seeds)
        drop = partial(dropout, rate=self.config.residual_dropout)

        attention = SelfAttention(self.config, self.compute, name="attention")
        branch = attention(latents, rotation, sites[0])
        branch = drop(branch, seeds=sites[1])
        latents = latents + branch.astype(latents.dtype)

        feedforward = FeedForward(self.config, self.compute, name="feedforward")
        branch = feedforward(latents, sites[2])
        branch = drop(branch, seeds=sites[3])
        latents = latents + branch.astype(latents.dtype)
        return latents, None


class SelfAttention(nn.Module):
    """Residual branch of rotary self-attention.

    Values rotate too, so that they carry relative time.
    """

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "windows latents dim"],
        rotation: Rotation,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        config = self.config
        dtype = self.compute.dtype
        channels = config.self_heads * config.head_dim
        project = Linear(3 * channels, use_bias=False, dtype=dtype, name="query_key_value")
        hidden = project(layer_norm("norm")(x))
        hidden = split_heads(hidden, config.head_dim)  # [W, L, 3HK] -> [W, 3H, L, K]
        hidden = rotate(hidden, rotation)
        query, key, value = jnp.split(hidden, 3, axis=1)
        out = attend(
            query,
            key,
            value,
            back_end=self.compute.back_end,
            platform=self.compute.platform,
            attention_dropout=config.attention_dropout,
            seeds=seeds,
        )
        out = join_heads(rotate(out, rotation.inverse()))  # [W, H, L, K] -> [W, L, HK]
        return Linear(config.dim, dtype=dtype, name="output")(out)
