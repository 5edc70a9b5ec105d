"""Attention: within a row of tokens, and over token rows of which several belong to one window."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model.dropout import dropout

MASKED = -1e30  # score of a token that must not be attended to; finite, so that a fully masked row stays finite

Weights = Float[Array, "batch heads queries keys"]


def attend(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    dropped: Callable[[Weights], Weights] = lambda weights: weights,
) -> Float[Array, "batch queries heads head_dim"]:
    """Scaled dot-product attention without a mask; softmax in float32, `dropped` applied to its weights."""
    weights = dropped(jax.nn.softmax(_scores("bqhk,bmhk->bhqm", query, key), axis=-1))  # [B, H, Q, M]
    return jnp.einsum("bhqm,bmhk->bqhk", weights.astype(value.dtype), value)


def attend_tokens(
    query: Float[Array, "latents heads head_dim"],
    tokens: Callable[..., tuple[Array, Array]],
    token_inputs: tuple[Array, ...],
    mask: Bool[Array, "rows tokens"],
    windows: Int[Array, " rows"] | None,
    num_windows: int,
    *,
    rows_per_group: int,
    attention_dropout: float = 0.0,
    seeds: UInt32[Array, " rows"] | None = None,
    offsets: Int[Array, " rows"],
) -> Float[Array, "windows latents heads head_dim"]:
    """Attention of the same queries to the tokens of every window.

    Args:
        query: queries, equal for all windows.
        tokens: makes (keys, values), each [rows, tokens, heads, head_dim], from rows of `token_inputs`.
        token_inputs: arrays with leading axis `rows`.
        mask: False for padding.
        windows: window of each row, in ascending order; None when row i holds all tokens of window i.
        rows_per_group: packed rows whose scores are held in memory at the same time.
        seeds, offsets: dropout seed of each row's window, and the place of the row's first token in its window.

    A window without tokens gets zeros. Packed rows are attended one by one and merged by a running softmax, which is
    exact: each row contributes (largest score, sum of weights, weighted sum of values).
    """
    partial_rows = partial(_attend_rows, query, tokens, attention_dropout)
    rows = (token_inputs, mask, seeds, offsets)
    if windows is None:
        _, total, out = partial_rows(rows)
        return _normalise(total, out)
    group = math.gcd(rows_per_group, mask.shape[0])
    grouped = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), rows)
    largest, total, out = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(jax.checkpoint(partial_rows), grouped)
    )
    sum_by_window = partial(jax.ops.segment_sum, segment_ids=windows, num_segments=num_windows, indices_are_sorted=True)
    peak = jnp.maximum(jax.ops.segment_max(largest, windows, num_windows, indices_are_sorted=True), MASKED)
    scale = jnp.exp(largest - peak[windows])  # [R, H, L]
    return _normalise(sum_by_window(total * scale), sum_by_window(out * scale[..., None].astype(out.dtype)))


def _attend_rows(query, tokens, attention_dropout, rows):
    """Unnormalised attention of every row: (largest score [R, H, L], sum of weights, weighted sum of values)."""
    inputs, mask, seeds, offsets = rows
    key, value = tokens(*inputs)
    mask = mask[:, None, None]  # [R, T] -> [R, 1, 1, T]
    scores = jnp.where(mask, _scores("lhk,rthk->rhlt", query, key), MASKED)
    largest = jax.lax.stop_gradient(scores.max(axis=-1))
    weights = jnp.exp(scores - largest[..., None]) * mask
    total = weights.sum(axis=-1)
    _, heads, latents, count = weights.shape
    places = (offsets[:, None] + jnp.arange(count)).astype(jnp.uint32)  # of the tokens in their windows
    pairs = jax.lax.iota(jnp.uint32, heads * latents).reshape(heads, latents, 1)
    numbers = places[:, None, None] * jnp.uint32(heads * latents) + pairs
    weights = dropout(weights, attention_dropout, seeds, numbers).astype(value.dtype)
    return largest, total, jnp.einsum("rhlt,rthk->rhlk", weights, value)


def _scores(equation: str, query: Array, key: Array) -> Array:
    return jnp.einsum(equation, query * query.shape[-1] ** -0.5, key, preferred_element_type=jnp.float32)


def _normalise(total: Array, out: Array) -> Array:
    out = out / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)[..., None].astype(out.dtype)
    return jnp.swapaxes(out, 1, 2)  # [W, H, L, K] -> [W, L, H, K]
