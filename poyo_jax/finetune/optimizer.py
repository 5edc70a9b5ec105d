"""How what learns moves: Adam, with a rate for every parameter, and rows in coordinates of the trained rows."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from poyo_jax.train.optim import warmup_cosine
from poyo_jax.train.tables import Optimizer, dense

WARMUP = 10  # steps
BETA2 = 0.99  # runs are short
CLIP_NORM = 1.0


def adapting_optimizer(rates: dict, coordinates: Mapping[str, Array], num_steps: int, weight_decay: float) -> Optimizer:
    """Adam whose updates are multiplied by `rates`, a tree of numbers shaped like the parameters.

    Tables move in `coordinates`: their gradients are taken, and their steps made, along the rows of that matrix. Only
    the backbone's matrices decay.
    """
    inner = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        optax.scale_by_adam(b2=BETA2),
        optax.add_decayed_weights(weight_decay, mask=_decays),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates)),
        optax.scale_by_learning_rate(warmup_cosine(1.0, num_steps, min(WARMUP, num_steps // 10))),
    )
    turned = {name: matrix.T for name, matrix in coordinates.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(_times(turned, updates), state, params)
        return _times(coordinates, cast(dict, updates)), state

    return dense(optax.GradientTransformation(inner.init, update))


def _times(matrices: Mapping[str, Array], parts: dict) -> dict:
    return {name: part @ matrices[name] if name in matrices else part for name, part in parts.items()}


def _decays(params: Any) -> Any:
    """True for the backbone's matrices."""

    def decays(path: tuple, _: Any) -> bool:
        names = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        return (names[0], names[-1]) == ("backbone", "kernel")

    return jax.tree_util.tree_map_with_path(decays, params)
