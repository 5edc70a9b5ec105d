"""Behavioural time series of a session, with time stamps or on a regular grid."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

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
BLOCK = 1 << 13  # times that are checked together, as many as in a compressed chunk
MOST_MARKS = 1 << 10  # times compared before the first search


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
    session: str = ""  #: id of the session, for errors
    unit: str = ""  #: of the samples, such as "cm/s"; empty if nobody wrote it down
    classes: tuple[str, ...] = ()  #: names of the classes that the samples are numbers of

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def num_channels(self) -> int:
        """Number of values per sample."""
        return 1 if self.samples.ndim == 1 else self.samples.shape[1]

    def times_at(self, indices: ArrayLike) -> Float64[np.ndarray, " samples"]:
        """Return session times, in seconds, of the samples at increasing `indices` [samples].

        Raises SessionError when the time stamps there are not sorted and finite.
        """
        indices = np.asarray(indices, np.int64)
        if self.timestamps is None:
            return self.grid_start + indices / self.sampling_rate
        if len(indices):
            self._times.need(int(indices[0]), int(indices[-1]) + 1)
        return np.array(self.timestamps[indices], np.float64)

    @property
    def quantity(self) -> str:
        """Name with the unit, where that is known, such as "cursor.vel (cm/s)"."""
        return f"{self.key} ({self.unit})" if self.unit else self.key

    def range(self, start: float, stop: float) -> tuple[int, int]:
        """Return (i0, i1): samples i0 ... i1 - 1 are those with start <= time < stop.

        Raises SessionError when the time stamps there are not sorted and finite.
        """
        if self.timestamps is None:
            return self._grid_index(start), self._grid_index(stop)
        return self._times.between(start, stop)

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
        """Return the most samples of any window of this length; on a grid up to one too many.

        Raises SessionError when the time stamps are not sorted and finite.
        """
        if self.timestamps is None:
            return min(self.count, math.ceil(window_length * self.sampling_rate) + 1)
        self._times.need(0, self.count)
        times = np.array(self.timestamps, np.float64)
        stops = np.searchsorted(times, times + window_length, side="left")
        return int(np.max(stops - np.arange(len(times)), initial=0))

    def __repr__(self) -> str:
        rate = f"{self.sampling_rate:g} Hz" if self.timestamps is None else "irregular"
        return (
            f"Behaviour({self.key}: {self.count} samples, {self.num_channels} channels, {rate},"
            f" {self.domain})"
        )

    @cached_property
    def _times(self) -> "SortedTimes":
        assert self.timestamps is not None
        series = self.key.rsplit(".", 1)[0]
        place = f"{self.session}: " if self.session else ""
        return SortedTimes(self.timestamps, f"{place}{series}.timestamps")

    def _grid_index(self, time: float) -> int:
        """Return the index of the first sample at or after `time`, within 0 ... count."""
        position = (time - self.grid_start) * self.sampling_rate
        position = min(max(position, 0.0), float(self.count))
        nearest = round(position)
        return nearest if abs(position - nearest) <= SNAP else math.ceil(position)


class SortedTimes:
    """Searches in sorted times, which may lie in a file: each block is checked before it is used.

    Together with the first times of all blocks, which are compared before the first search, the
    checked blocks prove that a search gives the right rows; among more than `MOST_MARKS` blocks
    only so many are compared.
    """

    def __init__(self, times: np.ndarray | ChunkedArray, name: str):
        self.times, self.name = times, name
        self._count = len(times)
        self._checked: set[int] = set()

    def between(self, start: float, stop: float) -> tuple[int, int]:
        """Return (i0, i1): the times at i0 ... i1 - 1 are those with start <= time < stop.

        Raises SessionError when the times there or next to them are not sorted and finite.
        """
        first, end = count_before(self.times, [start, stop]).tolist()
        self.need(first - 1, end + 1)
        return first, end

    def need(self, first: int, end: int) -> None:
        """Raise SessionError unless the times at first ... end - 1 are sorted and finite."""
        low = first // BLOCK if first > 0 else 0
        high = (min(end, self._count) - 1) // BLOCK
        is_known = high - low < 2 and low in self._checked and high in self._checked
        if not is_known:  # a window mostly lies in one or two blocks
            self._check(range(low, high + 1))

    def _check(self, blocks: Iterable[int]) -> None:
        count = self._count
        if not self._checked and count:
            step = BLOCK * math.ceil(count / BLOCK / MOST_MARKS)
            marks = np.asarray(self.times[np.arange(0, count, step)])
            check_times(marks, self.name, step=step)
        for block in blocks:
            if block not in self._checked:
                first = block * BLOCK
                self._check_block(first, min(first + BLOCK, count))
                self._checked.add(block)

    def _check_block(self, first: int, end: int) -> None:
        check_times(np.asarray(self.times[first : end + 1]), self.name, first=first)


def behaviour_from_node(
    key: str, series: Node, column: str, domain: Intervals, session: str = ""
) -> Behaviour:
    """Make the `Behaviour` of one column of a series.

    Raises SessionError when the column does not fit the series, or has a wrong type or shape.
    """
    place = f"{session}: {key}" if session else key
    samples = series.lazy_column(column)
    check_numbers(samples, place, ndims=(1, 2))
    if series.kind == "RegularTimeSeries":
        rate = _sampling_rate(series, place)
        if not 0 < rate < math.inf or not len(domain):
            raise SessionError(
                f"series {key} has a sampling rate of {rate} Hz and {len(domain)} domain intervals;"
                " it needs a positive rate and a domain. Write it again with Session.save."
            )
        start = float(domain.starts[0])
        return Behaviour(
            key, samples, domain, sampling_rate=rate, grid_start=start, session=session
        )
    timestamps = series.lazy_column("timestamps")
    check_numbers(timestamps, f"{place.rsplit('.', 1)[0]}.timestamps")
    if len(timestamps) != len(samples):
        raise SessionError(
            f"series {key} has {len(samples)} samples but {len(timestamps)} time stamps; it needs"
            " one of each. The file is damaged or was written wrongly."
        )
    return Behaviour(key, samples, domain, timestamps=timestamps, session=session)


def _sampling_rate(series: Node, place: str) -> float:
    """Read the rate (Hz) of a regular series; NaN if there is none."""
    rate = series.attrs.get("sampling_rate", math.nan)
    if not isinstance(rate, int | float | np.integer | np.floating):
        raise SessionError(
            f"series {place} has a sampling rate of {rate!r}; it must be one number, in Hz. The"
            " file is damaged or was written wrongly."
        )
    return float(rate)


def check_numbers(
    array: np.ndarray | ChunkedArray, name: str, ndims: tuple[int, ...] = (1,)
) -> None:
    """Raise SessionError unless an array of a file holds real numbers and has one of these ranks.

    A 2-D array needs at least one column.
    """
    wrong = "the file is damaged or was written wrongly."
    if array.dtype.kind not in "iuf":
        raise SessionError(f"{name} holds {array.dtype} values, but must hold numbers; {wrong}")
    if array.ndim not in ndims or 0 in array.shape[1:]:
        ranks = " or ".join(f"{ndim}-D" for ndim in ndims)
        raise SessionError(f"{name} has shape {array.shape}, but must be {ranks}; {wrong}")


def count_before(times: np.ndarray | ChunkedArray, marks: ArrayLike) -> np.ndarray:
    """Count for every mark the sorted `times` before it: the index of the first time not before it.

    An array mapped from a file may be unaligned; numpy would copy it whole for every search.
    """
    if isinstance(times, np.ndarray) and times.flags.aligned:
        return np.asarray(times.searchsorted(marks, side="left"))
    marks = np.asarray(marks)
    counts = [bisect_left(times, mark) for mark in marks.flat]
    return np.array(counts, np.int64).reshape(marks.shape)


def check_times(
    times: np.ndarray, name: str, *, strictly: bool = False, first: int = 0, step: int = 1
) -> None:
    """Raise SessionError unless all times are finite and never decrease, or `strictly` increase.

    The error calls them rows `first`, `first + step`, ... of `name`.
    """
    finite = np.isfinite(times)
    if not finite.all():
        row = int(np.argmin(finite))
        raise SessionError(
            f"{name}[{first + step * row}] is {times[row]}, but every time must be finite; remove"
            " such entries."
        )
    before, after = times[:-1], times[1:]
    wrong = after <= before if strictly else after < before
    if wrong.any():
        row = int(np.argmax(wrong))
        place = first + step * row
        if before[row] == after[row]:
            raise SessionError(
                f"{name}[{place}] and {name}[{place + step}] are both {times[row]} s, but times"
                " must increase; keep one sample of each (np.unique(times, return_index=True))."
            )
        raise SessionError(
            f"{name}[{place}] is {times[row]} s and {name}[{place + step}] is {times[row + 1]} s,"
            f" but times must {'increase' if strictly else 'be sorted'}; if every trial or file"
            " counts from its own zero, use Session.from_trials or add the start of each; else"
            " reorder them and what belongs to them (np.argsort)."
        )
