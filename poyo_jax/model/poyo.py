"""POYO: spikes -> latents -> behaviour (Azabou et al., NeurIPS 2023, figure 2)."""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import choose
from poyo_jax.model.choose_processor import check_latents, make_processor
from poyo_jax.model.compute import Compute
from poyo_jax.model.decoder import Decoder
from poyo_jax.model.encoder import Encoder
from poyo_jax.model.heads import Heads
from poyo_jax.model.layers import Linear, embedding
from poyo_jax.model.params import BACKBONE, SESSIONS, UNITS
from poyo_jax.tasks import choose_task
from poyo_jax.types import Batch


class POYO(nn.Module):
    """The whole model.

    Parameters: `unit_embedding` and `session_embedding` (row 0 is padding), and `backbone`.

    Only the tables know which units and sessions exist. Training and decoding (model/apply.py) look
    up the rows of a batch and run the backbone on them, so what a step costs does not depend on the
    size of the vocabulary.
    """

    config: ModelConfig  #: its sizes
    num_units: int  #: rows of the unit table, padding included
    num_sessions: int  #: rows of the session table, padding included
    compute: Compute  #: how it is computed
    classes: tuple[type, ...] = ()  #: those that `config` names; a notebook may define one again

    @nn.compact
    def __call__(self, batch: Batch) -> Float[Array, "windows queries outputs"]:
        """Outputs of the tasks, without dropout."""
        dim = self.config.dim
        units = self.param(UNITS, _table, (self.num_units, dim))
        sessions = self.param(SESSIONS, _table, (self.num_sessions, dim))
        backbone = Backbone(self.config, self.compute, name=BACKBONE)
        return backbone(units[batch.unit_rows], sessions[batch.session_rows], batch)

    def check_back_end(self, *, training: bool) -> None:
        """Check that the devices can compute attention with the chosen back end.

        Raises ConfigError if they cannot; see model/attention/api.py.
        """
        choose(
            self.compute.back_end,
            platform=self.compute.platform,
            dtype=self.compute.dtype,
            head_dim=self.config.head_dim,
            attention_dropout=self.config.attention_dropout if training else 0.0,
        )


class Backbone(nn.Module):
    """Encoder, processor, decoder and head, which all recordings share.

    `attend` takes all windows of a batch at once, since packed token rows do not end with windows.
    `predict` takes any number of windows: training and decoding give it a few at a time
    (model/microbatch.py).
    """

    config: ModelConfig
    compute: Compute

    def setup(self):
        self.encoder = Encoder(self.config, self.compute)
        self.processor = make_processor(self.config, self.compute)
        self.decoder = Decoder(self.config, self.compute)
        if len(self.config.all_outputs) > 1:
            self.head = Heads(self.config, self.compute)
        else:
            num_outputs = choose_task(self.config).output_size(self.config.num_channels)
            self.head = Linear(num_outputs, dtype=self.compute.dtype)

    def __call__(
        self,
        unit_vectors: Float[Array, "units dim"],
        session_vectors: Float[Array, "windows dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None = None,
    ) -> Float[Array, "windows queries outputs"]:
        """Outputs of the tasks; `seeds` decide dropout, None switches it off."""
        attended = self.attend(unit_vectors, batch, seeds)
        queries = (batch.query_times, batch.query_outputs)
        return self.predict(attended, session_vectors, *queries, seeds)

    def attend(
        self,
        unit_vectors: Float[Array, "units dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents channels"]:
        """Attention of the latents to the tokens of their windows: first half of the encoder."""
        return self.encoder.attend(unit_vectors, batch, seeds)

    def predict(
        self,
        attended: Float[Array, "windows latents channels"],
        session_vectors: Float[Array, "windows dim"],
        query_times: Float[Array, "windows queries"],
        query_outputs: Int8[Array, "windows queries"] | None,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows queries outputs"]:
        """Outputs at the query times: second half of the encoder, processor, decoder, head.

        `query_outputs` are the numbers of the queries' outputs, None if the model has only one. The
        heads of all outputs are computed for every query, and stand side by side.
        """
        latents = self.encoder.update(attended, seeds)
        latents = self.process(latents, seeds)
        starts = session_vectors[:, None]  # [W, D] -> [W, 1, D]
        if query_outputs is not None:
            starts = starts + self.head.embedding  # [W, 1, D] -> [W, O, D]
        vectors = self.decoder(latents, starts, query_outputs, query_times, seeds)
        return self.head(vectors).astype(jnp.float32)

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


def _table(key: Array, shape: tuple[int, ...]) -> Array:
    """Initial values of a table, whose row 0, padding, is zero."""
    table = embedding(key, shape)
    return cast(Array, table.at[0].set(0.0))
