"""Attention of the latents to packed token rows, a few rows at a time, by a running softmax.

Nothing as large as the tokens, the scores or what each row contributes is ever in memory for all
rows: forward, every row is merged into its window's (largest score, sum of weights, weighted sum of
values) at once; backward, scores are computed again, and the gradient of the table grows in place.
"""

import math
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from poyo_jax.model.attention.api import MASKED, scaled
from poyo_jax.model.attention.token_rows import (
    TokenRows,
    attend_rows,
    drop_weights,
    keys_and_values,
    scores_of,
)
from poyo_jax.model.rotary import rotate

Groups = tuple[TokenRows, Int[Array, "groups rows"]]  # and the window of each row


def attend_in_groups(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "entries 2*heads*head_dim"],
    rows: TokenRows,
    windows: Int[Array, " rows"],
    num_windows: int,
    rows_per_group: int,
    attention_dropout: float,
) -> Float[Array, "windows heads latents head_dim"]:
    """Attention of the same queries to the tokens of every window; zeros for a window without
    tokens.
    """
    group = math.gcd(rows_per_group, len(windows))
    groups = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), (rows, windows))
    return cast(Array, _attend(scaled(query), table, groups, num_windows, attention_dropout))


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(query: Array, table: Array, groups: Groups, num_windows: int, rate: float) -> Array:
    return _forward(query, table, groups, num_windows, rate)[0]


def _forward(query, table, groups, num_windows, rate):
    def add(sums, group):
        rows, windows = group
        largest, total, out = attend_rows(query, table[rows.entries], rows, rate)
        for row, window in enumerate(windows):
            sums = _merge(sums, window, (largest[:, row], total[:, row], out[:, row]))
        return sums, None

    shape = (num_windows, *query.shape[:2])
    sums = (jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros((num_windows, *query.shape)))
    (largest, total, out), _ = jax.lax.scan(add, sums, groups)
    out = (out / jnp.where(total > 0, total, 1)[..., None]).astype(table.dtype)
    log_sum = jnp.where(total > 0, largest + jnp.log(jnp.where(total > 0, total, 1)), -MASKED)
    return out, (query, table, groups, out, log_sum)


def _merge(sums: tuple, window: Array, added: tuple) -> tuple:
    """Running sums in which a row's largest score, sum of weights and weighted sum of values count
    for its window.
    """
    old = tuple(x[window] for x in sums)
    largest = jnp.maximum(old[0], added[0])
    scale, own = jnp.exp(old[0] - largest), jnp.exp(added[0] - largest)
    new = (
        largest,
        old[1] * scale + added[1] * own,
        old[2] * scale[..., None] + added[2] * own[..., None],
    )
    return tuple(x.at[window].set(value) for x, value in zip(sums, new, strict=True))


def _backward(num_windows, rate, saved, gradient):
    query, table, groups, out, log_sum = saved
    of_sum = (gradient * out).sum(axis=-1, dtype=jnp.float32)  # [W, H, L]

    def add(sums, group):
        rows, windows = group
        by_row = partial(_by_row, windows)
        key, value = keys_and_values(table[rows.entries], rows)
        weights = jnp.exp(scores_of(query, key, rows) - by_row(log_sum)[:, :, None])  # [H, R, T, L]
        of_dropped = jnp.matmul(value, by_row(gradient).mT, preferred_element_type=jnp.float32)
        of_scores = weights * (drop_weights(of_dropped, rows, rate) - by_row(of_sum)[:, :, None])
        of_scores = of_scores.astype(query.dtype).reshape(
            len(key), -1, weights.shape[-1]
        )  # [H, R * T, L]
        of_key = (of_scores @ query).reshape(key.shape)
        of_value = drop_weights(weights, rows, rate).astype(gradient.dtype) @ by_row(gradient)
        of_tokens = rotate(jnp.concatenate([of_key, of_value]), rows.rotation.inverse())
        all_keys = key.reshape(len(key), -1, key.shape[-1])
        of_query = jnp.matmul(of_scores.mT, all_keys, preferred_element_type=jnp.float32)
        of_tokens = jnp.moveaxis(of_tokens, 0, 2).reshape(
            *rows.entries.shape, -1
        )  # [2H, R, T, K] -> [R, T, 2HK]
        of_table = sums[1].at[rows.entries].add(of_tokens.astype(jnp.float32))
        return (sums[0] + of_query, of_table), None

    zeros = (jnp.zeros(query.shape, jnp.float32), jnp.zeros(table.shape, jnp.float32))
    (of_query, of_table), _ = jax.lax.scan(add, zeros, groups)
    return of_query.astype(query.dtype), of_table.astype(table.dtype), None


def _by_row(windows: Array, x: Array) -> Array:
    """[W, H, …] -> [H, R, …]"""
    return jnp.swapaxes(x[windows], 0, 1)


_attend.defvjp(_forward, _backward)
