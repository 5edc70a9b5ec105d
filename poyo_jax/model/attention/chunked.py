"""Attention in chunks of keys, whose sums are merged: large scores are never in memory at once.

Backward, scores are computed again, and weights follow from them by the log-sum-exp of the forward
pass. `attend_in_chunks` serves processor and decoder, `attend_in_groups` the encoder: it takes a
few packed token rows at a time, which stay in fast memory, and adds to the gradient of their table
in place.
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model import microbatch
from poyo_jax.model.attention.online_softmax import (
    MASKED,
    Sums,
    merge,
    merge_rows,
    no_keys,
    scaled,
)
from poyo_jax.model.attention.tokens import (
    TokenRows,
    attend_rows,
    drop_weights,
    keys_and_values,
    merge_rows_and_tokens,
    scores_of,
    swap_rows_and_heads,
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
    pairs = jax.lax.iota(jnp.uint32, heads * num_queries)  # of a head and a query
    pairs = pairs.reshape(heads, num_queries, 1)

    @jax.checkpoint
    def add(sums: Sums, chunk):
        key, value, allowed, first = chunk
        scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)  # [B, H, Q, c]
        scores = jnp.where(allowed, scores, MASKED)
        largest = jax.lax.stop_gradient(scores.max(axis=-1))
        largest = jnp.maximum(largest, MASKED / 2)
        weights = jnp.exp(scores - largest[..., None])  # 0 where masked
        total = weights.sum(axis=-1)
        places = first + jnp.arange(CHUNK_KEYS)
        numbers = pairs * jnp.uint32(num_keys) + places.astype(jnp.uint32)
        kept = dropout(weights, rate, seeds, numbers)
        kept = kept.astype(value.dtype)
        out = jnp.matmul(kept, value, preferred_element_type=jnp.float32)
        return merge(sums, Sums(largest, total, out)), None

    if mask is None:
        mask = jnp.ones((1, 1, 1, num_keys), bool)
    mask = jnp.broadcast_to(mask, (*mask.shape[:3], num_keys))
    chunks = (
        _cut(key, axis=2),
        _cut(value, axis=2),
        _cut(mask, axis=3),
        jnp.arange(0, num_keys, CHUNK_KEYS),  # number of its first key
    )
    nothing = no_keys(*query.shape)
    sums, _ = jax.lax.scan(add, nothing, chunks)
    return sums.attention().astype(value.dtype)


def _cut(x: Array, axis: int) -> Array:
    """Cut the axis of the keys into chunks; that of the chunks comes first."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, -x.shape[axis] % CHUNK_KEYS)
    x = jnp.pad(x, padding)
    before = x.shape[:axis]
    after = x.shape[axis + 1 :]
    x = x.reshape(*before, -1, CHUNK_KEYS, *after)
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
    size = microbatch.microbatch_size(len(windows), rows_per_group)
    groups = microbatch.cut((rows, windows), size)
    attended = _attend(scaled(query), table, groups, num_windows, rate)
    return cast(Array, attended)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(query, table, groups: Groups, num_windows, rate):
    out, _ = _forward(query, table, groups, num_windows, rate)
    return out


def _forward(query, table, groups, num_windows, rate):
    def of_group(_, group):
        rows, _ = group
        by_row = attend_rows(query, table[rows.entries], rows, rate)
        return None, jax.tree.map(swap_rows_and_heads, by_row)

    _, by_group = jax.lax.scan(of_group, None, groups)
    _, windows = groups
    by_row = Sums(*(x.reshape(-1, *x.shape[2:]) for x in by_group))
    by_window = merge_rows(by_row, windows.reshape(-1), num_windows)
    out = by_window.attention().astype(table.dtype)
    has_keys = by_window.total > 0
    total = jnp.where(has_keys, by_window.total, 1)
    log_sum = by_window.largest + jnp.log(total)
    log_sum = jnp.where(has_keys, log_sum, -MASKED)
    return out, (query, table, groups, out, log_sum)


def _backward(num_windows, rate, saved, dout):
    query, table, groups, out, log_sum = saved
    products = dout * out
    dtotal = products.sum(axis=-1, dtype=jnp.float32)  # [W, H, L]

    def add(sums, group):
        rows, windows = group
        dq, dtable = sums
        by_row = partial(_by_row, windows)
        key, value = keys_and_values(table[rows.entries], rows)
        scores = scores_of(query, key, rows)  # [H, R, T, L]
        weights = jnp.exp(scores - by_row(log_sum)[:, :, None])
        dout_of_rows = by_row(dout)
        dkept = jnp.matmul(value, dout_of_rows.mT, preferred_element_type=jnp.float32)
        dweights = drop_weights(dkept, rows, rate) - by_row(dtotal)[:, :, None]
        dscores = (weights * dweights).astype(query.dtype)
        dscores = merge_rows_and_tokens(dscores)  # [H, R * T, L]
        dk = (dscores @ query).reshape(key.shape)
        kept = drop_weights(weights, rows, rate).astype(dout.dtype)
        dv = kept @ dout_of_rows
        dtokens = jnp.concatenate([dk, dv])
        dtokens = rotate(dtokens, rows.rotation.inverse())
        dtokens = jnp.moveaxis(dtokens, 0, 2)  # [2H, R, T, K] -> [R, T, 2H, K]
        dtokens = dtokens.reshape(*rows.entries.shape, -1)
        dtable = dtable.at[rows.entries].add(dtokens.astype(jnp.float32))
        keys = merge_rows_and_tokens(key)
        dq_of_rows = jnp.matmul(dscores.mT, keys, preferred_element_type=jnp.float32)
        return (dq + dq_of_rows, dtable), None

    no_dq = jnp.zeros(query.shape, jnp.float32)
    no_dtable = jnp.zeros(table.shape, jnp.float32)
    sums, _ = jax.lax.scan(add, (no_dq, no_dtable), groups)
    dq, dtable = sums
    return dq.astype(query.dtype), dtable.astype(table.dtype), None


def _by_row(windows: Array, x: Array) -> Array:
    """[W, H, …] -> [H, R, …]"""
    return swap_rows_and_heads(x[windows])


_attend.defvjp(_forward, _backward)
