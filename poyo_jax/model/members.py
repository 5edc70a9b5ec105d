"""Members of an ensemble: models of one shape whose arrays are stacked along a new first axis.

A model without members, which is an ensemble of one, has no such axis.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32


def over_members(
    function: Callable[..., Any], members: int, in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """`function` for all members in one vectorised program, or as it is for a single model.

    The axes are those of `jax.vmap`.
    """
    return function if members == 1 else jax.vmap(function, in_axes, out_axes)


def member_seeds(seed: ArrayLike, members: int) -> UInt32[Array, "..."]:
    """Seeds of the members [members], in 32 bits: `seed` and those that follow.

    A single model has the seed itself, without an axis.
    """
    first = jnp.asarray(seed, jnp.uint32)
    return first if members == 1 else first + jnp.arange(members, dtype=jnp.uint32)
