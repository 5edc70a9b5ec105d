"""The results of `check` as one HTML page with pictures of the sessions."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.check import GAP, SessionCheck
from data_prep.check_table import rows, summary
from poyo_jax import Session, plots
from poyo_jax.data.behaviour import count_before
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import PoyoError
from poyo_jax.plots import Axes, plt
from poyo_jax.report.sections import Section, write_sections

COLUMNS = ("session", "verdict", "units", "minutes", "median Hz/unit", "splits, %")
MOST_PICTURES = 50
SHOWN = 10.0  # seconds of spikes and behaviour
MOST_TICKS = 20_000  # spikes that can be told apart in the picture
NUM_BINS = 1000  # of time, about as many as the picture has columns
FAMILIES = {  # parts of the names of intervals, in the order of their rows, and colours
    "train_domain": plots.COLORS[0],
    "valid_domain": plots.COLORS[4],
    "test_domain": plots.COLORS[1],
    "movement_phases": plots.COLORS[2],
    "outlier": plots.COLORS[3],
    "no_movement": plots.COLORS[3],
    "nlb_eval_intervals": plots.COLORS[5],
}


def write_report(checks: Sequence[SessionCheck], path: str | Path) -> Path:
    """Write a page on the sessions of a folder and return its path.

    Raises DataError when the page cannot be written.
    """
    shown = sorted(checks, key=lambda check: (not check.errors, not check.warnings))[:MOST_PICTURES]
    text = (
        f"{summary(checks)} Median Hz/unit is the median over units of their rates; splits are"
        " train, valid and test in % of the time."
    )
    if len(shown) < len(checks):
        text += (
            f"\n\nBelow are {len(shown)} of the {len(checks)} sessions, those with findings first."
        )
    table = [{column: row[column] for column in COLUMNS} for row in rows(checks)]
    folders = [check.path.absolute().parent for check in checks if check.path]
    numbers = [check.numbers for check in checks]
    return write_sections(
        path,
        "Check of sessions",
        [Section(heading="Sessions", text=text, rows=table), *map(_section, shown)],
        subtitle=os.path.commonpath(folders) if folders else "",
        highlights={
            "with errors": str(sum(bool(check.errors) for check in checks)),
            "with warnings": str(sum(bool(check.warnings) for check in checks)),
            "hours": f"{sum(number.get('minutes', 0) for number in numbers) / 60:,.1f}",
            "units": f"{sum(number.get('units', 0) for number in numbers):,}",
        },
    )


def _section(check: SessionCheck) -> Section:
    findings = [f"Error: {text}" for text in check.errors] + [
        f"Warning: {text}" for text in check.warnings
    ]
    text = "\n\n".join(
        [f"File {check.name}.", *(findings or ["No findings."]), *_described(check.numbers)]
    )
    heading, figure, caption = Path(check.name).stem, None, ""
    if check.path and check.numbers.get("minutes"):
        try:
            figure, caption = session_figure(Session.open(check.path), check.numbers.get("key"))
        except (PoyoError, ValueError) as error:  # a broken session need not be drawable
            text += f"\n\nIt cannot be drawn: {error}"
    return Section(heading=heading, text=text, figure=figure, caption=caption)


def _described(numbers: dict[str, Any]) -> Iterator[str]:
    """Describe the decoded behaviour in numbers, for which the table has no room."""
    if "high" in numbers:
        yield (
            f"{numbers['spikes']:,} spikes. {numbers['key']} has {numbers['sampling_rate']:.6g}"
            f" samples per second; {numbers['missing']:.1%} are missing in the splits. There its"
            f" magnitude is {numbers['median']:.3g} in the median and {numbers['high']:.3g} at the"
            f" 99th percentile, or {numbers['scaled']:.3g} once scaled."
        )


# --- figure


def session_figure(session: Session, key: str | None) -> tuple[Any, str]:
    """Draw a typical stretch of a session above a timeline of its intervals; return a caption too.

    The stretch shows spikes and the behaviour `key`.
    """
    start, stop = typical_stretch(session, key)
    names = interval_rows(session)
    num_units = len(session.unit_ids)
    heights = [min(0.5 + 0.02 * num_units, 2.6), 1.1 if key else 0.0, 0.3 + 0.19 * len(names)]
    figure = plt.figure(figsize=(plots.WIDTH + 1.2, sum(heights) + 1.2), layout="constrained")
    plt.close(figure)  # removes it from pyplot's list; it can still be drawn
    grid = figure.add_gridspec(
        3 if key else 2, 1, height_ratios=[height for height in heights if height]
    )
    spikes = figure.add_subplot(grid[0])
    plots.raster(session, start, stop, ax=spikes)
    spikes.set_title("", loc="left")
    if key:
        spikes.set(xlabel="", xticklabels=[])
        _draw_behaviour(session, key, start, stop, figure.add_subplot(grid[1]))
    _draw_timeline(session, names, (start, stop), figure.add_subplot(grid[-1]))
    caption = (
        f"Spikes of {num_units} units{f' and {key}' if key else ''} from {start:,.1f} to"
        f" {stop:,.1f} s. "
    )
    caption += (
        "Below, the intervals of the whole session; the mark shows where the stretch above lies."
    )
    return figure, caption


def typical_stretch(session: Session, key: str | None) -> tuple[float, float]:
    """Find a stretch of at most SHOWN seconds that is full of behaviour.

    It has the median number of spikes among such stretches.
    """
    first, last = float(session.domain.starts[0]), float(session.domain.ends[-1])
    edges = np.arange(first, max(last - SHOWN, first) + SHOWN / 2, SHOWN)
    filled = np.ones(len(edges))
    if key:
        ranges = [session.behaviour(key).range(edge, edge + SHOWN) for edge in edges]
        filled = np.array([end - begin for begin, end in ranges])
    full = edges[filled >= 0.8 * filled.max()]
    counts = count_before(session.spike_times, full + SHOWN) - count_before(
        session.spike_times, full
    )
    middle = np.argsort(counts, kind="stable")[(len(full) - 1) // 2]
    start, num_spikes = float(full[middle]), int(counts[middle])
    length = min(SHOWN, last - start) * min(1.0, MOST_TICKS / max(num_spikes, 1))
    return start, start + length


def interval_rows(session: Session) -> list[str]:
    """Names of the intervals to draw, in order, without those that are empty."""
    known = [name for name in session.interval_names if not name.endswith(".domain")]
    chosen = [name for part in FAMILIES for name in known if part in name]
    return [name for name in ("domain", *chosen) if len(session.intervals(name))]


def _draw_behaviour(session: Session, key: str, start: float, stop: float, ax: Axes) -> None:
    behaviour = session.behaviour(key)
    first, end = behaviour.range(start, stop)
    times, values = behaviour.times_at(np.arange(first, end)), behaviour.values(first, end)
    _style(ax)
    ax.axhline(0, color=plots.FAINT, linewidth=0.8, zorder=0)
    if len(times) > 1:
        gaps = np.flatnonzero(np.diff(times) > GAP * np.median(np.diff(times))) + 1
        times, values = np.insert(times, gaps, np.nan), np.insert(values, gaps, np.nan, axis=0)
    for channel, color in zip(range(behaviour.num_channels), plots.COLORS, strict=False):
        ax.plot(
            times,
            values[:, channel],
            color=color,
            linewidth=1.1,
            label="xyz"[channel : channel + 1] or None,
        )
    if (finite := values[np.isfinite(values)]).size:  # outliers may leave the picture
        low, high = np.percentile(finite, [0.5, 99.5])
        ax.set_ylim(low - 0.2 * (high - low) - 1e-9, high + 0.2 * (high - low) + 1e-9)
    ax.set(xlim=(start, stop), xlabel="time (s)", ylabel=key)
    if behaviour.num_channels in (2, 3):
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=3,
            frameon=False,
            borderaxespad=0.1,
            handlelength=1,
        )


def _draw_timeline(
    session: Session, names: Sequence[str], shown: tuple[float, float], ax: Axes
) -> None:
    """Draw a row of bars for each name; at the right stand the total time and the number.

    A bar is paler where the intervals fill less of the time.
    """
    _style(ax)
    first, last = session.domain.starts[0], session.domain.ends[-1]
    unit, name_of_unit = (60, "min") if last - first > 300 else (1, "s")
    for row, name in enumerate(names):
        found = session.intervals(name)
        color = next((color for part, color in FAMILIES.items() if part in name), plots.GREY)
        share = coverage(found, np.linspace(first, last, NUM_BINS + 1))
        bar = np.empty((1, NUM_BINS, 4))  # red, green, blue, opacity
        bar[..., :3] = np.frombuffer(bytes.fromhex(color[1:]), np.uint8) / 255
        bar[..., 3] = np.where(share > 0, 0.25 + 0.75 * share, 0.0)
        ax.imshow(
            bar,
            extent=(first / unit, last / unit, row + 0.36, row - 0.36),
            aspect="auto",
            interpolation="none",
        )
        text = f"{found.duration / unit:.1f} {name_of_unit}" + (
            f" in {len(found)}" if len(found) > 1 else ""
        )
        ax.annotate(
            text,
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=plots.GREY,
        )
    ax.axvspan(
        shown[0] / unit, shown[1] / unit, color=plots.INK, alpha=0.13, linewidth=0, zorder=-1
    )
    ax.plot(np.mean(shown) / unit, -0.75, marker="v", markersize=5, color=plots.INK, clip_on=False)
    ax.set(
        xlim=(first / unit, last / unit),
        ylim=(len(names) - 0.4, -0.6),
        xlabel=f"time ({name_of_unit})",
    )
    ax.set(yticks=range(len(names)), yticklabels=[_label(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def coverage(intervals: Intervals, edges: np.ndarray) -> np.ndarray:
    """The share of every bin between `edges` that the intervals fill."""
    bounds = np.stack([intervals.starts, intervals.ends], axis=1).ravel()
    filled = np.stack(
        [np.zeros(len(intervals)), intervals.ends - intervals.starts], axis=1
    ).cumsum()
    return np.minimum(np.diff(np.interp(edges, bounds, filled)) / np.diff(edges), 1.0)


def _label(name: str) -> str:
    """Shorten a name: "movement_phases.reach_period" becomes "reach"."""
    words = name.removeprefix("movement_phases.").removesuffix("_domain").removesuffix("_period")
    return words.removesuffix("_segments").removesuffix("_intervals").replace("_", " ")


def _style(ax: Axes) -> None:
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)
    for name in ("bottom", "left"):
        ax.spines[name].set_color(plots.FAINT)
    ax.tick_params(color=plots.FAINT, labelcolor=plots.GREY)
