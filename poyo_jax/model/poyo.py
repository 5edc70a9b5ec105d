"""POYO: spikes -> latents -> behaviour (Azabou et al., NeurIPS 2023, figure 2)."""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import choose
from poyo_jax.model.choose_processor import check_latents, make_processor
from poyo_jax.model.compute import Compute
from poyo_jax.model.decoder import Decoder
from poyo_jax.model.encoder import Encoder
from poyo_jax.model.layers import Linear, embedding
from poyo_jax.model.params import BACKBONE, SESSIONS, UNITS
from poyo_jax.tasks import choose_task
from poyo_jax.types import Batch


class POYO(nn.Module):
    """The whole model. Parameters: `unit_embedding` and `session_embedding` (row 0 is padding), and
    `backbone`.

    Only the tables know which units and sessions exist. Training and decoding (model/apply.py) look
    up the rows of a batch and run the backbone on them, so what a step costs does not depend on the
    size of the vocabulary.
    """

    config: ModelConfig  #: its sizes
    num_units: int  #: rows of the unit table, padding included
    num_sessions: int  #: rows of the session table, padding included
    compute: Compute  #: how it is computed

    @nn.compact
    def __call__(self, batch: Batch) -> Float[Array, "windows queries channels"]:
        """Predictions without dropout, in normalised units."""
        dim = self.config.dim
        units = self.param(UNITS, _table, (self.num_units, dim))
        sessions = self.param(SESSIONS, _table, (self.num_sessions, dim))
        backbone = Backbone(self.config, self.compute, name=BACKBONE)
        return backbone(units[batch.unit_rows], sessions[batch.session_rows], batch)

    def check_back_end(self, *, training: bool) -> None:
        """Raise ConfigError unless attention can be computed here as asked for; see
        model/attention/api.py.
        """
        choose(
            self.compute.back_end,
            dtype=self.compute.dtype,
            head_dim=self.config.head_dim,
            attention_dropout=self.config.attention_dropout if training else 0.0,
        )


class Backbone(nn.Module):
    """What all recordings share: encoder, processor, decoder, head."""

    config: ModelConfig
    compute: Compute

    def setup(self):
        self.encoder = Encoder(self.config, self.compute)
        self.processor = make_processor(self.config, self.compute)
        self.decoder = Decoder(self.config, self.compute)
        num_outputs = choose_task(self.config).output_size(self.config.num_channels)
        self.head = Linear(num_outputs, dtype=self.compute.dtype)

    def __call__(
        self,
        unit_vectors: Float[Array, "units dim"],
        session_vectors: Float[Array, "windows dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None = None,
    ) -> Float[Array, "windows queries channels"]:
        """Predictions in normalised units; `seeds` decide dropout, None switches it off."""
        latents = self.encode(unit_vectors, batch, seeds)
        latents = self.process(latents, seeds)
        return self.decode(latents, session_vectors, batch.query_times, seeds)

    def encode(
        self,
        unit_vectors: Float[Array, "units dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Latents that have gathered what the tokens of their window carry."""
        return self.encoder(unit_vectors, batch, seeds)

    def process(
        self,
        latents: Float[Array, "windows latents dim"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Latents after the processor.

        Raises ConfigError when it changes their shape or type.
        """
        processed = self.processor(latents, self.config.latent_times, seeds)
        check_latents(self.config, latents, processed)
        return processed

    def decode(
        self,
        latents: Float[Array, "windows latents dim"],
        session_vectors: Float[Array, "windows dim"],
        query_times: Float[Array, "windows queries"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows queries channels"]:
        """One prediction for every query, in normalised units."""
        vectors = self.decoder(latents, session_vectors, query_times, seeds)
        return self.head(vectors).astype(jnp.float32)


def _table(key: Array, shape: tuple[int, ...]) -> Array:
    """Initial values of a table, whose row 0, padding, is zero."""
    return cast(Array, embedding(key, shape).at[0].set(0.0))
