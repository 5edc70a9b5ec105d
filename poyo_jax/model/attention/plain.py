"""Attention with all scores in memory, and a gradient that is fast on CPUs.

Weights are divided by their sum only after they have weighted the values, and dropout is drawn
again backwards: of all that is as large as the scores, only the exponentials are kept. Products
with transposed weights, at which XLA is slow on CPUs, are made by transposing the smaller factor
and the result.
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from poyo_jax.model.dropout import dropout


def attend_plainly(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    rate: float,
    seeds: UInt32[Array, " batch"] | None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Scaled dot-product attention; softmax in float32, with dropout of its weights unless `seeds`
    is None.
    """
    return cast(Array, _attend(query * query.shape[-1] ** -0.5, key, value, rate, seeds))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(query: Array, key: Array, value: Array, rate: float, seeds: Array | None) -> Array:
    return _forward(query, key, value, rate, seeds)[0]


def _forward(query, key, value, rate, seeds):
    scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)  # [B, H, Q, M]
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1, keepdims=True)
    out = dropout(weights, rate, seeds).astype(value.dtype) @ value / total.astype(value.dtype)
    return out, (query, key, value, seeds, weights, total, out)


def _backward(rate, saved, gradient):
    query, key, value, seeds, weights, total, out = saved
    gradient = gradient / total.astype(gradient.dtype)
    of_dropped = jnp.matmul(gradient, value.mT, preferred_element_type=jnp.float32)
    of_sum = (gradient * out).sum(axis=-1, keepdims=True, dtype=jnp.float32)
    of_scores = (weights * (dropout(of_dropped, rate, seeds) - of_sum)).astype(query.dtype)
    dropped = dropout(weights, rate, seeds).astype(gradient.dtype)
    of_key = transpose(transpose(query) @ of_scores)  # [B, H, M, K]
    of_value = transpose(transpose(gradient) @ dropped)
    return of_scores @ key, of_key, of_value, None


_attend.defvjp(_forward, _backward)


def transpose(x: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """x.mT as an array of its own on CPUs, so that a product with it is a plain one."""
    barrier = (
        jax.lax.optimization_barrier
    )  # or XLA merges the transposition with what makes x or uses it
    return jax.lax.platform_dependent(
        x, cpu=lambda x: barrier(barrier(x).mT), default=lambda x: x.mT
    )
