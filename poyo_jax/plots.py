"""Figures of predictions, scores, training and embeddings.

Every function draws into `ax`, or into a new figure when `ax` is None, and returns the Axes.

No function shows or saves a figure: notebooks show it, and `ax.figure.savefig(path)` saves it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np

from poyo_jax.checks import check_number, integer, number
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, MissingDependencyError
from poyo_jax.pages import short_names
from poyo_jax.pca import Plane
from poyo_jax.tasks import R2, Metric
from poyo_jax.tasks.classes import count_pairs
from poyo_jax.words import counted

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
except ImportError as error:
    raise MissingDependencyError(
        f"figures need matplotlib, which cannot be imported ({error}); run: pip install"
        " poyo_jax[plots]"
    ) from error

# Okabe and Ito's palette, which colour-blind readers can tell apart; the measured behaviour is
# always INK.
INK, GREY, FAINT = "#1f2430", "#6b7280", "#c9ced6"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BAND = NormalDist().inv_cdf(0.9)  # standard deviations on either side that hold 80 %
MOST_WRITTEN = 12  # classes whose shares are written
WIDTH = 5.6  # inches; narrow, so that the words can be read on a phone


@runtime_checkable
class Prediction(Protocol):
    """Values and targets that `decoding` draws, at `times` in seconds of session time."""

    @property
    def times(self) -> Any:
        """Times in s, [samples]."""

    @property
    def values(self) -> Any:
        """Decoded, [samples, channels]."""

    @property
    def targets(self) -> Any:
        """Measured, [samples, channels], in the same units."""


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


def raster(session: Session, start: float, stop: float, ax: Axes | None = None) -> Axes:
    """Draw the spikes of [start, stop), in seconds of session time, one line of ticks per unit."""
    session = one_session(session)
    _check_stretch(start, stop)
    num_units = len(session.unit_ids)
    ax = _prepare(ax, height=min(0.7 + 0.045 * num_units, 6.0))
    times, units = session.spikes_between(start, stop)
    ax.vlines(times, units - 0.4, units + 0.4, color=INK, linewidth=0.7, rasterized=True)
    ax.set(
        xlim=(start, stop),
        ylim=(-1, num_units),
        yticks=[0, num_units - 1] if num_units > 1 else [0],
    )
    names = short_names(session.unit_ids)
    ax.set_yticklabels([names[tick] for tick in ax.get_yticks().astype(int)])
    ax.set(xlabel="time (s)", ylabel="unit")
    _title(ax, f"{session.id}, {counted(num_units, 'unit')}")
    return ax


def decoding(
    prediction: Prediction,
    start: float,
    stop: float,
    channel: int = 0,
    ax: Axes | None = None,
    *,
    quantity: str = "behaviour",
) -> Axes:
    """Draw one channel of decoded and measured behaviour in [start, stop), s of session time.

    `quantity` names the axis, with its unit: "velocity (cm/s)". Lines are interrupted where samples
    are missing. A learned standard deviation is a band, which claims to hold 80 % of the samples.
    Classes are steps, by their names.

    Raises:
        ConfigError: no such channel.
        DataError: no sample in [start, stop).
    """
    times, targets, values = (
        np.asarray(a) for a in (prediction.times, prediction.targets, prediction.values)
    )
    num_channels = targets.shape[1]
    _check_stretch(start, stop)
    check_number("channel", channel, integer(0, num_channels - 1))
    shown = (times >= start) & (times < stop)
    if not shown.any():
        raise DataError(
            f"no decoded sample lies in [{start:g}, {stop:g}) s; the prediction reaches from"
            f" {times.min():g} to {times.max():g} s, possibly with gaps. Choose a stretch"
            " inside it."
            if len(times)
            else "the prediction holds no samples, so there is nothing to draw."
        )
    ax = _prepare(ax, height=2.4)
    classes, std = getattr(prediction, "classes", ()), getattr(prediction, "std", None)
    style = "steps-post" if classes else "default"
    if classes:
        ax.set_yticks(range(len(classes)), classes)
    else:
        ax.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    for samples, color, width in ((targets, INK, 1.3), (values, COLORS[0], 1.6)):
        line = _with_gaps(times[shown], samples[shown, channel])
        ax.plot(*line, color=color, linewidth=width, drawstyle=style)
    if std is not None:
        half = BAND * np.asarray(std)[shown, channel]
        middle = values[shown, channel]
        at, low = _with_gaps(times[shown], middle - half)
        _, high = _with_gaps(times[shown], middle + half)
        ax.fill_between(at, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
    axis = (
        f"{'xyz'[channel]} {quantity}"
        if num_channels in (2, 3)
        else f"{quantity}, channel {channel}"
    )
    ax.set(xlim=(start, stop), xlabel="time (s)", ylabel=axis if num_channels > 1 else quantity)
    band = [] if std is None else [("80 % interval", COLORS[5])]
    _key(ax, [("measured", INK), ("decoded", COLORS[0]), *band])
    return ax


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
    ax = _prepare(ax, height=min(1.4 + 0.32 * len(classes), 5.6))
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
    _title(ax, f"accuracy {np.trace(counts) / counts.sum():.3f}, {int(counts.sum()):,} samples")
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
    ax = _prepare(ax, height=3.6)
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=0)
    ax.plot(calibration.claimed, calibration.observed, color=COLORS[0], linewidth=1.4)
    sizes = 12 + 120 * np.asarray(calibration.weights)
    ax.scatter(calibration.claimed, calibration.observed, s=sizes, color=COLORS[0], zorder=2)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="share claimed", ylabel="share observed")
    ax.set_aspect("equal")
    _title(ax, f"expected calibration error {calibration.error:.3f}")
    return ax


def r2_by_session(
    table: Mapping[str, Mapping[str, float]], ax: Axes | None = None, *, metric: Metric = R2
) -> Axes:
    """Draw the score of every method on every session, given as {session: {method: score}}.

    A method may lack sessions. Scores are R2, or those of another `metric`.

    Raises:
        DataError: the table is empty.
    """
    if not table:
        raise DataError(
            f"the table of {metric.text} has no session; give at least one, as {{session: {{method:"
            f" {metric.text}}}}}."
        )
    ax = _prepare(ax, height=0.9 + 0.26 * len(table))
    methods = list(dict.fromkeys(method for scores in table.values() for method in scores))
    places = np.arange(len(table))
    for place, scores in zip(places, table.values(), strict=True):
        ax.plot(
            [min(scores.values()), max(scores.values())],
            [place, place],
            color=FAINT,
            linewidth=2,
            zorder=1,
        )
    for i, method in enumerate(methods):
        points = [
            (scores[method], place)
            for place, scores in zip(places, table.values(), strict=True)
            if method in scores
        ]
        ax.scatter(
            *zip(*points, strict=True),
            s=42,
            color=COLORS[i % len(COLORS)],
            edgecolor="white",
            zorder=2,
        )
    ax.set(
        yticks=places,
        yticklabels=list(table),
        ylim=(len(table) - 0.4, -0.6),
        xlabel=f"{metric.label} on the test split",
    )
    ax.set_xlim(_limits(metric, ax.get_xlim()))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=FAINT, linewidth=0.5)
    ax.spines["left"].set_visible(False)
    _key(ax, [(method, COLORS[i % len(COLORS)]) for i, method in enumerate(methods)])
    return ax


def r2_by_size(
    table: Mapping[str, Mapping[float, Sequence[float]]],
    ax: Axes | None = None,
    *,
    size: str,
    score: str = "R² on the test split",
    fits: Mapping[str, Callable[[np.ndarray], np.ndarray] | None] | None = None,
) -> Axes:
    """Draw scores against size, given as {curve: {size: score of every seed}}.

    `fits` are curves to draw through the points: functions from sizes to scores (such as R2),
    [sizes] -> [sizes].

    `size` and `score` name the axes; that of sizes is logarithmic.

    Raises:
        DataError: the table is empty.
    """
    if not table:
        raise DataError(
            "the table of scores has no curve; give at least one, as {curve: {size: [score of every"
            " seed]}}."
        )
    ax = _prepare(ax, height=3.2)
    ax.set(xscale="log", xlabel=size, ylabel=score)
    ticks = sorted({tick for scores in table.values() for tick in scores})
    ax.set_xticks(ticks, [f"{tick:,.12g}" for tick in ticks])
    ax.minorticks_off()
    for i, (name, scores) in enumerate(table.items()):
        color, sizes = COLORS[i % len(COLORS)], np.array(sorted(scores))
        points = np.array([(x, value) for x in sizes for value in scores[x]])
        ax.scatter(*points.T, s=24, color=color, edgecolor="white", zorder=2)
        if (fit := (fits or {}).get(name)) is not None:
            sizes = np.geomspace(sizes[0], sizes[-1], 100)
            ax.plot(sizes, fit(sizes), color=color, linewidth=1.4, zorder=1)
        else:
            ax.plot(
                sizes,
                [np.mean(scores[some]) for some in sizes],
                color=color,
                linewidth=0.8,
                linestyle=":",
            )
    _key(ax, [(name, COLORS[i % len(COLORS)]) for i, name in enumerate(table)])
    return ax


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
    ax = _prepare(ax, height=2.6)
    ax.plot(*loss.T, color=COLORS[0], linewidth=1.4, marker="o" if len(loss) == 1 else None)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    if not len(valid):
        return ax
    right = ax.twinx()
    right.plot(*valid.T, color=COLORS[1], linewidth=1.4, marker="o", markersize=4)
    right.set(ylabel=f"{metric.label} on the valid split")
    right.set(ylim=_limits(metric, valid[:, 1]))
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
    ax = _prepare(ax, height=4.6)
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
    _title(ax, f"{counted(paths.shape[1], 'unit')}, {span}")
    return ax


def _check_stretch(start: float, stop: float) -> None:
    check_number("start", start, number())
    check_number("stop", stop, number(above=start))


def _limits(metric: Metric, scores: Iterable[float]) -> tuple[float, float]:
    """Limits of an axis that shows 0, all scores and a perfect one."""
    if metric.higher_is_better:
        return min(0.0, *scores), metric.perfect
    return metric.perfect, max(0.0, *scores)


def _series(history: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """Pairs (step, value) [rows, 2] of the rows that have a value."""
    return np.array(
        [(row["step"], row[key]) for row in history if row.get(key) is not None], np.float64
    ).reshape(-1, 2)


def _with_gaps(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Insert NaN where a time step exceeds three median steps, so that the line breaks there."""
    steps = np.diff(times)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1 if len(steps) else np.empty(0, int)
    return np.insert(times, gaps, np.nan), np.insert(values.astype(np.float64), gaps, np.nan)


def _prepare(ax: Axes | None, height: float) -> Axes:
    """Return `ax`, or Axes in a new figure of `height` inches, without frame."""
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)
    for name in ("bottom", "left"):
        ax.spines[name].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=GREY)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    return ax


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize="medium", color=INK)


def _key(ax: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Write names above the axes, each in the colour of what it names."""
    offset = 0.0
    for name, color in entries:
        text = ax.annotate(
            name,
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(offset, 6),
            textcoords="offset points",
            color=color,
            fontweight="bold",
        )
        offset += text.get_window_extent().width * 72 / ax.figure.dpi + 14
