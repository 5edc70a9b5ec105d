"""AdamW for the backbone, and Adam for the rows of tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, PyTree

from poyo_jax.config import OptimConfig
from poyo_jax.model.params import LOW_RANK, is_stacked, path_names
from poyo_jax.train.optim.rows import Moved, RowRule, TableState, zeros_like
from poyo_jax.train.optim.schedules import Schedule, value_at, warmup_cosine

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamRows(NamedTuple):
    """State of the rows of a table in `adam_rows`."""

    mu: Float[Array, "rows dim"]
    nu: Float[Array, "rows dim"]
    updates: Int32[Array, " rows"]  # how often the row has moved


@dataclass(frozen=True)
class AdamW:
    """AdamW for the backbone, Adam for the rows of tables; the rate warms up, then falls to 0."""

    config: OptimConfig

    def schedules(self, total_steps: int) -> tuple[Schedule, Schedule]:
        config = self.config
        peak = config.learning_rate
        rate = warmup_cosine(peak, total_steps, config.warmup_steps, config.hold)
        return rate, optax.constant_schedule(BETA1)

    def backbone(self, learning_rate: Schedule, beta1: Schedule) -> optax.GradientTransformation:
        return adamw(learning_rate, self.config.weight_decay)

    def rows(self, learning_rate: Schedule, beta1: Schedule) -> RowRule:
        return adam_rows(learning_rate)


def adamw(learning_rate: float | Schedule, weight_decay: float) -> optax.GradientTransformation:
    """AdamW. Only matrices decay: biases, norms and embeddings do not."""
    return optax.adamw(learning_rate, b1=BETA1, weight_decay=weight_decay, mask=matrices)


def adam_rows(learning_rate: float | Schedule) -> RowRule:
    """Adam without decay for the rows of tables.

    A row without gradient stays where it is and keeps its moments. Each row has its own time, which
    counts its updates: every row moves as Adam alone would move it.
    """

    def init(table: Float[Array, "rows dim"]) -> TableState:
        updates = jnp.zeros(len(table), jnp.int32)
        rows = AdamRows(zeros_like(table), zeros_like(table), updates)
        return TableState(rows, ())

    def move(
        weights: Array,
        gradient: Array,
        state: TableState,
        count: Array,
        total: Callable[[Array], Array],
    ) -> Moved:
        updates = state.rows.updates + 1
        mu = BETA1 * state.rows.mu + (1 - BETA1) * gradient
        nu = BETA2 * state.rows.nu + (1 - BETA2) * gradient**2
        mean = mu / (1 - BETA1 ** updates[:, None])
        square = nu / (1 - BETA2 ** updates[:, None])
        step = mean / (jnp.sqrt(square) + EPSILON)
        moved = weights - value_at(learning_rate, count) * step
        return moved, TableState(AdamRows(mu, nu, updates), ())

    return RowRule(init, move)


def matrices(params: optax.Params) -> PyTree[bool]:
    """True for matrices: two axes besides that of the layers, no embedding, no low-rank factor."""

    def is_matrix(path: tuple, parameter: Array) -> bool:
        names = path_names(path)
        other = any(name.endswith("embedding") or name == LOW_RANK for name in names)
        return parameter.ndim - is_stacked(names) >= 2 and not other

    return jax.tree_util.tree_map_with_path(is_matrix, params)
