"""Rows of tokens, of which several may belong to one window, and attention to all rows at once."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model.attention.flash import Flash, attend_with_log_sum
from poyo_jax.model.attention.online_softmax import MASKED, Sums, scaled
from poyo_jax.model.dropout import dropout
from poyo_jax.model.rotary import Rotation, rotate

CHUNK_TOKENS = 256  # of a padded row that is cut into chunks


class TokenRows(NamedTuple):
    """Rows of tokens; their keys and values are entries of a table, rotated to the token times."""

    entries: Int[Array, "*groups rows tokens"]
    rotation: Rotation
    # False for padding, which is last in a row; flash attention relies on it.
    mask: Bool[Array, "*groups rows tokens"]
    offsets: Int[Array, "*groups rows"]  # place of the row's first token in its window
    seeds: UInt32[Array, "*groups rows"] | None  # dropout seed of the row's window


def cut(rows: TokenRows) -> tuple[TokenRows, Int[Array, " chunks"]]:
    """Rows that hold all tokens of a window each, as chunks, and the window of each chunk."""
    num_rows, num_tokens = rows.mask.shape
    num_chunks = -(-num_tokens // CHUNK_TOKENS)
    missing = num_chunks * CHUNK_TOKENS - num_tokens

    def chunks_of(x: Array) -> Array:
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, missing)
        x = jnp.pad(x, padding)
        return x.reshape(-1, CHUNK_TOKENS, *x.shape[2:])

    entries, rotation, mask = jax.tree.map(chunks_of, rows[:3])
    firsts = jnp.arange(num_chunks) * CHUNK_TOKENS
    offsets = rows.offsets[:, None] + firsts
    offsets = offsets.reshape(-1)
    seeds = rows.seeds
    if seeds is not None:
        seeds = jnp.repeat(seeds, num_chunks)
    windows = jnp.repeat(jnp.arange(num_rows), num_chunks)
    return TokenRows(entries, rotation, mask, offsets, seeds), windows


def keys_and_values(
    tokens: Float[Array, "rows tokens channels"], rows: TokenRows
) -> tuple[Array, Array]:
    """Rotate the keys and values of tokens, each to [heads, rows, tokens, head_dim].

    `tokens` are the entries of the table at `rows.entries`.
    """
    head_dim = 4 * rows.rotation.cos.shape[-1]
    tokens = tokens.reshape(*tokens.shape[:2], -1, head_dim)  # [R, T, 2HK] -> [R, T, 2H, K]
    tokens = jnp.moveaxis(tokens, 2, 0)
    tokens = rotate(tokens, rows.rotation)
    key, value = jnp.split(tokens, 2)
    return key, value


def merge_rows_and_tokens(
    x: Float[Array, "heads rows tokens channels"],
) -> Float[Array, "heads rows*tokens channels"]:
    """One axis for the tokens of all rows."""
    return x.reshape(len(x), -1, x.shape[-1])


def scores_of(
    query: Float[Array, "heads latents head_dim"],
    key: Float[Array, "heads rows tokens head_dim"],
    rows: TokenRows,
) -> Float[Array, "heads rows tokens latents"]:
    """Scores of queries that are scaled already, in float32; MASKED at padding."""
    # The queries are those of all rows, so one product for each head is enough.
    keys = merge_rows_and_tokens(key)
    scores = jnp.matmul(keys, query.mT, preferred_element_type=jnp.float32)
    scores = scores.reshape(*key.shape[:-1], -1)
    mask = rows.mask[:, :, None]
    return jnp.where(mask, scores, MASKED)


def attend_rows(
    query: Float[Array, "heads latents head_dim"],
    tokens: Float[Array, "rows tokens channels"],
    rows: TokenRows,
    rate: float,
) -> Sums:
    """The contribution of every row [heads, rows, latents], with all its scores in memory.

    Queries are scaled already. The largest score has no gradient.
    """
    key, value = keys_and_values(tokens, rows)
    scores = scores_of(query, key, rows)  # [H, R, T, L]
    largest = jax.lax.stop_gradient(scores.max(axis=2))
    subtracted = jnp.maximum(largest, MASKED / 2)
    weights = jnp.exp(scores - subtracted[:, :, None])  # 0 where masked
    total = weights.sum(axis=2)
    kept = drop_weights(weights, rows, rate).astype(value.dtype)
    out = jnp.matmul(kept.mT, value, preferred_element_type=jnp.float32)
    return Sums(largest, total, out)


def drop_weights(
    weights: Float[Array, "heads rows tokens latents"], rows: TokenRows, rate: float
) -> Float[Array, "heads rows tokens latents"]:
    """Apply dropout to weights.

    Weights are numbered within their window, so the cut of a window into rows has no effect.
    """
    if rows.seeds is None:
        return weights
    heads, _, tokens, latents = weights.shape
    places = rows.offsets[:, None] + jnp.arange(tokens)  # of the tokens in their windows
    places = places.astype(jnp.uint32)
    num_pairs = heads * latents
    pairs = jax.lax.iota(jnp.uint32, num_pairs)
    pairs = pairs.reshape(heads, 1, 1, latents)
    numbers = places[:, :, None] * jnp.uint32(num_pairs) + pairs
    seeds = rows.seeds[:, None, None]
    return dropout(weights, rate, seeds, numbers)


def recomputed(
    attention: Callable[[Array, Array, TokenRows], Sums],
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "entries 2*heads*head_dim"],
    rows: TokenRows,
) -> Sums:
    """`attention` of queries to the tokens of all rows, computed again backwards.

    The gradient of the table is summed in float32.
    """

    @jax.custom_vjp
    def run(query, table, rows):
        return attention(query, table[rows.entries], rows)

    def forward(query, table, rows):
        return run(query, table, rows), (query, table, rows)

    def backward(saved, gradients):
        query, table, rows = saved

        def of_rows(query, tokens):
            return attention(query, tokens, rows)

        _, pull = jax.vjp(of_rows, query, table[rows.entries])
        dq, dtokens = pull(gradients)
        dtokens = dtokens.astype(jnp.float32)
        dtable = jnp.zeros(table.shape, jnp.float32)
        dtable = dtable.at[rows.entries].add(dtokens)
        return dq, dtable.astype(table.dtype), None

    run.defvjp(forward, backward)
    return run(query, table, rows)


def plain_rows(rate: float, query: Array, tokens: Array, rows: TokenRows) -> Sums:
    """The contribution of every row [rows, heads, latents] with all scores in memory."""
    sums = attend_rows(scaled(query), tokens, rows, rate)
    return jax.tree.map(swap_rows_and_heads, sums)


def swap_rows_and_heads(x: Array) -> Array:
    """[H, R, …] <-> [R, H, …]"""
    return jnp.swapaxes(x, 0, 1)


def flash_rows(
    flash: Flash,
    packed: bool,
    query: Array,
    tokens: Array,
    rows: TokenRows,
) -> Sums:
    """Compute the contribution of every row [rows, heads, latents] by flash attention.

    The sums are the log-sum-exp, 1, and the mean of the values. Only packed rows need the
    log-sum-exp, because they are merged.
    """
    key, value = keys_and_values(tokens, rows)
    key = swap_rows_and_heads(key)  # [R, H, T, K]
    value = swap_rows_and_heads(value)
    # From float32, so that the gradients of all rows are summed in float32.
    query = query.astype(jnp.float32)
    query = jnp.broadcast_to(query, (len(key), *query.shape))
    query = query.astype(key.dtype)
    counts = rows.mask.sum(axis=1, dtype=jnp.int32)
    lengths = jnp.maximum(counts, 1)  # no kernel is made for a softmax over nothing
    if packed:
        attended = attend_with_log_sum(flash, query, key, value, lengths)
        out, log_sum = cast(tuple[Array, Array], attended)
    else:
        out, _ = flash(query, key, value, lengths)
        log_sum = jnp.zeros(out.shape[:-1])
    filled = (counts > 0)[:, None, None]
    total = filled.astype(jnp.float32)
    total = jnp.broadcast_to(total, log_sum.shape)
    largest = jnp.where(filled, log_sum, MASKED)
    out = jnp.where(filled[..., None], out, 0)
    return Sums(largest, total, out)
