"""Norms of all parameters, and the number of directions over which every matrix spreads.

Runs of POYO can fail without an error when weights shrink while they train, or when matrices keep
few directions.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from poyo_jax.model.params import is_stacked, path_names


def parameter_norms(params: dict[str, Any]) -> dict[str, float]:
    """Norm of every array of parameters, by its path."""
    return _by_path(_norms(params))


def effective_ranks(params: dict[str, Any], members: int = 1) -> dict[str, float]:
    """Effective rank of every matrix, by its path; of stacked layers and members, the least one."""
    return _by_path(_ranks(params, members))


@jax.jit
def _norms(params: dict[str, Any]) -> dict[str, Any]:
    def norm(x: Array) -> Array:
        return jnp.linalg.norm(x.astype(jnp.float32))

    return jax.tree.map(norm, params)


@partial(jax.jit, static_argnums=1)
def _ranks(params: dict[str, Any], members: int) -> dict[str, Any]:
    def rank(path: tuple, x: Array) -> Array | None:
        num_axes = x.ndim - is_stacked(path_names(path)) - (members > 1)
        return effective_rank(x).min() if num_axes == 2 else None

    return jax.tree_util.tree_map_with_path(rank, params)


def effective_rank(matrix: Float[Array, "... rows columns"]) -> Float[Array, "..."]:
    """Participation ratio (sum of s^2)^2 / (sum of s^4) of the singular values s.

    It is between 1 and the rank, and 0 for a matrix of zeros.
    """
    matrix = matrix.astype(jnp.float32)
    rows, columns = matrix.shape[-2:]
    if columns > rows:
        matrix = matrix.mT
    gram = matrix.mT @ matrix
    trace = jnp.trace(gram, axis1=-2, axis2=-1)  # sum of s^2
    square = jnp.square(gram).sum((-2, -1))  # sum of s^4
    positive = square > 0
    ratio = trace**2 / jnp.where(positive, square, 1)
    return jnp.where(positive, ratio, 0)


def _by_path(tree: Any) -> dict[str, float]:
    values = {}
    for path, x in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        values[name] = float(np.asarray(x))
    return values
