"""Rows of tokens, of which several may belong to one window, and their scores."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.model.attention.api import MASKED
from poyo_jax.model.dropout import dropout
from poyo_jax.model.rotary import Rotation, rotate

CHUNK_TOKENS = 256  # of a padded row that is cut into chunks


class TokenRows(NamedTuple):
    """Rows of tokens whose keys and values are entries of a table, rotated to the times of the
    tokens.
    """

    entries: Int[Array, "*groups rows tokens"]
    rotation: Rotation
    mask: Bool[
        Array, "*groups rows tokens"
    ]  # False for padding, last in a row (flash attention relies on it)
    offsets: Int[Array, "*groups rows"]  # place of the row's first token in its window
    seeds: UInt32[Array, "*groups rows"] | None  # dropout seed of the row's window


def keys_and_values(
    tokens: Float[Array, "rows tokens channels"], rows: TokenRows
) -> tuple[Array, Array]:
    """Rotated keys and values of tokens whose entries of the table are given, each [heads, rows,
    tokens, head_dim].
    """
    head_dim = 4 * rows.rotation.cos.shape[-1]
    tokens = jnp.moveaxis(tokens.reshape(*tokens.shape[:2], -1, head_dim), 2, 0)
    key, value = jnp.split(rotate(tokens, rows.rotation), 2)
    return key, value


def scores_of(
    query: Float[Array, "heads latents head_dim"],
    key: Float[Array, "heads rows tokens head_dim"],
    rows: TokenRows,
) -> Float[Array, "heads rows tokens latents"]:
    """Scores of queries that are scaled already, in float32; MASKED at padding."""
    all_keys = key.reshape(
        len(key), -1, key.shape[-1]
    )  # the queries are those of all rows: one product for each head
    scores = jnp.matmul(all_keys, query.mT, preferred_element_type=jnp.float32)
    return jnp.where(rows.mask[:, :, None], scores.reshape(*key.shape[:-1], -1), MASKED)


def attend_rows(
    query: Float[Array, "heads latents head_dim"],
    tokens: Float[Array, "rows tokens channels"],
    rows: TokenRows,
    rate: float,
) -> tuple[Array, Array, Array]:
    """What every row contributes: (largest score [H, R, L], sum of weights [H, R, L], weighted
    values [H, R, L, K]).

    Queries are scaled already. Weights are the exponentials of what scores lack of the largest,
    which has no gradient.
    """
    key, value = keys_and_values(tokens, rows)
    scores = scores_of(query, key, rows)  # [H, R, T, L]
    largest = jax.lax.stop_gradient(scores.max(axis=2))
    weights = jnp.exp(scores - jnp.maximum(largest, MASKED / 2)[:, :, None])  # 0 where masked
    total = weights.sum(axis=2)
    return largest, total, drop_weights(weights, rows, rate).astype(value.dtype).mT @ value


def drop_weights(
    weights: Float[Array, "heads rows tokens latents"], rows: TokenRows, rate: float
) -> Float[Array, "heads rows tokens latents"]:
    """Dropout of weights, numbered within their window: how the window is cut into rows makes no
    difference.
    """
    if rows.seeds is None:
        return weights
    heads, _, tokens, latents = weights.shape
    places = (rows.offsets[:, None] + jnp.arange(tokens)).astype(
        jnp.uint32
    )  # of the tokens in their windows
    pairs = jax.lax.iota(jnp.uint32, heads * latents).reshape(heads, 1, 1, latents)
    numbers = places[:, :, None] * jnp.uint32(heads * latents) + pairs
    return dropout(weights, rate, rows.seeds[:, None, None], numbers)


def cut(rows: TokenRows) -> tuple[TokenRows, Int[Array, " chunks"]]:
    """Rows that hold all tokens of a window each, as chunks, and the window of each chunk."""
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
