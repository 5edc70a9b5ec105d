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
from jaxtyping import Array, Bool, Float, UInt32

from poyo_jax.model.attention.online_softmax import MASKED, scaled
from poyo_jax.model.dropout import dropout


def attend_plainly(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    rate: float,
    seeds: UInt32[Array, " batch"] | None,
    mask: Bool[Array, "#batch #heads #queries #keys"] | None = None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Compute scaled dot-product attention with softmax in float32.

    Dropout applies to the softmax weights unless `seeds` is None.
    """
    attended = _attend(scaled(query), key, value, rate, seeds, mask)
    return cast(Array, attended)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(query, key, value, rate, seeds, mask):
    out, _ = _forward(query, key, value, rate, seeds, mask)
    return out


def _forward(query, key, value, rate, seeds, mask):
    scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)  # [B, H, Q, M]
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    largest = scores.max(axis=-1, keepdims=True)
    if mask is not None:
        largest = jnp.maximum(largest, MASKED / 2)
    weights = jnp.exp(scores - largest)  # 0 where masked
    total = weights.sum(axis=-1, keepdims=True)
    if mask is not None:
        total = jnp.where(total > 0, total, 1)  # of a query that attends to no key
    kept = dropout(weights, rate, seeds).astype(value.dtype)
    out = kept @ value / total.astype(value.dtype)
    return out, (query, key, value, seeds, weights, total, out)


def _backward(rate, saved, dout):
    query, key, value, seeds, weights, total, out = saved
    dout = dout / total.astype(dout.dtype)
    dkept = jnp.matmul(dout, value.mT, preferred_element_type=jnp.float32)
    products = dout * out
    dtotal = products.sum(axis=-1, keepdims=True, dtype=jnp.float32)
    dscores = weights * (dropout(dkept, rate, seeds) - dtotal)
    dscores = dscores.astype(query.dtype)
    kept = dropout(weights, rate, seeds).astype(dout.dtype)
    dq = dscores @ key
    dk = transpose(transpose(query) @ dscores)  # [B, H, M, K]
    dv = transpose(transpose(dout) @ kept)
    return dq, dk, dv, None, None


_attend.defvjp(_forward, _backward)


def transpose(x: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """x.mT as an array of its own on CPUs, so that a product with it is a plain one."""
    barrier = jax.lax.optimization_barrier  # keeps XLA from merging it with what makes or uses x

    def stored(x: Array) -> Array:
        return barrier(barrier(x).mT)

    def view(x: Array) -> Array:
        return x.mT

    return jax.lax.platform_dependent(x, cpu=stored, default=view)
