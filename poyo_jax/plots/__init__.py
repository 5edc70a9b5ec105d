"""Figures of predictions, scores, training and embeddings.

Every function draws into `ax`, or into a new figure when `ax` is None, and returns the Axes.

No function shows or saves a figure: notebooks show it, and `ax.figure.savefig(path)` saves it.
"""

from poyo_jax.plots.axes import COLORS, FAINT, GREY, INK, WIDTH, Axes, plt
from poyo_jax.plots.errors import Claims, confusion, reliability
from poyo_jax.plots.learning import training_curve, unit_embedding
from poyo_jax.plots.scores import r2_by_session, r2_by_size
from poyo_jax.plots.time import Prediction, decoding, raster

__all__ = [
    "COLORS",
    "FAINT",
    "GREY",
    "INK",
    "WIDTH",
    "Axes",
    "Claims",
    "Prediction",
    "confusion",
    "decoding",
    "plt",
    "r2_by_session",
    "r2_by_size",
    "raster",
    "reliability",
    "training_curve",
    "unit_embedding",
]
