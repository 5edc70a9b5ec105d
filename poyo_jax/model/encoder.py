"""Encoder: learned latents gather what the tokens of each window carry."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend_tokens
from poyo_jax.model.attention.tokens import TokenRows
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import ENCODER_SITES, fold
from poyo_jax.model.hardware import choose_group_rows
from poyo_jax.model.layers import (
    FeedForward,
    Linear,
    embedding,
    join_heads,
    layer_norm,
    split_heads,
)
from poyo_jax.model.rotary import Rotation, grid_rotation, rotate, token_rotation
from poyo_jax.types import PADDING, Batch

NUM_KINDS = 3  # kinds of tokens that are attended to: spike, start, stop


class Encoder(nn.Module):
    """Cross-attention from latents to tokens, then a feed-forward block.

    It has two halves. `attend` takes the tokens of all windows at once, since packed rows do not
    end with windows. `update` takes any number of windows (model/microbatch.py).
    """

    config: ModelConfig
    compute: Compute

    def setup(self):
        config = self.config
        dtype = self.compute.dtype
        channels = config.cross_heads * config.head_dim
        latents_shape = (config.num_latents, config.dim)
        self.token_kind_embedding = self.param("token_kind_embedding", embedding, (4, config.dim))
        self.latent_embedding = self.param("latent_embedding", embedding, latents_shape)
        self.norm = layer_norm()
        self.context_norm = layer_norm()
        self.query = Linear(channels, use_bias=False, dtype=dtype)
        self.key_value = Linear(2 * channels, use_bias=False, dtype=dtype)
        self.output = Linear(config.dim, dtype=dtype)
        self.feedforward = FeedForward(config, self.compute)

    def attend(
        self,
        unit_vectors: Float[Array, "units dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents channels"]:
        """First half: attention of the latents to the tokens of each window.

        Queries are the same for all windows. Keys and values depend on a token only through its
        unit, kind and time, so they are projected once for every unit and kind, which is exact.
        """
        config = self.config
        table = self.keys_and_values(unit_vectors)
        windows = batch.token_windows
        seeds_of_rows = seeds if seeds is None or windows is None else seeds[windows]
        attended = attend_tokens(
            self.queries(),
            table.reshape(-1, table.shape[-1]),  # [U, 3, 2HK] -> [U * 3, 2HK]
            _token_rows(batch, config, seeds_of_rows),
            windows,
            batch.session_rows.shape[0],
            rows_per_group=choose_group_rows(self.compute.rows_per_group, self.compute.platform),
            back_end=self.compute.back_end,
            platform=self.compute.platform,
            attention_dropout=config.attention_dropout,
        )
        return self.rotate_back(attended)

    def update(
        self,
        attended: Float[Array, "windows latents channels"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Second half: what was attended, projected and added to the latents; feed-forward."""
        latents = self.initial_latents() + self.output(attended)
        seeds = None if seeds is None else fold(seeds, ENCODER_SITES + 1)
        return latents + self.feedforward(latents, seeds)

    def queries(self) -> Float[Array, "heads latents head_dim"]:
        """Queries of the latents, rotated to their times."""
        query = self.query(self.norm(self.initial_latents()))
        query = split_heads(query, self.config.head_dim)
        return rotate(query, self._latent_rotation())

    def keys_and_values(
        self, unit_vectors: Float[Array, "units dim"]
    ) -> Float[Array, "units kinds channels"]:
        """Keys of all heads, then values, for every unit and kind of token, before rotation."""
        tokens = unit_vectors[:, None] + self.token_kind_embedding[:NUM_KINDS]  # [U, 3, D]
        return self.key_value(self.context_norm(tokens))

    def rotate_back(
        self, attended: Float[Array, "... heads latents head_dim"]
    ) -> Float[Array, "... latents channels"]:
        """Rotate what was attended back from the times of the latents; join the heads."""
        attended = rotate(attended, self._latent_rotation().inverse())
        return join_heads(attended)

    def initial_latents(self) -> Float[Array, "latents dim"]:
        """The learned latents, repeated at every step of the time grid."""
        latents = jnp.tile(self.latent_embedding, (self.config.num_latent_steps, 1))
        return latents.astype(self.compute.dtype)

    def _latent_rotation(self) -> Rotation:
        config = self.config
        return grid_rotation(config.latent_times, config.head_dim, config.frequencies)


def _token_rows(
    batch: Batch, config: ModelConfig, seeds: UInt32[Array, " rows"] | None
) -> TokenRows:
    """The tokens of a batch; `seeds` are those of the rows' windows."""
    mask = batch.token_kinds != PADDING
    kinds = jnp.where(mask, batch.token_kinds, 0)
    rotation = token_rotation(
        batch.token_times, batch.token_times_low, config.head_dim, config.frequencies
    )
    return TokenRows(
        entries=batch.token_units * NUM_KINDS + kinds,
        rotation=rotation,
        mask=mask,
        offsets=batch.token_offsets,
        seeds=None if seeds is None else fold(seeds, ENCODER_SITES),
    )
