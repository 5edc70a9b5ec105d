"""What happens during training and fits: `training_curve`, `unit_embedding`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from poyo_jax.errors import DataError
from poyo_jax.pca import Plane
from poyo_jax.plots.axes import COLORS, FAINT, GREY, Axes, limits, prepare, title
from poyo_jax.tasks import R2, Metric
from poyo_jax.words import counted


def training_curve(
    history: Sequence[Mapping[str, float]], ax: Axes | None = None, *, metric: Metric = R2
) -> Axes:
    """Draw the loss over the steps of a run, and the validation score on a second axis.

    Rows have `step` and either or both of `loss` and the score, `valid_r2` for R2.

    Raises:
        DataError: no row has a loss.
    """
    loss, valid = (_series(history, key) for key in ("loss", metric.key("valid")))
    if not len(loss):
        raise DataError(
            f"none of the {len(history)} rows of the history has a step and a loss; log at least"
            " one."
        )
    ax = prepare(ax, height=2.6)
    ax.plot(*loss.T, color=COLORS[0], linewidth=1.4, marker="o" if len(loss) == 1 else None)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    if not len(valid):
        return ax
    right = ax.twinx()
    right.plot(*valid.T, color=COLORS[1], linewidth=1.4, marker="o", markersize=4)
    right.set(ylabel=f"{metric.label} on the valid split")
    right.set(ylim=limits(metric, valid[:, 1]))
    for name in ("top", "left", "bottom"):
        right.spines[name].set_visible(False)
    for side, color in ((ax, COLORS[0]), (right, COLORS[1])):  # each axis in the colour of its line
        side.yaxis.label.set_color(color)
        side.tick_params(axis="y", colors=color)
    right.spines["right"].set_color(FAINT)
    return ax


def unit_embedding(
    snapshots: Mapping[int, np.ndarray], ax: Axes | None = None, *, colors: Any = COLORS[0]
) -> Axes:
    """Draw the paths of unit rows during a fit, given as {step: rows [units, dim]}.

    The plane is that of the first two principal components of all snapshots together. `colors` is
    anything matplotlib takes as colours: one for all units, or one each.

    Raises:
        DataError: no snapshot, snapshots of different shapes, or fewer than two units or
        dimensions.
    """
    steps = sorted(snapshots)
    shapes = {np.shape(snapshots[step]) for step in steps}
    if len(shapes) != 1 or any(len(shape) != 2 or min(shape) < 2 for shape in shapes):
        raise DataError(
            f"snapshots have the shapes {sorted(shapes)}, but need one shape [units, dim] with at"
            " least two of each; pass the same rows of the unit table at every step."
        )
    rows = np.stack([snapshots[step] for step in steps])
    plane = Plane(rows.reshape(-1, rows.shape[-1]))
    paths, shares = plane(rows), plane.shares
    ax = prepare(ax, height=4.6)
    ax.add_collection(
        LineCollection(list(paths.swapaxes(0, 1)), colors=FAINT, linewidths=0.8, zorder=1)
    )
    if len(steps) > 1:
        ax.scatter(*paths[0].T, s=10, facecolor="white", edgecolor=GREY, linewidth=0.7, zorder=2)
    ax.scatter(*paths[-1].T, s=26, c=colors, edgecolor="white", linewidth=0.5, zorder=3)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    ax.set(xlabel=f"PC 1 ({shares[0]:.0%} of the variance)", ylabel=f"PC 2 ({shares[1]:.0%})")
    span = (
        f"open at step {steps[0]}, filled at step {steps[-1]}"
        if len(steps) > 1
        else f"step {steps[0]}"
    )
    title(ax, f"{counted(paths.shape[1], 'unit')}, {span}")
    return ax


def _series(history: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """Pairs (step, value) [rows, 2] of the rows that have a value."""
    return np.array(
        [(row["step"], row[key]) for row in history if row.get(key) is not None], np.float64
    ).reshape(-1, 2)
