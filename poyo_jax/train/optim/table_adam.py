"""Adam that moves the rows of a batch only, beside any optimiser for the backbone."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32

from poyo_jax.train.optim.optax_rules import Schedule
from poyo_jax.train.optim.tables import Optimizer, Rows, by_rows, update_rows


class TableState(NamedTuple):
    """What `table_adam` keeps of a table. Every row has its own time, which runs when it has a
    gradient.
    """

    mu: Float[Array, "rows dim"]
    nu: Float[Array, "rows dim"]
    updates: Int32[Array, " rows"]  # of the row so far


def table_adam(
    backbone: optax.GradientTransformation,
    learning_rate: Schedule,
    *,
    mesh: Mesh,
    b1: float,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip_norm: float | None = None,
) -> Optimizer:
    """`backbone` for what is not a table, and Adam without decay for the rows of tables that have a
    gradient.

    Rows without one stay where they are and keep their moments: each row moves as Adam alone would
    move it. The cost does not depend on the number of rows.
    """

    def init_table(table: Float[Array, "rows dim"]) -> TableState:
        zeros = jnp.zeros_like(table, jnp.float32)
        return TableState(zeros, zeros, jnp.zeros(len(table), jnp.int32))

    def move_table(
        table: Array, state: TableState, gradient: Rows, count: Array
    ) -> tuple[Array, TableState]:
        move = partial(
            _move, rate=jnp.asarray(learning_rate(count), jnp.float32), b1=b1, b2=b2, eps=eps
        )
        table, state, _ = update_rows(move, table, state, (), gradient, mesh)
        return table, state

    return by_rows(backbone, init_table, move_table, clip_norm)


def _move(
    weights: Array,
    state: TableState,
    shared: tuple,
    gradient: Array,
    used: Array,
    across: object,
    *,
    rate: Array,
    b1: float,
    b2: float,
    eps: float,
) -> tuple[Array, TableState, tuple]:
    """One step of Adam; see `update_rows`."""
    time = state.updates + 1
    mu, nu = b1 * state.mu + (1 - b1) * gradient, b2 * state.nu + (1 - b2) * gradient**2
    mean, square = (moment / (1 - beta ** time[:, None]) for moment, beta in ((mu, b1), (nu, b2)))
    return weights - rate * mean / (jnp.sqrt(square) + eps), TableState(mu, nu, time), shared
