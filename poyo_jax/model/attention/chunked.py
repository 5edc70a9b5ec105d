"""Attention in chunks of keys, whose sums are merged: large scores are never in memory at once.

Forward, the sums over each chunk are merged into those over all chunks before. Backward, scores are
computed again. `attend_in_chunks` serves processor and decoder, `attend_in_groups` the encoder: it
takes a few packed token rows at a time and adds to the gradient of their table in place.
"""

import math
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model.attention.online_softmax import MASKED, Sums, merge, no_keys, scaled
from poyo_jax.model.attention.tokens import (
    TokenRows,
    attend_rows,
    drop_weights,
    keys_and_values,
    scores_of,
)
from poyo_jax.model.dropout import dropout
from poyo_jax.model.rotary import rotate

CHUNK_KEYS = 128

Groups = tuple[TokenRows, Int[Array, "groups rows"]]  # and the window of each row


def attend_in_chunks(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    rate: float,
    seeds: UInt32[Array, " batch"] | None,
    mask: Bool[Array, "#batch #heads #queries #keys"] | None = None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Scaled dot-product attention, `CHUNK_KEYS` keys at a time."""
    heads, num_queries = query.shape[1:3]
    num_keys = key.shape[2]
    query = scaled(query)
    pairs = jax.lax.iota(jnp.uint32, heads * num_queries).reshape(heads, num_queries, 1)

    @jax.checkpoint
    def add(sums: Sums, chunk):
        key, value, allowed, first = chunk
        scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)  # [B, H, Q, c]
        scores = jnp.where(allowed, scores, MASKED)
        largest = jax.lax.stop_gradient(scores.max(axis=-1))
        largest = jnp.maximum(largest, MASKED / 2)
        weights = jnp.exp(scores - largest[..., None])  # 0 where masked
        total = weights.sum(axis=-1)
        places = (first + jnp.arange(CHUNK_KEYS)).astype(jnp.uint32)
        kept = dropout(weights, rate, seeds, pairs * jnp.uint32(num_keys) + places)
        kept = kept.astype(value.dtype)
        out = jnp.matmul(kept, value, preferred_element_type=jnp.float32)
        return merge(sums, Sums(largest, total, out)), None

    allowed = jnp.ones((1, 1, 1, num_keys), bool) if mask is None else mask
    allowed = jnp.broadcast_to(allowed, (*allowed.shape[:3], num_keys))
    firsts = jnp.arange(0, num_keys, CHUNK_KEYS)
    chunks = (_cut(key, 2), _cut(value, 2), _cut(allowed, 3), firsts)
    sums, _ = jax.lax.scan(add, no_keys(*query.shape), chunks)
    return sums.attention().astype(value.dtype)


def _cut(x: Array, axis: int) -> Array:
    """Cut the axis of the keys into chunks; that of the chunks comes first."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, -x.shape[axis] % CHUNK_KEYS)
    x = jnp.pad(x, padding)
    x = x.reshape(*x.shape[:axis], -1, CHUNK_KEYS, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)


def attend_in_groups(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "entries 2*heads*head_dim"],
    rows: TokenRows,
    windows: Int[Array, " rows"],
    num_windows: int,
    rows_per_group: int,
    rate: float,
) -> Float[Array, "windows heads latents head_dim"]:
    """Attend from the same queries to the tokens of every window.

    A window without tokens gives zeros.
    """
    size = math.gcd(rows_per_group, len(windows))
    groups = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (rows, windows))
    return cast(Array, _attend(scaled(query), table, groups, num_windows, rate))


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(query: Array, table: Array, groups: Groups, num_windows: int, rate: float) -> Array:
    return _forward(query, table, groups, num_windows, rate)[0]


def _forward(query, table, groups, num_windows, rate):
    def add(by_window: Sums, group):
        rows, windows = group
        by_row = attend_rows(query, table[rows.entries], rows, rate)
        for row, window in enumerate(windows):
            sums = Sums(*(x[window] for x in by_window))
            sums = merge(sums, Sums(*(x[:, row] for x in by_row)))
            updates = zip(by_window, sums, strict=True)
            by_window = Sums(*(x.at[window].set(new) for x, new in updates))
        return by_window, None

    by_window, _ = jax.lax.scan(add, no_keys(num_windows, *query.shape), groups)
    out = by_window.attention().astype(table.dtype)
    total = jnp.where(by_window.total > 0, by_window.total, 1)
    log_sum = jnp.where(by_window.total > 0, by_window.largest + jnp.log(total), -MASKED)
    return out, (query, table, groups, out, log_sum)


def _backward(num_windows, rate, saved, dout):
    query, table, groups, out, log_sum = saved
    dtotal = (dout * out).sum(axis=-1, dtype=jnp.float32)  # [W, H, L]

    def add(sums, group):
        rows, windows = group
        dq, dtable = sums
        by_row = partial(_by_row, windows)
        key, value = keys_and_values(table[rows.entries], rows)
        scores = scores_of(query, key, rows)  # [H, R, T, L]
        weights = jnp.exp(scores - by_row(log_sum)[:, :, None])
        dkept = jnp.matmul(value, by_row(dout).mT, preferred_element_type=jnp.float32)
        dscores = weights * (drop_weights(dkept, rows, rate) - by_row(dtotal)[:, :, None])
        dscores = dscores.astype(query.dtype)
        dscores = dscores.reshape(len(key), -1, weights.shape[-1])  # [H, R * T, L]
        dk = (dscores @ query).reshape(key.shape)
        dv = drop_weights(weights, rows, rate).astype(dout.dtype) @ by_row(dout)
        dtokens = rotate(jnp.concatenate([dk, dv]), rows.rotation.inverse())
        all_keys = key.reshape(len(key), -1, key.shape[-1])
        dq_of_rows = jnp.matmul(dscores.mT, all_keys, preferred_element_type=jnp.float32)
        dtokens = jnp.moveaxis(dtokens, 0, 2)  # [2H, R, T, K] -> [R, T, 2H, K]
        dtokens = dtokens.reshape(*rows.entries.shape, -1).astype(jnp.float32)
        return (dq + dq_of_rows, dtable.at[rows.entries].add(dtokens)), None

    zeros = (jnp.zeros(query.shape, jnp.float32), jnp.zeros(table.shape, jnp.float32))
    (dq, dtable), _ = jax.lax.scan(add, zeros, groups)
    return dq.astype(query.dtype), dtable.astype(table.dtype), None


def _by_row(windows: Array, x: Array) -> Array:
    """[W, H, …] -> [H, R, …]"""
    return jnp.swapaxes(x[windows], 0, 1)


_attend.defvjp(_forward, _backward)
