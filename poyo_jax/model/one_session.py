"""Predictions for single windows of one session, with all that does not depend on the window
computed beforehand.

Keys and values of the session's units are tables, and so are the queries of the encoder. Every
window has the same start and stop tokens, so what the latents gather from these is a constant too,
to which that from the spikes is added.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from poyo_jax.config import ModelConfig
from poyo_jax.model.layers import join_heads, split_heads
from poyo_jax.model.poyo import NUM_KINDS, POYO, Backbone, half_split
from poyo_jax.model.rotary import Rotation, grid_rotation, rotate, token_rotation
from poyo_jax.types import SPIKE, START, STOP


class Part(NamedTuple):
    """What the latents gather from some tokens, before it is divided by the sum of the weights."""

    largest: Float[Array, "heads latents 1"]  # score
    total: Float[Array, "heads latents 1"]  # of the weights
    out: Float[Array, "heads latents head_dim"]


class Tables(NamedTuple):
    """What the encoder knows before it sees a window."""

    query: Float[Array, "heads latents head_dim"]  # rotated and scaled
    spikes: Float[Array, "2*heads units head_dim"]  # keys, then values, before rotation
    edges: Part  # what the start and stop tokens contribute


def make_window_function(
    model: POYO, params: dict, unit_rows: Int[Any, " units"], session_row: int
) -> Callable[..., Float[Array, "queries channels"]]:
    """A jitted function of one window of a session, whose parameters are constants of it.

    (spike_units, spike_times, what rounding left of the times, is_spike, query_times) ->
    predictions in normalised units. `spike_units` are positions in `unit_rows`, the units of the
    session; False in `is_spike` marks padding.
    """
    config, module = model.config, model.backbone(parent=None)
    variables, tables = _prepare(model, params, unit_rows)
    session_vectors = params["session_embedding"][np.array([session_row])]

    def predict(
        spike_units: Array, times: Array, times_low: Array, is_spike: Array, query_times: Array
    ) -> Array:
        rotation = token_rotation(times, times_low, config.head_dim, config.frequencies)
        tokens = rotate(tables.spikes[:, spike_units], rotation)
        _, total, out = _merge(tables.edges, _attend(tables.query, tokens, is_spike))
        gathered = join_heads(
            rotate(out / total, _latent_rotation(config).inverse())
        )  # [H, L, K] -> [L, HK]
        inputs = (gathered[None], session_vectors, query_times[None], None)
        return cast(Array, module.apply(variables, *inputs, method="decode"))[0]

    return jax.jit(predict)


def make_attention_function(
    model: POYO, params: dict, unit_rows: Int[Any, " units"]
) -> Callable[..., Float[Array, "heads latents spikes"]]:
    """A jitted function of one window of a session: how much of what each latent gathers comes from
    each spike.

    (spike_units, spike_times, what rounding left of the times, is_spike) -> weights of the encoder.
    A latent's weights add up to 1 with those of the start and stop tokens, which are left out.
    """
    config = model.config
    _, tables = _prepare(model, params, unit_rows)

    def attention(spike_units: Array, times: Array, times_low: Array, is_spike: Array) -> Array:
        rotation = token_rotation(times, times_low, config.head_dim, config.frequencies)
        tokens = rotate(tables.spikes[:, spike_units], rotation)
        largest, total, _ = _merge(tables.edges, _attend(tables.query, tokens, is_spike))
        return jnp.exp(_scores(tables.query, tokens, is_spike) - largest) / total

    return jax.jit(attention)


def _prepare(model: POYO, params: dict, unit_rows: Int[Any, " units"]) -> tuple[dict, Tables]:
    """The backbone's variables in the order in which they are used, and the tables."""
    variables = {"params": jax.jit(partial(half_split, config=model.config))(params["backbone"])}
    tables = jax.jit(partial(model.backbone(parent=None).apply, method=_tables))
    return variables, cast(
        Tables, tables(variables, params["unit_embedding"][jnp.asarray(unit_rows)])
    )


def _tables(backbone: Backbone, unit_vectors: Float[Array, "units dim"]) -> Tables:
    config, count = backbone.config, len(unit_vectors)
    latents = jnp.tile(backbone.latent_embedding, (config.num_latent_steps, 1)).astype(
        backbone.dtype
    )
    query = split_heads(backbone.encoder_query(backbone.encoder_norm(latents)), config.head_dim)
    query = rotate(query, _latent_rotation(config)) * config.head_dim**-0.5
    kinds = unit_vectors + backbone.token_kind_embedding[:NUM_KINDS, None]  # [kinds, U, D]
    table = backbone.encoder_key_value(backbone.encoder_context_norm(kinds))
    table = split_heads(table, config.head_dim)  # [kinds, U, 2HK] -> [kinds, 2H, U, K]
    edges = jnp.concatenate([table[START], table[STOP]], axis=1)
    times = jnp.repeat(jnp.array([0.0, config.window_length], jnp.float32), count)
    edges = rotate(
        edges, token_rotation(times, jnp.zeros_like(times), config.head_dim, config.frequencies)
    )
    return Tables(query, table[SPIKE], _attend(query, edges, jnp.ones(2 * count, bool)))


def _latent_rotation(config: ModelConfig) -> Rotation:
    return grid_rotation(config.latent_times, config.head_dim, config.frequencies)


def _attend(
    query: Float[Array, "heads latents head_dim"],
    tokens: Float[Array, "2*heads tokens head_dim"],
    mask: Bool[Array, " tokens"],
) -> Part:
    value, scores = jnp.split(tokens, 2)[1], _scores(query, tokens, mask)
    largest = jnp.maximum(
        scores.max(axis=-1, keepdims=True), jnp.finfo(jnp.float32).min
    )  # finite without any token
    weights = jnp.exp(scores - largest)
    return Part(largest, weights.sum(axis=-1, keepdims=True), weights.astype(value.dtype) @ value)


def _scores(query: Array, tokens: Array, mask: Array) -> Float[Array, "heads latents tokens"]:
    """Of the keys in `tokens`; minus infinity where the mask is False."""
    scores = jnp.matmul(query, jnp.split(tokens, 2)[0].mT, preferred_element_type=jnp.float32)
    return jnp.where(mask, scores, -jnp.inf)


def _merge(one: Part, other: Part) -> Part:
    """Both parts together, exactly."""
    largest = jnp.maximum(one.largest, other.largest)
    of_one, of_other = (jnp.exp(part.largest - largest) for part in (one, other))
    total, out = (x * of_one + y * of_other for x, y in zip(one[1:], other[1:], strict=True))
    return Part(largest, total, out)
