"""A decoder of the kind of POSSM: chunks of spikes, a recurrent layer, queries to its last states.

Spikes come in chunks of 50 ms. The latents of a chunk attend to its spikes alone. A gated recurrent
layer passes on what they gather, and a query attends to the last few states of that layer. So an
update needs no spikes but those of its chunk, and the state that was kept.

Tokens, rotary times and blocks are those of POYO (poyo_jax.model), but without start and stop
tokens, as in POSSM (Ryoo et al., NeurIPS 2025). The code here follows that description.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention.api import attend, attend_tokens
from poyo_jax.model.attention.tokens import TokenRows
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.layers import (
    FeedForward,
    Linear,
    embedding,
    join_heads,
    layer_norm,
    split_heads,
)
from poyo_jax.model.rotary import grid_rotation, query_rotation, rotate, token_rotation

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
        channels = config.cross_heads * config.head_dim
        shape = (config.num_latents, config.dim)
        self.unit_embedding = self.param("unit_embedding", embedding, (self.num_units, config.dim))
        self.latent_embedding = self.param("latent_embedding", embedding, shape)
        self.query_embedding = self.param("query_embedding", embedding, (config.dim,))
        self.latent_norm, self.token_norm = layer_norm(), layer_norm()
        self.latent_query = Linear(channels, use_bias=False)
        self.token_key_value = Linear(2 * channels, use_bias=False)
        self.latent_output = Linear(config.dim)
        self.latent_feedforward = FeedForward(config, compute)
        self.into_cell = Linear(self.width)
        self.cell = nn.GRUCell(self.width)
        self.query_norm, self.state_norm = layer_norm(), layer_norm()
        self.query = Linear(channels, use_bias=False)
        self.state_key_value = Linear(2 * channels, use_bias=False)
        self.query_output = Linear(config.dim)
        self.query_feedforward = FeedForward(config, compute)
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
        table = self.token_key_value(self.token_norm(self.unit_embedding))  # [U, 2HK]
        units, times, mask = jax.tree.map(lambda x: x.reshape(count * length, -1), chunks)
        rotation = token_rotation(times, jnp.zeros_like(times), config.head_dim, config.frequencies)
        rows = TokenRows(units, rotation, mask, jnp.zeros(len(units), jnp.int32), None)
        at_latents = grid_rotation(config.latent_times, config.head_dim, config.frequencies)
        query = self.latent_query(self.latent_norm(self.latent_embedding))
        query = rotate(split_heads(query, config.head_dim), at_latents)
        numbers = jnp.arange(len(units))
        attended = attend_tokens(
            query, table, rows, numbers, len(units), rows_per_group=GROUP, back_end="chunked"
        )
        attended = join_heads(rotate(attended, at_latents.inverse()))  # [N, L, HK]
        latents = self.latent_embedding + self.latent_output(attended)
        of_chunks = self._seeds(seeds, 0, length)
        latents = latents + self.latent_feedforward(latents, of_chunks)
        flat = latents.reshape(count, length, -1)
        inputs = self.into_cell(flat)
        return dropout(inputs, config.residual_dropout, self._site(seeds, 1))

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
        config = self.config
        centres = config.window_length * (np.arange(STATES) - STATES + 1.5)
        states = dropout(states, config.residual_dropout, self._site(seeds, 2))
        tokens = split_heads(self.state_key_value(self.state_norm(states)), config.head_dim)
        at_states = grid_rotation(centres, config.head_dim, config.frequencies)
        key, value = jnp.split(rotate(tokens, at_states), 2, axis=2)  # [S, Q, H, states, K]
        query = split_heads(
            self.query(self.query_norm(self.query_embedding))[None], config.head_dim
        )
        rotation = query_rotation(times, config.head_dim, config.frequencies)  # [S, Q, F]
        rotation = jax.tree.map(lambda x: x[:, :, None, None], rotation)
        query = rotate(jnp.broadcast_to(query, (*times.shape, *query.shape)), rotation)
        flat = [x.reshape(-1, *x.shape[2:]) for x in (query, key, value)]
        attended = attend(*flat, back_end="xla").reshape(query.shape)
        attended = join_heads(rotate(attended, rotation.inverse()))[:, :, 0]  # [S, Q, HK]
        vectors = self.query_embedding + self.query_output(attended)
        vectors = vectors + self.query_feedforward(vectors, self._site(seeds, 3))
        return self.head(vectors)

    def _site(self, seeds: Array | None, number: int) -> Array | None:
        return None if seeds is None else fold(seeds, number)

    def _seeds(self, seeds: Array | None, number: int, length: int) -> Array | None:
        """Seeds [sequences * chunks] of a site that sees chunks one by one."""
        if seeds is None:
            return None
        return fold(fold(seeds, number)[:, None], jnp.arange(length)).ravel()


class Kept(NamedTuple):
    """State of a stream: the last states of the recurrent layer, the newest last."""

    states: Float[Any, "states width"]


def make_update(model: ChunkModel, params: Any) -> Any:
    """A jitted function (Kept, spikes of a chunk, query times in s) -> (Kept, values).

    The spikes are `Chunks` of one sequence and one chunk. Values are [queries, channels].
    """

    def update(module: ChunkModel, kept: Kept, chunk: Chunks, times: Array) -> tuple[Kept, Array]:
        inputs = module.encode(chunk)[:, 0]
        newest = module.advance(kept.states[-1:], inputs)
        states = jnp.concatenate([kept.states[1:], newest])
        of_queries = jnp.broadcast_to(states, (1, len(times), *states.shape))
        return Kept(states), module.read(of_queries, times[None])[0]

    return jax.jit(lambda *arguments: model.apply({"params": params}, *arguments, method=update))


def no_spikes_yet(model: ChunkModel) -> Kept:
    """State before the first chunk."""
    return Kept(np.zeros((STATES, model.width), np.float32))
