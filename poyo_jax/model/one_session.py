"""Predict single windows of one session from constants of the session computed beforehand.

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
from poyo_jax.model.attention.online_softmax import Sums, merge, scaled
from poyo_jax.model.layers import split_heads
from poyo_jax.model.members import over_members
from poyo_jax.model.params import BACKBONE, SESSIONS, UNITS
from poyo_jax.model.poyo import POYO, Backbone
from poyo_jax.model.rotary import rotate, token_rotation
from poyo_jax.types import SPIKE, START, STOP


class Spikes(NamedTuple):
    """The spikes of a window."""

    units: Int[Any, " spikes"]  # positions among the units of the session
    times: Float[Any, " spikes"]  # s from the start of the window, rounded to float32 ...
    times_low: Float[Any, " spikes"]  # ... and what the rounding left out
    mask: Bool[Any, " spikes"]  # False for padding


class Tables(NamedTuple):
    """Constants of the encoder that do not depend on the window."""

    query: Float[Array, "heads latents head_dim"]  # rotated and scaled
    spikes: Float[Array, "two_heads units head_dim"]  # keys, then values, before rotation
    edges: Sums  # what the start and stop tokens contribute


class Constants(NamedTuple):
    """What does not depend on the window; of an ensemble, with a first axis of members."""

    variables: Any  # of the backbone
    tables: Tables
    start: Float[Array, "_starts dim"]  # of the queries: the row of the session


class StreamFunctions(NamedTuple):
    """The pure core of a streaming decoder: jitted functions of one window of a session.

    Parameters are constants of them. Spikes are given as `Spikes`, and what the latents have
    gathered from a window so far is `Sums`. Whatever the parts into which a window is divided, the
    outputs are those of the whole window, to round-off. The state and predictions of an ensemble
    have a first axis of members.
    """

    init: Callable[[], Sums]  # () -> the state of a window without spikes
    add: Callable[[Sums, Spikes], Sums]  # (state, spikes) -> the state with these spikes
    update: Callable[[Sums, Spikes, Any], tuple[Sums, Array]]
    """(state, spikes, query times [queries] in s) -> (the state with these spikes, predictions
    [..., queries, outputs] in normalised units)
    """


def make_stream_functions(
    model: POYO,
    params: dict,
    unit_rows: Int[Any, " units"],
    session_row: int,
    output: int = 0,
) -> StreamFunctions:
    """Make the functions that decode windows of a session, spikes arriving in parts.

    Queries ask for the output of the number `output`; values are those of all heads side by side.
    """
    backbone = Backbone(model.config, model.compute)

    def prepare(params: dict) -> Constants:
        start = params[SESSIONS][np.array([session_row])]
        if len(model.config.all_outputs) > 1:
            start = start + params[BACKBONE]["head"]["embedding"][output]
        tables = session_tables(model, params, unit_rows)
        return Constants({"params": params[BACKBONE]}, tables, start)

    def predict_after(module: Backbone, sums: Sums, start: Array, query_times: Array) -> Array:
        attended = module.encoder.rotate_back(sums.attention())
        return module.predict(attended[None], start, query_times[None], None, None)

    def add(constants: Constants, sums: Sums, spikes: Spikes) -> Sums:
        tokens = _tokens(constants.tables, spikes, model.config)
        return merge(sums, _attend(constants.tables.query, tokens, spikes.mask))

    def update(
        constants: Constants, sums: Sums, spikes: Spikes, query_times: Array
    ) -> tuple[Sums, Array]:
        sums = add(constants, sums, spikes)
        arguments = (sums, constants.start, query_times)
        predictions = backbone.apply(constants.variables, *arguments, method=predict_after)
        return sums, cast(Array, predictions)[0]

    members = model.config.members
    constants = over_members(prepare, members)(jax.tree.map(jnp.asarray, params))
    add_all = over_members(add, members, (0, 0, None))
    update_all = over_members(update, members, (0, 0, None, None))
    return StreamFunctions(
        lambda: constants.tables.edges,
        jax.jit(partial(add_all, constants)),
        jax.jit(partial(update_all, constants)),
    )


def make_window_function(
    model: POYO,
    params: dict,
    unit_rows: Int[Any, " units"],
    session_row: int,
    output: int = 0,
) -> Callable[..., Float[Array, "*members queries outputs"]]:
    """A jitted function of one whole window of a session.

    (spike_units, spike_times, what rounding left of the times, is_spike, query_times) ->
    predictions in normalised units. `spike_units` are positions in `unit_rows`, the units of the
    session; False in `is_spike` marks padding. `output` is that of `make_stream_functions`.
    """
    stream = make_stream_functions(model, params, unit_rows, session_row, output)
    nothing = stream.init()

    def predict(
        spike_units: Array,
        times: Array,
        times_low: Array,
        is_spike: Array,
        query_times: Array,
    ) -> Array:
        spikes = Spikes(spike_units, times, times_low, is_spike)
        _, predictions = stream.update(nothing, spikes, query_times)
        return predictions

    return jax.jit(predict)


def make_attention_function(
    model: POYO, params: dict, unit_rows: Int[Any, " units"]
) -> Callable[..., Float[Array, "heads latents spikes"]]:
    """Make a jitted function of a window: the weight of each spike in the attention of each latent.

    (spike_units, spike_times, what rounding left of the times, is_spike) -> weights of the encoder.
    A latent's weights add up to 1 with those of the start and stop tokens, which are left out.
    """
    tables = session_tables(model, params, unit_rows)

    def attention(
        spike_units: Array,
        times: Array,
        times_low: Array,
        is_spike: Array,
    ) -> Array:
        spikes = Spikes(spike_units, times, times_low, is_spike)
        tokens = _tokens(tables, spikes, model.config)
        of_spikes = _attend(tables.query, tokens, is_spike)
        sums = merge(tables.edges, of_spikes)
        scores = _scores(tables.query, tokens, is_spike)
        weights = jnp.exp(scores - sums.largest[..., None])
        return weights / sums.total[..., None]

    return jax.jit(attention)


def session_tables(model: POYO, params: dict, unit_rows: Int[Any, " units"]) -> Tables:
    """Compute the constants of the encoder for the units of a session."""
    backbone = Backbone(model.config, model.compute)
    make_tables = jax.jit(partial(backbone.apply, method=_tables_of))
    unit_vectors = params[UNITS][jnp.asarray(unit_rows)]
    tables = make_tables({"params": params[BACKBONE]}, unit_vectors)
    return cast(Tables, tables)


def _tables_of(backbone: Backbone, unit_vectors: Float[Array, "units dim"]) -> Tables:
    config = backbone.config
    query = scaled(backbone.encoder.queries())
    table = backbone.encoder.keys_and_values(unit_vectors)
    table = jnp.swapaxes(table, 0, 1)  # [U, kinds, 2HK] -> [kinds, U, 2HK]
    table = split_heads(table, config.head_dim)  # [kinds, U, 2HK] -> [kinds, 2H, U, K]

    edges = jnp.concatenate([table[START], table[STOP]], axis=1)
    times = jnp.array([0.0, config.window_length], jnp.float32)
    times = jnp.repeat(times, len(unit_vectors))
    low = jnp.zeros_like(times)
    rotation = token_rotation(times, low, config.head_dim, config.frequencies)
    edges = rotate(edges, rotation)
    all_tokens = jnp.ones(times.shape, bool)
    of_edges = _attend(query, edges, all_tokens)
    return Tables(query, spikes=table[SPIKE], edges=of_edges)


def _tokens(
    tables: Tables, spikes: Spikes, config: ModelConfig
) -> Float[Array, "two_heads spikes head_dim"]:
    """Rotated keys, then values, of the spikes."""
    rotation = token_rotation(spikes.times, spikes.times_low, config.head_dim, config.frequencies)
    return rotate(tables.spikes[:, spikes.units], rotation)


def _attend(
    query: Float[Array, "heads latents head_dim"],
    tokens: Float[Array, "2*heads tokens head_dim"],
    mask: Bool[Array, " tokens"],
) -> Sums:
    """Compute the contribution of the tokens to the latents."""
    _, value = jnp.split(tokens, 2)
    scores = _scores(query, tokens, mask)
    largest = scores.max(axis=-1)
    largest = jnp.maximum(largest, jnp.finfo(jnp.float32).min)  # finite without any token
    weights = jnp.exp(scores - largest[..., None])
    total = weights.sum(axis=-1)
    out = weights.astype(value.dtype) @ value
    return Sums(largest, total, out)


def _scores(
    query: Array,
    tokens: Array,
    mask: Array,
) -> Float[Array, "heads latents tokens"]:
    """Scores of the keys in `tokens`; minus infinity where the mask is False."""
    key, _ = jnp.split(tokens, 2)
    scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)
    return jnp.where(mask, scores, -jnp.inf)
