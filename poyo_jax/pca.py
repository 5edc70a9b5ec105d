"""Rows of an embedding seen in the plane of their two main components."""

import numpy as np
from jaxtyping import Float, Float64


class Plane:
    """The plane of the first two principal components of `rows` [rows, dim].

    `shares` are those of the variance that each of the two has.
    """

    def __init__(self, rows: Float[np.ndarray, "rows dim"]):
        rows = np.asarray(rows, np.float64)
        self._mean = rows.mean(axis=0)
        variances, axes = np.linalg.eigh((rows - self._mean).T @ (rows - self._mean))  # ascending
        self._axes = axes[:, ::-1][:, :2]
        self.shares: list[float] = (
            variances[::-1][:2].clip(0) / max(variances.sum(), 1e-12)
        ).tolist()

    def __call__(self, rows: Float[np.ndarray, "*rows dim"]) -> Float64[np.ndarray, "*rows 2"]:
        """The coordinates of rows, the same or others."""
        return (np.asarray(rows, np.float64) - self._mean) @ self._axes
