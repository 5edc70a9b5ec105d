"""How what learns moves: Muon and Adam, with rates for all parameters, and rows in coordinates of
the trained rows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from poyo_jax.train.optim.optax_rules import muon, warmup_cosine
from poyo_jax.train.optim.tables import Optimizer, dense

WARMUP = 10  # steps
BETA2 = 0.99  # runs are short
CLIP_NORM = 1.0


class Prior(NamedTuple):
    """What is known of the rows of a table before any label: they scatter around where they
    start.
    """

    origin: Array  #: where they start, [rows, dim]
    scatter: Array  #: one standard deviation along each of `dim` directions, [dim, dim]
    weight: float  #: of the squared distance in standard deviations, beside the loss


def adapting_optimizer(
    rates: dict, priors: Mapping[str, Prior], num_steps: int, weight_decay: float
) -> Optimizer:
    """`muon`, whose updates are multiplied by `rates`, a tree of numbers shaped like the
    parameters.

    Tables move in the coordinates of their prior: their gradients are taken, and their steps made,
    along the directions of its scatter, and they are pulled to its origin.
    """
    inner = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        muon(1.0, weight_decay, b2=BETA2),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates)),
        optax.scale_by_schedule(
            cast(Any, warmup_cosine(1.0, num_steps, min(WARMUP, num_steps // 10)))
        ),
    )
    inverse = {name: jnp.linalg.inv(prior.scatter) for name, prior in priors.items()}

    def along(name: str, gradient: Array, rows: Array) -> Array:
        prior = priors[name]
        return gradient @ prior.scatter.T + 2 * prior.weight * (rows - prior.origin) @ inverse[name]

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        turned = updates | {name: along(name, updates[name], params[name]) for name in priors}
        steps, state = inner.update(turned, state, params)
        back = {name: cast(dict, steps)[name] @ prior.scatter for name, prior in priors.items()}
        return cast(dict, steps) | back, state

    return dense(optax.GradientTransformation(inner.init, update))
