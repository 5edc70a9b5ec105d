"""Scores of methods, sessions and sizes: `r2_by_session`, `r2_by_size`."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from poyo_jax.errors import DataError
from poyo_jax.plots.axes import COLORS, FAINT, Axes, key, limits, prepare
from poyo_jax.tasks import R2, Metric


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
    ax = prepare(ax, height=0.9 + 0.26 * len(table))
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
    ax.set_xlim(limits(metric, ax.get_xlim()))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=FAINT, linewidth=0.5)
    ax.spines["left"].set_visible(False)
    key(ax, [(method, COLORS[i % len(COLORS)]) for i, method in enumerate(methods)])
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
    ax = prepare(ax, height=3.2)
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
    key(ax, [(name, COLORS[i % len(COLORS)]) for i, name in enumerate(table)])
    return ax
