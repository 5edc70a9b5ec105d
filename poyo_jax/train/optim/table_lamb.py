"""The reference's LAMB at a cost that does not depend on how many rows the tables have."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32

from poyo_jax.train.optim.optax_rules import Schedule, sparse_lamb, trust_ratio_of_norms
from poyo_jax.train.optim.tables import Optimizer, Rows, by_rows, update_rows


class TableState(NamedTuple):
    """What `table_lamb` keeps of a table: moments as of the last update of each row, and the
    table's squared norm.

    The norm is a sum of two float32 numbers, so that adding small changes for ever loses nothing.
    """

    mu: Float[Array, "rows dim"]
    nu: Float[Array, "rows dim"]
    moved: Int32[Array, " rows"]  # number of the update that moved the row last; -1 if none did
    square: tuple[Float[Array, ""], Float[Array, ""]]


def table_lamb(
    learning_rate: Schedule,
    *,
    b1: Schedule,
    mesh: Mesh,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 1e-4,
    clamp: float = 10.0,
    clip_norm: float | None = None,
) -> Optimizer:
    """`sparse_lamb` at a cost that does not depend on the number of rows in the tables.

    Equal to it: rows without gradient do not move and lose their moments, which here means that
    moments count only if the update before wrote them; their weight decay counts in the norm of the
    step through the table's squared norm.
    """
    others = sparse_lamb(
        learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, clamp=clamp
    )

    def move_table(
        table: Array, state: TableState, gradient: Rows, count: Array
    ) -> tuple[Array, TableState]:
        rate, beta1 = (jnp.asarray(value(count), jnp.float32) for value in (learning_rate, b1))
        move = partial(_move, rate=rate, b1=beta1, b2=b2, eps=eps, decay=weight_decay, clamp=clamp)
        moments, shared = (state.mu, state.nu, state.moved), (count, state.square)
        table, (mu, nu, moved), (_, square) = update_rows(
            move, table, moments, shared, gradient, mesh
        )
        return table, TableState(mu, nu, moved, square)

    return by_rows(others, _init_table, move_table, clip_norm)


def _init_table(table: Float[Array, "rows dim"]) -> TableState:
    zeros = jnp.zeros_like(table, jnp.float32)
    square = jnp.sum(jnp.square(table.astype(jnp.float32)))
    return TableState(zeros, zeros, jnp.full(len(table), -1, jnp.int32), (square, jnp.zeros(())))


def _move(
    weights: Array,
    state: tuple[Array, Array, Array],
    shared: tuple[Array, tuple[Array, Array]],
    gradient: Array,
    used: Array,
    across: Callable[[Array], Array],
    *,
    rate: Array,
    b1: Array,
    b2: float,
    eps: float,
    decay: float,
    clamp: float,
) -> tuple[Array, tuple, tuple]:
    """Rows, their state, and the number of the update with the table's squared norm; see
    `update_rows`.
    """
    (mu, nu, last), (count, square) = state, shared
    kept = jnp.where(last == count - 1, 1.0, 0.0)[:, None]
    mu = b1 * mu * kept + (1 - b1) * gradient
    nu = b2 * nu * kept + (1 - b2) * gradient**2
    step = mu / (jnp.sqrt(nu) + eps) + decay * weights
    of_rows, steps = (across(jnp.sum(jnp.where(used[:, None], x, 0) ** 2)) for x in (weights, step))
    total = square[0] + square[1]
    step_norm = jnp.sqrt(steps + decay**2 * jnp.maximum(total - of_rows, 0))
    ratio = trust_ratio_of_norms(jnp.sqrt(jnp.maximum(total, 0)), step_norm, clamp)
    moved = weights - rate * ratio * step
    change = across(jnp.sum(jnp.where(used[:, None], (moved - weights) * (moved + weights), 0)))
    return moved, (mu, nu, jnp.full_like(last, count)), (count, _two_sum(*square, change))


def _two_sum(high: Array, low: Array, change: Array) -> tuple[Array, Array]:
    """high + low + change as a rounded sum and what rounding left."""
    change = change + low
    total = high + change
    part = total - high
    return total, (high - (total - part)) + (change - part)
