"""Micro-batches: run a function over a few windows at a time, so that activations stay small.

The attention of the encoder takes all windows at once: its tokens lie in packed rows, and it never
holds all scores (model/attention/chunked.py). Everything after it (`Backbone.predict`) runs over a
few windows at a time. Activations then stay in cache on CPUs, and peak memory does not grow with
the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def microbatch_size(num_windows: int, limit: int | None) -> int:
    """The largest divisor of the number of windows that does not exceed `limit`."""
    limit = num_windows if limit is None else min(limit, num_windows)
    size = limit
    while num_windows % size:
        size -= 1
    return size


def cut(tree: Any, size: int) -> Any:
    """Split the leading axis of every array into micro-batches of `size`."""

    def cut_array(x: Array) -> Array:
        return x.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(cut_array, tree)


def map_over(function: Callable, windows: Any) -> Array:
    """`function` of each micro-batch of `windows`, joined along the leading axis."""
    out = jax.lax.map(function, windows)
    return out.reshape(-1, *out.shape[2:])


def sum_over(
    function: Callable,
    shared: Any,
    windows: Any,
    shared_constants: Any,
    constants: Any,
) -> Float[Array, ""]:
    """Sum of `function(shared, windows, shared_constants, constants)` over micro-batches.

    `windows` and `constants` hold one entry for each micro-batch; the others are the same for all.
    The constants have no gradient.

    The gradient is computed during the forward pass, micro-batch by micro-batch: the loss is a sum,
    so its gradient depends on what follows only by a factor. Nothing has to be kept for a backward
    pass.
    """
    value_and_gradient = jax.value_and_grad(function, argnums=(0, 1))

    def run(shared, windows, shared_constants, constants):
        def add(_, microbatch):
            windows, constants = microbatch
            return None, function(shared, windows, shared_constants, constants)

        _, values = jax.lax.scan(add, None, (windows, constants))
        return values.sum()

    def forward(shared, windows, shared_constants, constants):
        def add(sums, microbatch):
            windows, constants = microbatch
            value, gradients = value_and_gradient(shared, windows, shared_constants, constants)
            dshared, dwindows = gradients
            sums = jax.tree.map(jnp.add, sums, (value, dshared))
            return sums, dwindows

        no_gradient = jax.tree.map(jnp.zeros_like, shared)
        nothing = (jnp.zeros(()), no_gradient)
        sums, dwindows = jax.lax.scan(add, nothing, (windows, constants))
        value, dshared = sums
        return value, (dshared, dwindows)

    def backward(gradients, factor):
        def times_factor(gradient):
            return (gradient * factor).astype(gradient.dtype)

        dshared, dwindows = jax.tree.map(times_factor, gradients)
        return dshared, dwindows, None, None

    total = jax.custom_vjp(run)
    total.defvjp(forward, backward)
    return total(shared, windows, shared_constants, constants)
