"""Coordinates in which rows move during a fit."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

SCATTER = 0.02  # standard deviation of random rows, as in fresh tables


def row_coordinates(
    trained: Float[np.ndarray, "rows dim"], kind: Literal["trained", "plain"]
) -> Float32[np.ndarray, "dim dim"]:
    """Unit steps of a row along each coordinate, one per row of a matrix (`FitConfig.coordinates`).

    "trained": one standard deviation of the trained rows along each of their principal axes.
    "plain": the components of the row.
    """
    if kind == "plain":
        return np.eye(trained.shape[1], dtype=np.float32)
    return scatter_of_rows(trained)


def scatter_of_rows(table: Float[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "dim dim"]:
    """One standard deviation of the trained rows along each principal axis, as rows of a matrix.

    With few rows, the covariance shrinks towards one that is equal in all directions.
    """
    centred = table[1:].astype(np.float64) - mean_row(table)
    count, dim = centred.shape
    covariance = centred.T @ centred / max(count - 1, 1)
    share = count / (count + dim)
    equal = np.trace(covariance) / dim
    diagonal = (1 - share) * equal + SCATTER**2
    values, vectors = np.linalg.eigh(share * covariance + diagonal * np.eye(dim))
    return (vectors * np.sqrt(values)).T.astype(np.float32)


def mean_row(table: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, " dim"]:
    """Mean of all rows but the padding; zero if there are none."""
    return table[1:].sum(axis=0) / max(len(table) - 1, 1)
