"""Attention of the latents to rows of tokens, of which several may belong to one window."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.config import BackEnd
from poyo_jax.model.attention import MASKED, choose, scaled
from poyo_jax.model.dropout import dropout
from poyo_jax.model.flash import FLASH, Flash, attend_with_log_sum
from poyo_jax.model.product import product
from poyo_jax.model.rotary import Rotation, rotate

CHUNK_TOKENS = 256  # of a padded row that is cut into chunks


class TokenRows(NamedTuple):
    """Rows of tokens whose keys and values are entries of a table, rotated to the times of the tokens."""

    entries: Int[Array, "rows tokens"]
    rotation: Rotation
    mask: Bool[Array, "rows tokens"]  # False for padding, which comes last in a row (flash attention relies on it)
    offsets: Int[Array, " rows"]  # place of the row's first token in its window
    seeds: UInt32[Array, " rows"] | None  # dropout seed of the row's window


def attend_tokens(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "2*heads entries head_dim"],
    rows: TokenRows,
    windows: Int[Array, " rows"] | None,
    num_windows: int,
    *,
    rows_per_group: int,
    back_end: BackEnd = "auto",
    attention_dropout: float = 0.0,
) -> Float[Array, "windows heads latents head_dim"]:
    """Attention of the same queries to the tokens of every window.

    Args:
        query: queries, equal for all windows.
        table: keys, then values, before rotation.
        rows: the tokens.
        windows: window of each row, in ascending order; None when row i holds all tokens of window i.
        num_windows: how many windows there are.
        rows_per_group: rows whose scores the back end `chunked` holds in memory at the same time.
        back_end: see model/attention.py.
        attention_dropout: rate of dropout of the weights.

    A window without tokens gets zeros. Packed rows are attended one by one and merged by a running softmax, which is
    exact: each row contributes (largest score, sum of weights, weighted sum of values), or with flash attention
    (log-sum-exp, 1, mean of values).
    """
    rate = 0.0 if rows.seeds is None else attention_dropout
    packed = windows is not None
    chosen = choose(back_end, dtype=table.dtype, head_dim=table.shape[-1], attention_dropout=rate, packed=packed)
    if chosen == "chunked" and windows is None:
        rows, windows = _cut(rows)
    count = rows.mask.shape[0]
    group = math.gcd(rows_per_group, count) if chosen == "chunked" else count
    part = partial(_flash_rows, FLASH[chosen], packed) if chosen in FLASH else partial(_attend_rows, rate)
    groups = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), rows)
    largest, total, out = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), _attend_groups(part, query, table, groups)
    )
    return _normalise(total, out) if windows is None else _merge(largest, total, out, windows, num_windows)


def _merge(largest: Array, total: Array, out: Array, windows: Array, num_windows: int) -> Array:
    """Attention of every window from what its rows contribute."""
    sum_by_window = partial(jax.ops.segment_sum, segment_ids=windows, num_segments=num_windows, indices_are_sorted=True)
    peak = jax.ops.segment_max(jax.lax.stop_gradient(largest), windows, num_windows, indices_are_sorted=True)
    scale = jnp.exp(largest - jnp.maximum(peak, MASKED)[windows])  # [R, H, L]
    merged = _normalise(sum_by_window(total * scale), sum_by_window(out.astype(jnp.float32) * scale[..., None]))
    return merged.astype(out.dtype)


def _cut(rows: TokenRows) -> tuple[TokenRows, Int[Array, " chunks"]]:
    """Padded rows as chunks, and the window of each chunk."""
    count, tokens = rows.mask.shape
    chunks = -(-tokens // CHUNK_TOKENS)

    def cut(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, chunks * CHUNK_TOKENS - tokens), *((0, 0),) * (x.ndim - 2)))
        return x.reshape(count * chunks, CHUNK_TOKENS, *x.shape[2:])

    firsts = jnp.arange(chunks) * CHUNK_TOKENS
    pieces = TokenRows(
        *jax.tree.map(cut, rows[:3]),
        offsets=(rows.offsets[:, None] + firsts).reshape(-1),
        seeds=None if rows.seeds is None else jnp.repeat(rows.seeds, chunks),
    )
    return pieces, jnp.repeat(jnp.arange(count), chunks)


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
        key.reshape(len(key), -1, key.shape[-1]), scaled(query).mT, jnp.dtype(jnp.float32)
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


def _flash_rows(flash: Flash, packed: bool, query: Array, tokens: Array, rows: TokenRows):
    """What rows contribute by flash attention. Only packed rows, which are merged, need their log-sum-exp."""
    key, value = jnp.split(jnp.swapaxes(rotate(tokens, rows.rotation), 0, 1), 2, axis=1)  # 2 x [R, H, T, K]
    # From float32, so that the gradients of all rows are summed in float32.
    query = jnp.broadcast_to(query.astype(jnp.float32), (len(key), *query.shape)).astype(key.dtype)
    counts = rows.mask.sum(axis=1, dtype=jnp.int32)
    lengths = jnp.maximum(counts, 1)  # no kernel is made for a softmax over nothing
    if packed:
        out, log_sum = cast(tuple, attend_with_log_sum(flash, query, key, value, lengths))
    else:
        out, _ = flash(query, key, value, lengths)
        log_sum = jnp.zeros(out.shape[:-1])
    filled = (counts > 0)[:, None, None]
    total = jnp.broadcast_to(filled.astype(jnp.float32), log_sum.shape)
    return jnp.where(filled, log_sum, MASKED), total, jnp.where(filled[..., None], out, 0)


def _normalise(total: Array, out: Array) -> Array:
    return out / jnp.where(total > 0, total, 1)[..., None].astype(out.dtype)  # at least 1, or 0 without any token
