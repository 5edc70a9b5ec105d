"""How what learns moves: Muon and Adam, with rates for all parameters, and rows in coordinates of the trained rows."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from poyo_jax.train.optim import muon, warmup_cosine
from poyo_jax.train.tables import Optimizer, dense

WARMUP = 10  # steps
BETA2 = 0.99  # runs are short
CLIP_NORM = 1.0


def adapting_optimizer(rates: dict, coordinates: Mapping[str, Array], num_steps: int, weight_decay: float) -> Optimizer:
    """`muon`, whose updates are multiplied by `rates`, a tree of numbers shaped like the parameters.

    Tables move in `coordinates`: their gradients are taken, and their steps made, along the rows of that matrix.
    """
    inner = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        muon(1.0, weight_decay, b2=BETA2),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates)),
        optax.scale_by_schedule(cast(Any, warmup_cosine(1.0, num_steps, min(WARMUP, num_steps // 10)))),
    )
    turned = {name: matrix.T for name, matrix in coordinates.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(_times(turned, updates), state, params)
        return _times(coordinates, cast(dict, updates)), state

    return dense(optax.GradientTransformation(inner.init, update))


def _times(matrices: Mapping[str, Array], parts: dict) -> dict:
    return {name: part @ matrices[name] if name in matrices else part for name, part in parts.items()}
