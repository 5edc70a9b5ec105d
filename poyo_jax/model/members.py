"""Members of an ensemble: models of one shape whose arrays are stacked along a new first axis.

A model without members, which is an ensemble of one, has no such axis.
"""

from collections.abc import Callable
from typing import Any

import jax


def over_members(
    function: Callable[..., Any], members: int, in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """`function` for all members in one vectorised program, or as it is for a single model.

    The axes are those of `jax.vmap`.
    """
    return function if members == 1 else jax.vmap(function, in_axes, out_axes)


def member_seeds(seed: int, members: int) -> list[int]:
    """Seeds of the members, in 32 bits: `seed` itself, and those that follow."""
    return [(seed + number) % 2**32 for number in range(members)]
