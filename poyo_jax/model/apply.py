"""Loss and predictions of a batch as pure functions of (backbone, rows of the tables, batch, seed).

A few windows at a time pass the model after the encoder's attention (model/microbatch.py).
"""

from collections.abc import Callable
from typing import Any, cast

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt32

from poyo_jax.model.dropout import fold
from poyo_jax.model.microbatch import cut, map_over, microbatch_size, sum_over
from poyo_jax.model.params import SESSIONS, UNITS, Path
from poyo_jax.model.poyo import POYO, Backbone
from poyo_jax.tasks.choose import query_losses
from poyo_jax.types import Batch

Params = dict
Leaves = dict[Path, Any]
Learns = Callable[[Path], bool]  # whether the parameter of the backbone at a path has a gradient


def used_rows(batch: Batch) -> dict[str, Array]:
    """The rows of each table that a batch uses."""
    return {UNITS: batch.unit_rows, SESSIONS: batch.session_rows}


def loss_sum(
    model: POYO,
    backbone: Params,
    vectors: Params,
    batch: Batch,
    seed: UInt32[Array, ""] | None,
    microbatch_windows: int | None,
    *,
    learns: Learns,
    scales: Float[Array, " outputs"] | None = None,
) -> Float[Array, ""]:
    """Sum weight * loss over all queries, differentiable in `backbone` and `vectors`.

    `vectors` are the rows of the tables at `used_rows(batch)`, by name of the table. Divide the sum
    by that of `batch.target_weights` over all devices to get the loss. `learns` tells which
    parameters of the backbone have a gradient; that of the others is neither computed nor defined.
    `seed` decides dropout; None switches it off. With `scales`, the loss of every query is
    multiplied by that of its output: the gradient there is the part of the output in the sum.
    """
    seeds = None if seed is None else fold(seed, batch.window_ids)
    module = Backbone(model.config, model.compute)
    learning, frozen = _split(backbone, learns)
    variables = _variables(learning, frozen)
    units = vectors[UNITS]
    attended = module.apply(variables, units, batch, seeds, method="attend")

    def weighted_loss(shared, windows, frozen, constants):
        learning, scales = shared
        attended, session_vectors = windows
        queries, targets, weights, seeds = constants
        variables = _variables(learning, frozen)
        inputs = (attended, session_vectors, *queries, seeds)
        outputs = cast(Array, module.apply(variables, *inputs, method="predict"))
        _, numbers = queries
        losses = query_losses(model.config, outputs, targets, numbers)
        weighted = weights * losses
        return weighted.sum() if scales is None else (weighted * scales[numbers]).sum()

    windows = (attended, vectors[SESSIONS])
    queries = (batch.query_times, batch.query_outputs)
    constants = (queries, batch.targets, batch.target_weights, seeds)
    size = microbatch_size(len(batch.session_rows), microbatch_windows)
    windows = cut(windows, size)
    constants = cut(constants, size)
    return sum_over(weighted_loss, (learning, scales), windows, frozen, constants)


def predict(
    model: POYO,
    backbone: Params,
    vectors: Params,
    batch: Batch,
    microbatch_windows: int | None,
) -> Float[Array, "windows queries outputs"]:
    """Compute the outputs of the tasks, without dropout.

    `vectors` are the rows of the tables at `used_rows(batch)`.
    """
    module = Backbone(model.config, model.compute)
    variables = {"params": backbone}
    units = vectors[UNITS]
    attended = module.apply(variables, units, batch, None, method="attend")

    def predictions(windows):
        return module.apply(variables, *windows, None, method="predict")

    windows = (attended, vectors[SESSIONS], batch.query_times, batch.query_outputs)
    size = microbatch_size(len(batch.session_rows), microbatch_windows)
    return map_over(predictions, cut(windows, size))


def _split(backbone: Params, learns: Learns) -> tuple[Leaves, Leaves]:
    """The parameters with a gradient and the others, by path."""
    learning: Leaves = {}
    frozen: Leaves = {}
    for path, leaf in flatten_dict(backbone).items():
        if learns(path):
            learning[path] = leaf
        else:
            frozen[path] = jax.lax.stop_gradient(leaf)
    return learning, frozen


def _variables(learning: Leaves, frozen: Leaves) -> Params:
    return {"params": unflatten_dict(learning | frozen)}
