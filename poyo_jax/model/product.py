"""Matrix products whose gradients are fast on CPUs too."""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def product(
    x: Float[Array, "*batch m k"], y: Float[Array, "*batch k n"], dtype: jnp.dtype
) -> Float[Array, "*batch m n"]:
    """x @ y in `dtype`, for factors of one type.

    The gradient of y is a product with a transposed matrix, at which XLA is up to twice as slow on CPUs. There the
    smaller factor is transposed beforehand; elsewhere XLA is left to do as it likes.
    """
    return cast(Array, _product(x, y, dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x, y, dtype):
    return jnp.matmul(x, y, preferred_element_type=dtype)


def _forward(x, y, dtype):
    return _product(x, y, dtype), (x, y)


def _backward(dtype, saved, gradient):
    x, y = saved
    gradient = gradient.astype(x.dtype)
    of_x = gradient @ y.mT
    if x.shape[-1] <= y.shape[-1]:
        return of_x, transpose(x) @ gradient
    return of_x, transpose(transpose(gradient) @ x)


_product.defvjp(_forward, _backward)


def transpose(x: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """x.mT as an array of its own on CPUs, so that a product with it is a plain one."""
    barrier = jax.lax.optimization_barrier  # or XLA merges the transposition with what makes x or uses it
    return jax.lax.platform_dependent(x, cpu=lambda x: barrier(barrier(x).mT), default=lambda x: x.mT)
