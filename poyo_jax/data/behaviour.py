"""Behavioural time series of a session, with time stamps or on a regular grid."""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.lazy_arrays import ChunkedArray
from poyo_jax.errors import SessionError

# A grid position this close to a whole sample is that sample, as in temporaldata >= 0.1.4.
SNAP = 1e-9
LARGEST = float(np.finfo(np.float32).max)  # of a target; models compute in float32


@dataclass(frozen=True, eq=False, repr=False)
class Behaviour:
    """Samples of one behavioural variable.

    `samples` is [count] or [count, channels] as stored. Either there are `timestamps` [count], or
    the samples lie `1 / sampling_rate` seconds apart from `grid_start` on. Such a grid may span
    gaps between the intervals of `domain`; its samples in the gaps are NaN.
    """

    key: str  #: "<series>.<column>"
    samples: np.ndarray | ChunkedArray  #: as stored
    domain: Intervals  #: where it was measured
    timestamps: np.ndarray | ChunkedArray | None = None  #: s of session time
    sampling_rate: float = math.nan  #: Hz
    grid_start: float = 0.0  #: s of session time
    unit: str = ""  #: of the samples, such as "cm/s"; empty if nobody wrote it down

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def num_channels(self) -> int:
        """Number of values per sample."""
        return 1 if self.samples.ndim == 1 else self.samples.shape[1]

    def times_at(self, indices: ArrayLike) -> Float64[np.ndarray, " samples"]:
        """Return session times, in seconds, of the samples at `indices` [samples]."""
        indices = np.asarray(indices, np.int64)
        if self.timestamps is None:
            return self.grid_start + indices / self.sampling_rate
        return np.array(self.timestamps[indices], np.float64)

    def range(self, start: float, stop: float) -> tuple[int, int]:
        """Return (i0, i1): samples i0 ... i1 - 1 are those with start <= time < stop."""
        if self.timestamps is None:
            return self._grid_index(start), self._grid_index(stop)
        first, last = count_before(self.timestamps, [start, stop]).tolist()
        return first, last

    def values(self, i0: int, i1: int) -> Float64[np.ndarray, "samples channels"]:
        """Return the samples i0 ... i1 - 1; NaN where nothing was measured.

        They are float64, since float32 would round a small change of a large value away. What
        float32 cannot hold at all counts as not measured.
        """
        values = np.array(self.samples[i0:i1], np.float64).reshape(-1, self.num_channels)
        beyond = np.abs(values) > LARGEST
        if beyond.any():
            values[beyond] = np.nan
        return values

    def max_samples(self, window_length: float) -> int:
        """Return the most samples of any window of this length; on a grid up to one too many."""
        if self.timestamps is None:
            return min(self.count, math.ceil(window_length * self.sampling_rate) + 1)
        times = np.array(self.timestamps, np.float64)
        stops = np.searchsorted(times, times + window_length, side="left")
        return int(np.max(stops - np.arange(len(times)), initial=0))

    def __repr__(self) -> str:
        rate = f"{self.sampling_rate:g} Hz" if self.timestamps is None else "irregular"
        return (
            f"Behaviour({self.key}: {self.count} samples, {self.num_channels} channels, {rate},"
            f" {self.domain})"
        )

    def _grid_index(self, time: float) -> int:
        """Return the index of the first sample at or after `time`, within 0 ... count."""
        position = (time - self.grid_start) * self.sampling_rate
        position = min(max(position, 0.0), float(self.count))
        nearest = round(position)
        return nearest if abs(position - nearest) <= SNAP else math.ceil(position)


def behaviour_from_node(key: str, series: Node, column: str, domain: Intervals) -> Behaviour:
    """Make the `Behaviour` of one column of a series.

    Raises SessionError when the column does not fit the series.
    """
    samples = series.lazy_column(column)
    if series.kind == "RegularTimeSeries":
        rate = float(series.attrs.get("sampling_rate", math.nan))
        if not rate > 0 or not len(domain):
            raise SessionError(
                f"series {key} has a sampling rate of {rate} Hz and {len(domain)} domain intervals;"
                " it needs a positive rate and a domain. Write it again with Session.save."
            )
        return Behaviour(
            key, samples, domain, sampling_rate=rate, grid_start=float(domain.starts[0])
        )
    timestamps = series.lazy_column("timestamps")
    if len(timestamps) != len(samples):
        raise SessionError(
            f"series {key} has {len(samples)} samples but {len(timestamps)} time stamps; it needs"
            " one of each. The file is damaged or was written wrongly."
        )
    return Behaviour(key, samples, domain, timestamps=timestamps)


def count_before(times: np.ndarray | ChunkedArray, marks: ArrayLike) -> np.ndarray:
    """Count for every mark the sorted `times` before it: the index of the first time not before it.

    An array mapped from a file may be unaligned; numpy would copy it whole for every search.
    """
    if isinstance(times, np.ndarray) and times.flags.aligned:
        return np.asarray(times.searchsorted(marks, side="left"))
    marks = np.asarray(marks)
    counts = [bisect_left(times, mark) for mark in marks.flat]
    return np.array(counts, np.int64).reshape(marks.shape)


def check_times(times: np.ndarray, name: str, *, strictly: bool = False) -> None:
    """Raise SessionError unless all times are finite and never decrease, or `strictly` increase."""
    finite = np.isfinite(times)
    if not finite.all():
        row = int(np.argmin(finite))
        raise SessionError(
            f"{name}[{row}] is {times[row]}, but every time must be finite; remove such entries."
        )
    wrong = np.diff(times) <= 0 if strictly else np.diff(times) < 0
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"{name}[{row}] is {times[row]} s and {name}[{row + 1}] is {times[row + 1]} s, but"
            f" times must {'increase' if strictly else 'be sorted'}; if every trial or file counts"
            " from its own zero, use Session.from_trials or add the start of each; else reorder"
            " them and what belongs to them (np.argsort)."
        )
