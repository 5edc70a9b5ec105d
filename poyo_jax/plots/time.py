"""Spikes and behaviour over time: `raster`, `decoding`."""

from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np

from poyo_jax.checks import check_number, integer, number
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.pages import short_names
from poyo_jax.plots.axes import COLORS, FAINT, INK, Axes, key, prepare, title
from poyo_jax.words import counted

BAND = NormalDist().inv_cdf(0.9)  # standard deviations on either side that hold 80 %


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


def raster(session: Session, start: float, stop: float, ax: Axes | None = None) -> Axes:
    """Draw the spikes of [start, stop), in seconds of session time, one line of ticks per unit."""
    session = one_session(session)
    _check_stretch(start, stop)
    num_units = len(session.unit_ids)
    ax = prepare(ax, height=min(0.7 + 0.045 * num_units, 6.0))
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
    title(ax, f"{session.id}, {counted(num_units, 'unit')}")
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
    ax = prepare(ax, height=2.4)
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
    key(ax, [("measured", INK), ("decoded", COLORS[0]), *band])
    return ax


def _check_stretch(start: float, stop: float) -> None:
    check_number("start", start, number())
    check_number("stop", stop, number(above=start))


def _with_gaps(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Insert NaN where a time step exceeds three median steps, so that the line breaks there."""
    steps = np.diff(times)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1 if len(steps) else np.empty(0, int)
    return np.insert(times, gaps, np.nan), np.insert(values.astype(np.float64), gaps, np.nan)
