"""A decoder of the kind of POSSM: chunks of spikes, a recurrent layer, queries to its last states.

Spikes come in chunks of 50 ms. The latents of a chunk attend to its spikes alone. A gated recurrent
layer passes on what they gather, and a query attends to the last few states of that layer. So an
update needs no spikes but those of its chunk, and the states that were kept.

Encoder and decoder are those of POYO, for windows of one chunk and of a few states, but there are
no start and stop tokens, as in POSSM (Ryoo et al., NeurIPS 2025). The code follows that
description.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend_tokens
from poyo_jax.model.attention.tokens import TokenRows
from poyo_jax.model.compute import Compute
from poyo_jax.model.decoder import Decoder
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.encoder import Encoder
from poyo_jax.model.layers import Linear, embedding
from poyo_jax.model.rotary import token_rotation
from poyo_jax.types import SPIKE

STATES = 3  # that a query attends to
GROUP = 64  # chunks whose scores are in memory at the same time


class Chunks(NamedTuple):
    """Spikes of sequences of chunks."""

    units: Int[Any, "sequences chunks spikes"]
    times: Float[Any, "sequences chunks spikes"]  # s from the start of the chunk
    mask: Bool[Any, "sequences chunks spikes"]  # False for padding


class Queries(NamedTuple):
    """Samples to decode."""

    chunks: Int[Any, "sequences queries"]  # the chunk of each
    times: Float[Any, "sequences queries"]  # s from the start of the chunk


class ChunkModel(nn.Module):
    """Encoder of chunks, recurrent layer, decoder; of the `config`, windows are chunks."""

    config: ModelConfig
    num_units: int
    width: int = 256  # of the recurrent layer

    def setup(self):
        config, compute = self.config, Compute()
        of_states = replace(config, num_latents=1, window_length=STATES * config.window_length)
        self.unit_embedding = self.param("unit_embedding", embedding, (self.num_units, config.dim))
        self.query_embedding = self.param("query_embedding", embedding, (config.dim,))
        self.encoder = Encoder(config, compute)
        self.into_cell = Linear(self.width)
        self.cell = nn.GRUCell(self.width)
        self.out_of_cell = Linear(config.dim)
        self.decoder = Decoder(of_states, compute)
        self.head = Linear(config.num_channels)

    def __call__(
        self, chunks: Chunks, queries: Queries, seeds: UInt32[Array, " sequences"] | None = None
    ) -> Float[Array, "sequences queries channels"]:
        """Decode sequences from their start, without any state from before.

        `seeds` decide dropout; None switches it off.
        """
        inputs = self.encode(chunks, seeds)  # [S, C, width]

        def advance(model: ChunkModel, state: Array, one: Array) -> tuple[Array, Array]:
            state = model.advance(state, one)
            return state, state

        scan = nn.scan(
            advance,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        _, states = scan(self, jnp.zeros_like(inputs[:, 0]), inputs)
        before = jnp.zeros_like(states[:, : STATES - 1])
        states = jnp.concatenate([before, states], axis=1)
        places = queries.chunks[..., None] + np.arange(STATES)  # [S, Q, states]
        last = jax.vmap(lambda some, place: some[place])(states, places)
        return self.read(last, queries.times, seeds)

    def encode(
        self, chunks: Chunks, seeds: UInt32[Array, " sequences"] | None = None
    ) -> Float[Array, "sequences chunks width"]:
        """What the latents of each chunk gather from its spikes."""
        config = self.config
        count, length, _ = chunks.units.shape
        units, times, mask = jax.tree.map(lambda x: x.reshape(count * length, -1), chunks)
        low = jnp.zeros_like(times)
        rotation = token_rotation(times, low, config.head_dim, config.frequencies)
        rows = TokenRows(units, rotation, mask, jnp.zeros(len(units), jnp.int32), None)
        attended = attend_tokens(
            self.encoder.queries(),
            self.encoder.keys_and_values(self.unit_embedding)[:, SPIKE],
            rows,
            jnp.arange(len(units)),
            len(units),
            rows_per_group=GROUP,
            back_end="chunked",
        )
        latents = self.encoder.update(
            self.encoder.rotate_back(attended), _seeds_of_parts(seeds, 0, length)
        )
        inputs = self.into_cell(latents.reshape(count, length, -1))
        return dropout(inputs, config.residual_dropout, _seeds(seeds, 1))

    def advance(
        self, state: Float[Array, "sequences width"], inputs: Float[Array, "sequences width"]
    ) -> Float[Array, "sequences width"]:
        """The state after one more chunk."""
        state, _ = self.cell(state, inputs)
        return state

    def read(
        self,
        states: Float[Array, "sequences queries states width"],
        times: Float[Array, "sequences queries"],
        seeds: UInt32[Array, " sequences"] | None = None,
    ) -> Float[Array, "sequences queries channels"]:
        """Decode at `times` (s from the start of the chunk) from the last states, its own last."""
        count, length = times.shape
        states = dropout(states, self.config.residual_dropout, _seeds(seeds, 2))
        latents = self.out_of_cell(states).reshape(count * length, STATES, -1)
        starts = jnp.broadcast_to(self.query_embedding, (count * length, 1, self.config.dim))
        since = times.reshape(-1, 1) + (STATES - 1) * self.config.window_length
        vectors = self.decoder(latents, starts, None, since, _seeds_of_parts(seeds, 3, length))
        return self.head(vectors).reshape(count, length, -1)


def _seeds(seeds: Array | None, site: int) -> Array | None:
    """Seeds [sequences] of a site of dropout."""
    return None if seeds is None else fold(seeds, site)


def _seeds_of_parts(seeds: Array | None, site: int, parts: int) -> Array | None:
    """Seeds [sequences * parts] of a site that sees the parts of a sequence one by one."""
    return None if seeds is None else fold(fold(seeds, site)[:, None], jnp.arange(parts)).ravel()


def make_update(model: ChunkModel, params: Any) -> Any:
    """A jitted function (states, spikes of a chunk, query times in s) -> (states, values).

    The states [STATES, width] are the last ones, the newest last. The spikes are `Chunks` of one
    sequence and one chunk. Values are [queries, channels].
    """

    def update(
        module: ChunkModel, states: Array, chunk: Chunks, times: Array
    ) -> tuple[Array, Array]:
        newest = module.advance(states[-1:], module.encode(chunk)[:, 0])
        states = jnp.concatenate([states[1:], newest])
        of_queries = jnp.broadcast_to(states, (1, len(times), *states.shape))
        return states, module.read(of_queries, times[None])[0]

    return jax.jit(lambda *arguments: model.apply({"params": params}, *arguments, method=update))


def first_states(model: ChunkModel) -> Float[np.ndarray, "states width"]:
    """States before the first chunk."""
    return np.zeros((STATES, model.width), np.float32)
