"""Attention: within a row of tokens, and over token rows of which several belong to one window.

Heads come before tokens, so that every product is a batch of plain matrix products and nothing is transposed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model.dropout import dropout
from poyo_jax.model.plain_attention import attend_plainly
from poyo_jax.model.product import product
from poyo_jax.model.rotary import Rotation, rotate

MASKED = -1e30  # score of a token that must not be attended to; finite, so that a fully masked row stays finite


class TokenRows(NamedTuple):
    """Rows of tokens whose keys and values are entries of a table, rotated to the times of the tokens."""

    entries: Int[Array, "rows tokens"]
    rotation: Rotation
    mask: Bool[Array, "rows tokens"]  # False for padding
    offsets: Int[Array, " rows"]  # place of the row's first token in its window
    seeds: UInt32[Array, " rows"] | None  # dropout seed of the row's window


def attend(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    *,
    attention_dropout: float = 0.0,
    seeds: UInt32[Array, " batch"] | None = None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Scaled dot-product attention to all keys; `seeds` decide dropout of its weights, None switches it off."""
    return attend_plainly(query, key, value, attention_dropout, seeds)


def attend_tokens(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "2*heads entries head_dim"],
    rows: TokenRows,
    windows: Int[Array, " rows"] | None,
    num_windows: int,
    *,
    rows_per_group: int,
    attention_dropout: float = 0.0,
) -> Float[Array, "windows heads latents head_dim"]:
    """Attention of the same queries to the tokens of every window.

    Args:
        query: queries, equal for all windows.
        table: keys, then values, before rotation.
        rows: the tokens.
        windows: window of each row, in ascending order; None when row i holds all tokens of window i.
        num_windows: how many windows there are.
        rows_per_group: packed rows whose scores are held in memory at the same time.
        attention_dropout: rate of dropout of the weights.

    A window without tokens gets zeros. Packed rows are attended one by one and merged by a running softmax, which is
    exact: each row contributes (largest score, sum of weights, weighted sum of values).
    """
    count = rows.mask.shape[0]
    group = count if windows is None else math.gcd(rows_per_group, count)
    groups = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), rows)
    parts = _attend_groups(partial(_attend_rows, attention_dropout), query, table, groups)
    largest, total, out = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
    if windows is None:
        return _normalise(total, out)
    sum_by_window = partial(jax.ops.segment_sum, segment_ids=windows, num_segments=num_windows, indices_are_sorted=True)
    peak = jnp.maximum(jax.ops.segment_max(largest, windows, num_windows, indices_are_sorted=True), MASKED)
    scale = jnp.exp(largest - peak[windows])  # [R, H, L]
    return _normalise(sum_by_window(total * scale), sum_by_window(out * scale[..., None].astype(out.dtype)))


def _attend_groups(part: Callable, query: Array, table: Array, groups: TokenRows):
    """`part` of every group of rows, one after the other; what it computes is not kept but computed again backwards.

    Backwards, the gradient of the table grows in place, group by group: gradients of all tokens never exist together.
    """

    @jax.custom_vjp
    def run(query, table, groups):
        return jax.lax.map(lambda rows: part(query, table[:, rows.entries], rows), groups)

    def forward(query, table, groups):
        return run(query, table, groups), (query, table, groups)

    def backward(saved, gradients):
        query, table, groups = saved

        def body(sums, item):
            rows, gradients = item
            _, pull = jax.vjp(lambda query, tokens: part(query, tokens, rows), query, table[:, rows.entries])
            of_query, of_tokens = pull(gradients)
            of_table = sums[1].at[:, rows.entries].add(of_tokens.astype(jnp.float32))
            return (sums[0] + of_query.astype(jnp.float32), of_table), None

        zeros = (jnp.zeros(query.shape, jnp.float32), jnp.zeros(table.shape, jnp.float32))
        (of_query, of_table), _ = jax.lax.scan(body, zeros, (groups, gradients))
        return of_query.astype(query.dtype), of_table.astype(table.dtype), None

    run.defvjp(forward, backward)
    return run(query, table, groups)


def _attend_rows(attention_dropout: float, query: Array, tokens: Array, rows: TokenRows):
    """Unnormalised attention of every row: (largest score [R, H, L], sum of weights, weighted sum of values)."""
    key, value = jnp.split(rotate(tokens, rows.rotation), 2)  # [2H, R, T, K] -> 2 x [H, R, T, K]
    mask = rows.mask[:, :, None]  # [R, T] -> [R, T, 1]
    scores = product(
        key.reshape(len(key), -1, key.shape[-1]), _scaled(query).mT, jnp.dtype(jnp.float32)
    )  # [H, R * T, L]
    scores = jnp.where(mask, scores.reshape(*key.shape[:-1], -1), MASKED)  # [H, R, T, L]
    largest = jax.lax.stop_gradient(scores.max(axis=2))  # [H, R, L]
    weights = jnp.exp(scores - jnp.maximum(largest, MASKED / 2)[:, :, None])  # 0 where masked
    total = weights.sum(axis=2)
    if rows.seeds is not None:
        numbers = _numbers(rows.offsets, weights.shape)
        weights = dropout(weights, attention_dropout, rows.seeds[:, None, None], numbers)
    out = jnp.einsum("hrtl,hrtk->hrlk", weights.astype(value.dtype), value)
    return tuple(jnp.swapaxes(x, 0, 1) for x in (largest, total, out))


def _numbers(offsets: Int[Array, " rows"], shape: tuple[int, ...]) -> UInt32[Array, "heads rows tokens latents"]:
    """Number of every weight among those of its window; it does not depend on how the window is cut into rows."""
    heads, _, tokens, latents = shape
    places = (offsets[:, None] + jnp.arange(tokens)).astype(jnp.uint32)  # of the tokens in their windows
    pairs = jax.lax.iota(jnp.uint32, heads * latents).reshape(heads, 1, 1, latents)
    return places[:, :, None] * jnp.uint32(heads * latents) + pairs


def _scaled(query: Array) -> Array:
    return query * query.shape[-1] ** -0.5


def _normalise(total: Array, out: Array) -> Array:
    return out / jnp.where(total > 0, total, 1)[..., None].astype(out.dtype)  # at least 1, or 0 without any token
