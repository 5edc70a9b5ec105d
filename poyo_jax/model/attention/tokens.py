"""Attention of the latents to rows of tokens: which back end serves it, and those that take all
rows at once.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from poyo_jax.config import BackEnd
from poyo_jax.model.attention.api import MASKED, choose, scaled
from poyo_jax.model.attention.chunked import attend_in_groups
from poyo_jax.model.attention.flash import FLASH, Flash, attend_with_log_sum
from poyo_jax.model.attention.token_rows import TokenRows, attend_rows, cut, keys_and_values


def attend_tokens(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "entries 2*heads*head_dim"],
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
        table: keys of all heads, then values, before rotation.
        rows: the tokens.
        windows: window of each row, in ascending order; None when row i holds all tokens of window
        i.
        num_windows: how many windows there are.
        rows_per_group: rows whose scores the back end `chunked` holds in memory at the same time.
        back_end: see model/attention/api.py.
        attention_dropout: rate of dropout of the weights.

    A window without tokens gets zeros. `xla` and flash attention attend packed rows one by one and
    merge them, which is
    exact: each row contributes (largest score, sum of weights, weighted sum of values), or with
    flash attention (log-sum-exp, 1, mean of values).
    """
    rate = 0.0 if rows.seeds is None else attention_dropout
    packed = windows is not None
    chosen = choose(
        back_end, dtype=table.dtype, head_dim=query.shape[-1], attention_dropout=rate, packed=packed
    )
    if chosen == "chunked":
        rows, windows = (rows, windows) if windows is not None else cut(rows)
        return attend_in_groups(query, table, rows, windows, num_windows, rows_per_group, rate)
    part = (
        partial(_flash_rows, FLASH[chosen], packed)
        if chosen in FLASH
        else partial(_plain_rows, rate)
    )
    largest, total, out = _recomputed(part, query, table, rows)
    return (
        _normalise(total, out)
        if windows is None
        else _merge(largest, total, out, windows, num_windows)
    )


def _merge(largest: Array, total: Array, out: Array, windows: Array, num_windows: int) -> Array:
    """Attention of every window from what its rows contribute."""
    sum_by_window = partial(
        jax.ops.segment_sum, segment_ids=windows, num_segments=num_windows, indices_are_sorted=True
    )
    peak = jax.ops.segment_max(
        jax.lax.stop_gradient(largest), windows, num_windows, indices_are_sorted=True
    )
    scale = jnp.exp(largest - jnp.maximum(peak, MASKED)[windows])  # [R, H, L]
    merged = _normalise(
        sum_by_window(total * scale), sum_by_window(out.astype(jnp.float32) * scale[..., None])
    )
    return merged.astype(out.dtype)


def _recomputed(
    part: Callable, query: Array, table: Array, rows: TokenRows
) -> tuple[Array, Array, Array]:
    """`part` of queries, tokens and rows, computed again backwards. The gradient of the table is
    float32.
    """

    @jax.custom_vjp
    def run(query, table, rows):
        return part(query, table[rows.entries], rows)

    def forward(query, table, rows):
        return run(query, table, rows), (query, table, rows)

    def backward(saved, gradients):
        query, table, rows = saved
        _, pull = jax.vjp(
            lambda query, tokens: part(query, tokens, rows), query, table[rows.entries]
        )
        of_query, of_tokens = pull(gradients)
        of_table = (
            jnp.zeros(table.shape, jnp.float32).at[rows.entries].add(of_tokens.astype(jnp.float32))
        )
        return of_query, of_table.astype(table.dtype), None

    run.defvjp(forward, backward)
    return run(query, table, rows)


def _plain_rows(attention_dropout: float, query: Array, tokens: Array, rows: TokenRows):
    """What rows contribute with all their scores in memory."""
    parts = attend_rows(scaled(query), tokens, rows, attention_dropout)
    return tuple(jnp.swapaxes(x, 0, 1) for x in parts)


def _flash_rows(flash: Flash, packed: bool, query: Array, tokens: Array, rows: TokenRows):
    """What rows contribute by flash attention. Only packed rows, which are merged, need their
    log-sum-exp.
    """
    key, value = (jnp.swapaxes(x, 0, 1) for x in keys_and_values(tokens, rows))  # [R, H, T, K]
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
    return out / jnp.where(total > 0, total, 1)[..., None].astype(
        out.dtype
    )  # at least 1, or 0 without any token
