"""LAMB as POYO was trained with; equal to `SparseLamb` of torch_brain (examples/poyo/optim.py).

It differs from `optax.lamb`: moments are not bias-corrected, the parameter norm in the trust ratio
is at most `clamp`, and every parameter decays. Moments and arithmetic are float32.

`lamb` moves the backbone, and `lamb_rows` the rows of tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, PyTree

from poyo_jax.config import OptimConfig
from poyo_jax.model.params import is_stacked, path_names
from poyo_jax.train.optim.rows import Moved, RowRule, TableState, zeros_like
from poyo_jax.train.optim.schedules import Schedule, one_cycle, one_cycle_beta1, value_at


@dataclass(frozen=True)
class LambSettings:
    """Settings of LAMB."""

    learning_rate: float | Schedule
    b1: float | Schedule = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 1e-4
    clamp: float = 10.0

    def mean(self, mu: Array, gradient: Array, count: Int32[Array, ""]) -> Array:
        """Running mean of the gradient, after one more gradient."""
        b1 = value_at(self.b1, count)
        return b1 * mu + (1 - b1) * gradient.astype(jnp.float32)

    def mean_square(self, nu: Array, gradient: Array) -> Array:
        """Running mean of the squared gradient, after one more gradient."""
        square = gradient.astype(jnp.float32) ** 2
        return self.b2 * nu + (1 - self.b2) * square

    def step(self, mu: Array, nu: Array, weights: Array) -> Array:
        """Direction of the step, before its trust ratio and learning rate."""
        direction = mu / (jnp.sqrt(nu) + self.eps)
        return direction + self.weight_decay * weights


@dataclass(frozen=True)
class SparseLamb:
    """LAMB with the schedules of the paper: a constant rate, then half a cosine."""

    config: OptimConfig

    def schedules(self, total_steps: int) -> tuple[Schedule, Schedule]:
        share = self.config.pct_start
        rate = one_cycle(self.config.learning_rate, total_steps, share)
        return rate, one_cycle_beta1(total_steps, share)

    def backbone(self, learning_rate: Schedule, beta1: Schedule) -> optax.GradientTransformation:
        return lamb(self._settings(learning_rate, beta1))

    def rows(self, learning_rate: Schedule, beta1: Schedule) -> RowRule:
        return lamb_rows(self._settings(learning_rate, beta1))

    def _settings(self, learning_rate: Schedule, beta1: Schedule) -> LambSettings:
        return LambSettings(learning_rate, beta1, weight_decay=self.config.weight_decay)


class LambState(NamedTuple):
    """State of `lamb`."""

    count: Int32[Array, ""]  # updates made so far
    mu: PyTree[Float[Array, "..."]]  # running means of gradients, shaped like the parameters
    nu: PyTree[Float[Array, "..."]]  # running means of squared gradients


class LambRows(NamedTuple):
    """State of the rows of a table in `lamb_rows`."""

    mu: Float[Array, "rows dim"]  # moments as of the row's last update
    nu: Float[Array, "rows dim"]
    moved: Int32[Array, " rows"]  # number of the row's last update; -1 before the first one


def lamb(settings: LambSettings) -> optax.GradientTransformation:
    """LAMB for the backbone.

    Norms are over whole tensors, or over each layer where axis 0 numbers layers (`is_stacked`).
    """

    def init(params: optax.Params) -> LambState:
        count = jnp.zeros((), jnp.int32)
        return LambState(count, mu=zeros_like(params), nu=zeros_like(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, Any]:
        if params is None:
            raise ValueError("lamb needs the parameters: call update(gradients, state, params).")
        rate = value_at(settings.learning_rate, state.count)

        def change(path: tuple, parameter: Array, mu: Array, nu: Array) -> Array:
            weights = parameter.astype(jnp.float32)
            step = settings.step(mu, nu, weights)
            first_axis = int(is_stacked(path_names(path)))
            axes = tuple(range(first_axis, step.ndim))
            weights_norm = _norm(weights, axes)
            step_norm = _norm(step, axes)
            ratio = trust_ratio(weights_norm, step_norm, settings.clamp)
            return (-rate * ratio * step).astype(parameter.dtype)

        mean = partial(settings.mean, count=state.count)
        mu = jax.tree.map(mean, state.mu, updates)
        nu = jax.tree.map(settings.mean_square, state.nu, updates)
        changes = jax.tree_util.tree_map_with_path(change, params, mu, nu)
        return changes, LambState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def lamb_rows(settings: LambSettings) -> RowRule:
    """LAMB for the rows of tables.

    Rows without gradient do not move and lose their moments: moments count only if the update
    before wrote them. The weight decay of these rows still counts in the norm of the table's step.
    It enters through the squared norm of the whole table, which is the state that rows share.
    """

    def init(table: Float[Array, "rows dim"]) -> TableState:
        moved = jnp.full(len(table), -1, jnp.int32)
        rows = LambRows(zeros_like(table), zeros_like(table), moved)
        square = jnp.sum(jnp.square(table.astype(jnp.float32)))
        return TableState(rows, (square, jnp.zeros(())))

    def move(
        weights: Array,
        gradient: Array,
        state: TableState,
        count: Array,
        total: Callable[[Array], Array],
    ) -> Moved:
        last = state.rows
        recent = jnp.where(last.moved == count - 1, 1.0, 0.0)
        recent = recent[:, None]
        mu = settings.mean(last.mu * recent, gradient, count)
        nu = settings.mean_square(last.nu * recent, gradient)
        step = settings.step(mu, nu, weights)

        high, low = state.shared
        square = high + low
        other_rows = jnp.maximum(square - total(weights**2), 0)
        decay_of_others = settings.weight_decay**2 * other_rows
        step_norm = jnp.sqrt(total(step**2) + decay_of_others)
        weights_norm = jnp.sqrt(jnp.maximum(square, 0))
        ratio = trust_ratio(weights_norm, step_norm, settings.clamp)
        moved = weights - value_at(settings.learning_rate, count) * ratio * step

        grown = total((moved - weights) * (moved + weights))
        rows = LambRows(mu, nu, jnp.full_like(last.moved, count))
        return moved, TableState(rows, _two_sum(high, low, grown))

    return RowRule(init, move)


def trust_ratio(
    weights_norm: Float[Array, "..."],
    step_norm: Float[Array, "..."],
    clamp: float,
) -> Float[Array, "..."]:
    """min(|weights|, clamp) / |step|, or 1 where either norm is zero."""
    defined = (weights_norm > 0) & (step_norm > 0)
    clamped = jnp.minimum(weights_norm, clamp)
    ratio = clamped / jnp.where(defined, step_norm, 1)
    return jnp.where(defined, ratio, 1)


def _norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Norm over the axes, which remain with length 1."""
    square = jnp.sum(x**2, axis=axes, keepdims=True)
    return jnp.sqrt(square)


def _two_sum(high: Array, low: Array, change: Array) -> tuple[Array, Array]:
    """high + low + change as a rounded sum and the rounding error.

    With both, small changes can be added for ever without loss.
    """
    change = change + low
    total = high + change
    added = total - high
    error = (high - (total - added)) + (change - added)
    return total, error
