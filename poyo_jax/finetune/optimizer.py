"""The optimiser of a fit: Muon and Adam, with a rate for each parameter and priors of the rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from poyo_jax.distributed.lookup import Rows
from poyo_jax.train.optim.muon import muon
from poyo_jax.train.optim.rows import Optimizer
from poyo_jax.train.optim.schedules import warmup_cosine

WARMUP = 10  # steps
BETA2 = 0.99  # runs are short
CLIP_NORM = 1.0


class Prior(NamedTuple):
    """Distribution of the rows of a table before any label: they scatter around an origin."""

    origin: Array  #: where the rows start, [rows, dim]
    scatter: Array  #: one standard deviation along each of `dim` directions, [dim, dim]
    weight: float  #: of the squared distance in standard deviations, beside the loss


def adapting_optimizer(
    rates: dict, priors: Mapping[str, Prior], num_steps: int, weight_decay: float
) -> Optimizer:
    """Make `muon` with updates times `rates`, a tree of numbers shaped like the parameters.

    Tables move in the coordinates of their prior: their gradients are taken, and their steps made,
    along the directions of its scatter, and they are pulled to its origin. So every row of a table
    moves in each step, and tables have gradients shaped like them.
    """
    steps_of_warmup = min(WARMUP, num_steps // 10)
    inner = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        muon(1.0, weight_decay, b2=BETA2),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates)),
        optax.scale_by_schedule(cast(Any, warmup_cosine(1.0, num_steps, steps_of_warmup))),
    )
    inverse = {name: jnp.linalg.inv(prior.scatter) for name, prior in priors.items()}

    def table_gradient(name: str, gradient: Rows, table: Array) -> Array:
        """Gradient of loss and prior in the coordinates of the prior."""
        prior = priors[name]
        of_loss = jnp.zeros_like(table).at[gradient.rows].add(gradient.values, mode="drop")
        pull = 2 * prior.weight * (table - prior.origin) @ inverse[name]
        return of_loss @ prior.scatter.T + pull

    def update(gradient: dict, state: Any, params: dict) -> tuple[dict, Any]:
        tables = {name: table_gradient(name, gradient[name], params[name]) for name in priors}
        steps, state = inner.update(gradient | tables, state, params)
        steps = cast(dict, steps)
        table_steps = {name: steps[name] @ prior.scatter for name, prior in priors.items()}
        return cast(dict, optax.apply_updates(params, steps | table_steps)), state

    return Optimizer(inner.init, update)
