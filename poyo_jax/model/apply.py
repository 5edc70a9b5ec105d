"""Loss and predictions of a batch as pure functions of (backbone, rows of the tables, batch, seed).

The encoder takes the tokens of all windows, a few rows at a time (model/attention/chunked.py).
Processor and decoder run over a few windows at a time, so that activations stay in cache on CPUs
and peak memory does not grow with the batch.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt32

from poyo_jax.model.dropout import fold
from poyo_jax.model.poyo import POYO, half_split
from poyo_jax.tasks import choose_task
from poyo_jax.types import Batch

Params = dict
Learns = Callable[
    [tuple[str, ...]], bool
]  # whether the parameter of the backbone at a path has a gradient


def used_rows(batch: Batch) -> dict[str, Array]:
    """The rows of each table that a batch uses."""
    return {"unit_embedding": batch.unit_rows, "session_embedding": batch.session_rows}


def loss_sum(
    model: POYO,
    backbone: Params,
    vectors: Params,
    batch: Batch,
    seed: UInt32[Array, ""] | None,
    microbatch_windows: int | None,
    *,
    learns: Learns,
) -> Float[Array, ""]:
    """Sum over all queries of weight * loss of the task, differentiable in `backbone` and
    `vectors`.

    `vectors` are the rows of the tables at `used_rows(batch)`, by name of the table. Divide the sum
    by that of `batch.target_weights` over all devices to get the loss. `learns` tells which
    parameters of the backbone have a gradient; that of the others is neither computed nor defined.
    `seed` decides dropout; None switches it off.
    """
    seeds = None if seed is None else fold(seed, batch.window_ids)
    module = model.backbone(parent=None)
    flat = cast(dict[tuple[str, ...], Any], flatten_dict(half_split(backbone, model.config)))
    learning = {path: x for path, x in flat.items() if learns(path)}
    frozen = {path: jax.lax.stop_gradient(x) for path, x in flat.items() if not learns(path)}
    variables = {"params": unflatten_dict(learning | frozen)}
    task = choose_task(model.config)
    unit_vectors, session_vectors = vectors["unit_embedding"], vectors["session_embedding"]
    gathered = module.apply(variables, unit_vectors, batch, seeds, method="encode")

    def part(learning, fixed):
        variables = {"params": unflatten_dict(learning["backbone"] | fixed["backbone"])}
        times, targets, weights, seeds = fixed["windows"]
        predictions = module.apply(variables, *learning["windows"], times, seeds, method="decode")
        return (weights * task.loss(predictions, targets)).sum()

    windows = (batch.query_times, batch.targets, batch.target_weights, seeds)
    size = _microbatch(batch, microbatch_windows)
    shared, fixed = {"backbone": learning}, {"backbone": frozen}
    return _sum_with_gradient(part)(
        shared, _cut((gathered, session_vectors), size), (fixed, _cut(windows, size))
    )


def predict(
    model: POYO, backbone: Params, vectors: Params, batch: Batch, microbatch_windows: int | None
) -> Float[Array, "windows queries channels"]:
    """Predictions in normalised units, without dropout. `vectors` are the rows of the tables at
    `used_rows(batch)`.
    """
    module, variables = model.backbone(parent=None), {"params": half_split(backbone, model.config)}
    unit_vectors, session_vectors = vectors["unit_embedding"], vectors["session_embedding"]
    gathered = module.apply(variables, unit_vectors, batch, None, method="encode")
    parts = _cut(
        (gathered, session_vectors, batch.query_times), _microbatch(batch, microbatch_windows)
    )
    out = jax.lax.map(lambda part: module.apply(variables, *part, None, method="decode"), parts)
    return out.reshape(-1, *out.shape[2:])


def _microbatch(batch: Batch, limit: int | None) -> int:
    """The largest divisor of the number of windows that does not exceed `limit`."""
    count = batch.session_rows.shape[0]
    return max(size for size in range(1, min(limit or count, count) + 1) if count % size == 0)


def _cut(tree, size: int):
    """Split the leading axis of every array in parts of `size`."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _sum_with_gradient(part: Callable) -> Callable:
    """Sum of `part` over microbatches, whose gradient is computed during the forward pass,
    microbatch by microbatch.

    The loss is a sum, so its gradient does not depend on what follows but for a factor. Nothing of
    a microbatch has to be kept for a backward pass.
    """

    def run(shared, windows, fixed):
        fixed_shared, fixed_windows = fixed

        def body(_, item):
            windows, fixed_windows = item
            return None, part(
                shared | {"windows": windows}, fixed_shared | {"windows": fixed_windows}
            )

        return jax.lax.scan(body, None, (windows, fixed_windows))[1].sum()

    def forward(shared, windows, fixed):
        fixed_shared, fixed_windows = fixed

        def body(carry, item):
            windows, fixed_windows = item
            learning = shared | {"windows": windows}
            value, gradient = jax.value_and_grad(part)(
                learning, fixed_shared | {"windows": fixed_windows}
            )
            of_windows = gradient.pop("windows")
            return jax.tree.map(jnp.add, carry, (value, gradient)), of_windows

        start = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, shared))
        (value, of_shared), of_windows = jax.lax.scan(body, start, (windows, fixed_windows))
        return value, (of_shared, of_windows)

    def backward(gradients, factor):
        of_shared, of_windows = jax.tree.map(
            lambda gradient: (gradient * factor).astype(gradient.dtype), gradients
        )
        return of_shared, of_windows, None

    total = jax.custom_vjp(run)
    total.defvjp(forward, backward)
    return total
