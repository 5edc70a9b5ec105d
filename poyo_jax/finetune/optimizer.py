"""The optimiser of a fit: Muon and Adam, with a rate for each parameter and priors of the rows.

Rates and priors are data: they are part of the state. So all fits of equal shapes share one
compiled step.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from poyo_jax.distributed.lookup import Rows
from poyo_jax.train.optim.muon import muon
from poyo_jax.train.optim.rows import Follow, Update
from poyo_jax.train.optim.schedules import Schedule, Schedules, warmup_cosine

WARMUP = 10  # steps
BETA2 = 0.99  # runs are short
CLIP_NORM = 1.0


class Prior(NamedTuple):
    """Distribution of the rows of a table before any label: they scatter around an origin."""

    origin: Array  #: where the rows start, [rows, dim]
    scatter: Array  #: one standard deviation along each of `dim` directions, [dim, dim]
    inverse: Array  #: of `scatter`
    weight: Array  #: of the squared distance in standard deviations, beside the loss; a number

    @classmethod
    def of(cls, origin: Array, scatter: Array, weight: float) -> "Prior":
        """The prior with these values."""
        return cls(origin, scatter, jnp.linalg.inv(scatter), jnp.float32(weight))


class AdaptingState(NamedTuple):
    """State of `adapting_update`. Steps do not change the rates and priors."""

    count: Array  # steps made so far
    moments: Any
    rates: dict  # shaped like the tree of parameters, a number for each
    priors: Mapping[str, Prior]


def adapting_state(
    params: dict, rates: dict, priors: Mapping[str, Prior], weight_decay: float
) -> AdaptingState:
    """The state before the first step. `rates` is a tree of numbers shaped like the parameters."""
    moments = _steps(weight_decay).init(params)
    rates = jax.tree.map(jnp.float32, rates)
    return AdaptingState(jnp.zeros((), jnp.int32), moments, rates, priors)


def adapting_schedules(num_steps: int) -> Schedules:
    """The shares of the rates in every step of a fit; beta1 is not used."""
    share = warmup_cosine(1.0, num_steps, min(WARMUP, num_steps // 10))
    return Schedules.of(share, share, num_steps)


@lru_cache(maxsize=8)
def adapting_update(weight_decay: float) -> Follow:
    """Make `muon` with steps times the rates in the state; equal decays give the same function.

    Tables move in the coordinates of their prior: their gradients are taken, and their steps made,
    along the directions of its scatter, and they are pulled to its origin. So every row of a table
    moves in each step, and tables have gradients shaped like them. The state is that of
    `adapting_state`.
    """
    inner = _steps(weight_decay)

    def follow(share: Schedule, _: Schedule) -> Update:
        def update(
            gradient: dict, state: AdaptingState, params: dict
        ) -> tuple[dict, AdaptingState]:
            tables = {}
            for name, prior in state.priors.items():
                tables[name] = _table_gradient(prior, gradient[name], params[name])
            steps, moments = inner.update(gradient | tables, state.moments, params)
            now = share(state.count)
            steps = jax.tree.map(lambda step, rate: step * (rate * now), steps, state.rates)
            for name, prior in state.priors.items():
                steps[name] = steps[name] @ prior.scatter
            moved = cast(dict, optax.apply_updates(params, steps))
            return moved, state._replace(count=state.count + 1, moments=moments)

        return update

    return follow


def _steps(weight_decay: float) -> optax.GradientTransformation:
    """Steps of a rate of 1."""
    return optax.chain(optax.clip_by_global_norm(CLIP_NORM), muon(1.0, weight_decay, b2=BETA2))


def _table_gradient(prior: Prior, gradient: Rows, table: Array) -> Array:
    """Gradient of loss and prior in the coordinates of the prior."""
    of_loss = jnp.zeros_like(table).at[gradient.rows].add(gradient.values, mode="drop")
    pull = 2 * prior.weight * (table - prior.origin) @ prior.inverse
    return of_loss @ prior.scatter.T + pull
