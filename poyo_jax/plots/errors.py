"""How often a decoder is right, and how often it says so: `confusion`, `reliability`."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from poyo_jax.errors import DataError
from poyo_jax.plots.axes import COLORS, FAINT, INK, Axes, prepare, title
from poyo_jax.tasks.classes import count_pairs

MOST_WRITTEN = 12  # classes whose shares are written


@runtime_checkable
class Claims(Protocol):
    """What a model claims about its errors, as `poyo_jax.Evaluation.calibration` has it."""

    @property
    def claimed(self) -> Any:
        """Shares that are claimed, [points]."""

    @property
    def observed(self) -> Any:
        """Shares that are observed, [points]."""

    @property
    def weights(self) -> Any:
        """Share of the samples that a point stands for, [points]."""

    @property
    def error(self) -> float:
        """Expected calibration error."""
        ...


def confusion(predictions: Any, ax: Axes | None = None, *, quantity: str = "class") -> Axes:
    """Draw how often each class is decoded as each: shares of the samples of a measured class.

    `predictions` are one or several of an output of classes (`poyo_jax.types.Prediction`); their
    scored samples count.

    Raises:
        DataError: no prediction, none of classes, different classes, or no scored sample.
    """
    several = list(predictions) if isinstance(predictions, Sequence) else [predictions]
    names = {tuple(getattr(each, "classes", ())) for each in several}
    if len(names) != 1 or () in names:
        raise DataError(
            f"a confusion matrix needs predictions of one output of classes, but got {len(several)}"
            f" with the classes {sorted(names)}; choose an output whose kind is 'classes'."
        )
    (classes,) = names
    counts = np.zeros((len(classes), len(classes)))
    for each in several:
        targets, values = each.targets[each.scored], each.values[each.scored]
        counts += count_pairs(targets, values, len(classes))
    if not counts.any():
        raise DataError("the predictions have no scored sample, so there is nothing to draw.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, np.nan)
    ax = prepare(ax, height=min(1.4 + 0.32 * len(classes), 5.6))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            text = "" if np.isnan(share) else f"{share:.2f}"
            color = "white" if share > 0.5 else INK
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize="small")
    places = range(len(classes))
    ax.set_xticks(places, classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    ax.set_yticks(places, classes)
    ax.set(xlabel=f"decoded {quantity}", ylabel=f"measured {quantity}")
    title(ax, f"accuracy {np.trace(counts) / counts.sum():.3f}, {int(counts.sum()):,} samples")
    return ax


def reliability(calibration: Claims, ax: Axes | None = None) -> Axes:
    """Draw the shares that a model claims and those that are observed; on the line they are equal.

    For a learned standard deviation these are shares of samples inside an interval, for classes
    probabilities of the likeliest class and how often it is right.

    Raises:
        DataError: nothing was scored, or the output claims nothing.
    """
    if calibration is None or not len(calibration.claimed):
        raise DataError(
            "the output claims nothing about its errors, or no sample was scored; train it with"
            " spread=True (poyo_jax.with_outputs), or choose an output of classes."
        )
    ax = prepare(ax, height=3.6)
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=0)
    ax.plot(calibration.claimed, calibration.observed, color=COLORS[0], linewidth=1.4)
    sizes = 12 + 120 * np.asarray(calibration.weights)
    ax.scatter(calibration.claimed, calibration.observed, s=sizes, color=COLORS[0], zorder=2)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="share claimed", ylabel="share observed")
    ax.set_aspect("equal")
    title(ax, f"expected calibration error {calibration.error:.3f}")
    return ax
