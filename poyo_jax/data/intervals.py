"""Sets of half-open time intervals [start, end), in float64 seconds of session time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from poyo_jax.errors import SessionError

Bounds = Float64[np.ndarray, " intervals"]
Mask = Bool[np.ndarray, "*times"]


@dataclass(frozen=True, eq=False, repr=False)
class Intervals:
    """Sorted, disjoint intervals [start, end).

    Intervals that merely touch stay separate, so that the blocks of a split remain blocks; only
    `union` joins them. Raises SessionError when built from bounds that are not finite, not sorted,
    overlapping, or end before they start.
    """

    starts: Bounds  #: s
    ends: Bounds  #: s

    def __post_init__(self) -> None:
        for name in ("starts", "ends"):
            bounds = np.array(getattr(self, name), np.float64)
            bounds.flags.writeable = False
            object.__setattr__(self, name, bounds)
        _check(self.starts, self.ends)

    @classmethod
    def from_arrays(cls, starts: ArrayLike, ends: ArrayLike) -> "Intervals":
        """Build from bounds in any order; merges nothing. Raises SessionError as the class does."""
        starts, ends = _bounds(starts, ends)
        order = np.lexsort((ends, starts))
        return cls(starts[order], ends[order])

    @classmethod
    def from_pairs(cls, pairs: Iterable) -> "Intervals":
        """Build from (start, end) pairs in any order, an array [n, 2], or another `Intervals`."""
        return cls.from_arrays(*_columns(pairs))

    @classmethod
    def from_overlapping(cls, starts: ArrayLike, ends: ArrayLike) -> "Intervals":
        """Build from rows of a file: merge overlapping rows and keep touching rows separate.

        Rows that hold no time (a NaN bound, or end <= start) are dropped: no time t fulfils start
        <= t < end.
        """
        starts, ends = _bounds(starts, ends)
        held = starts < ends  # False where a bound is NaN
        return cls(*_merge(starts[held], ends[held], join_touching=False))

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.starts.tolist(), self.ends.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.ends, other.ends)

    def __repr__(self) -> str:
        shown = ", ".join(f"[{start:g}, {end:g})" for start, end in list(self)[:3])
        more = f", and {len(self) - 3} more" if len(self) > 3 else ""
        return f"Intervals({shown}{more}; {self.duration:g} s)"

    @property
    def duration(self) -> float:
        """Sum of the lengths, in seconds."""
        return float(np.sum(self.ends - self.starts))

    def contains(self, times: ArrayLike) -> Mask:
        """Tell for each of `times` [...] (s) if any interval has start <= time < end."""
        times = np.asarray(times, np.float64)
        if not len(self):
            return np.zeros(times.shape, bool)
        row = self.starts.searchsorted(times, side="right") - 1
        return np.asarray((row >= 0) & (times < self.ends[row]))

    def union(self, other: "Intervals") -> "Intervals":
        """All time in either set; overlapping and touching intervals become one."""
        starts, ends = (
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.ends, other.ends]),
        )
        return Intervals(*_merge(starts, ends, join_touching=True))

    def intersect(self, other: "Intervals") -> "Intervals":
        """All time in both sets, cut at the bounds of either; pieces without length are dropped."""
        return Intervals(*_intersect(self.starts, self.ends, other.starts, other.ends))

    def subtract(self, other: "Intervals") -> "Intervals":
        """Remove the time that `other` covers; pieces without length are dropped."""
        gap_starts = np.concatenate([[-np.inf], other.ends])
        gap_ends = np.concatenate([other.starts, [np.inf]])
        return Intervals(*_intersect(self.starts, self.ends, gap_starts, gap_ends))

    def dilate(self, seconds: float) -> "Intervals":
        """Extend every interval by `seconds` on both sides, at most to the middle of each gap.

        Half-way is between the intervals as they were. Raises SessionError when `seconds` is
        negative.
        """
        if not seconds >= 0:
            raise SessionError(f"intervals cannot grow by {seconds} s; pass zero or more seconds.")
        halfway = (self.ends[:-1] + self.starts[1:]) / 2
        starts = np.maximum(
            self.starts - seconds, np.concatenate([[-np.inf], halfway])[: len(self)]
        )
        ends = np.minimum(self.ends + seconds, np.concatenate([halfway, [np.inf]])[: len(self)])
        return Intervals(starts, ends)

    def longer_than(self, seconds: float) -> "Intervals":
        """The intervals whose length is strictly more than `seconds`."""
        long = self.ends - self.starts > seconds
        return Intervals(self.starts[long], self.ends[long])


def _columns(pairs: Iterable) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of (start, end) pairs, of an array [n, 2], or of `Intervals`."""
    if isinstance(pairs, Intervals):
        return pairs.starts, pairs.ends
    table = np.asarray(pairs if isinstance(pairs, np.ndarray) else list(pairs), np.float64)
    if table.size == 0:
        table = table.reshape(0, 2)
    if table.ndim != 2 or table.shape[1] != 2:
        raise SessionError(
            f"intervals came as an array of shape {table.shape}; pass (start, end) pairs, shape"
            " (n, 2)."
        )
    return table[:, 0], table[:, 1]


def _bounds(starts: ArrayLike, ends: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    starts, ends = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
    if starts.ndim != 1 or starts.shape != ends.shape:
        raise SessionError(
            f"interval starts have shape {starts.shape} and ends {ends.shape}; pass two 1-D arrays"
            " of the same length."
        )
    return starts, ends


def _check(starts: np.ndarray, ends: np.ndarray) -> None:
    """Raise SessionError naming the first row that breaks the rules of `Intervals`."""
    _bounds(starts, ends)
    rules = (
        (
            ~(np.isfinite(starts) & np.isfinite(ends)),
            "has a bound that is not finite; every bound must be a time in seconds",
        ),
        (ends < starts, "ends before it starts; swap the two times or remove it"),
        (np.append(starts[1:] < ends[:-1], False), "overlaps the next one; cut or merge them"),
    )
    for broken, text in rules:
        if broken.any():
            row = int(np.argmax(broken))
            raise SessionError(f"interval {row} [{starts[row]}, {ends[row]}) {text}.")


def _merge(
    starts: np.ndarray, ends: np.ndarray, *, join_touching: bool
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    apart = starts[1:] > reach[:-1] if join_touching else starts[1:] >= reach[:-1]
    some = [True] * (len(starts) > 0)
    return (
        starts[np.concatenate([some, apart]).astype(bool)],
        reach[np.concatenate([apart, some]).astype(bool)],
    )


def _intersect(
    starts: np.ndarray, ends: np.ndarray, other_starts: np.ndarray, other_ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first = np.searchsorted(other_ends, starts, side="right")
    stop = np.searchsorted(other_starts, ends, side="left")
    counts = np.maximum(stop - first, 0)
    row = np.repeat(np.arange(len(starts)), counts)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    other_row = first[row] + offset
    low, high = (
        np.maximum(starts[row], other_starts[other_row]),
        np.minimum(ends[row], other_ends[other_row]),
    )
    return low[low < high], high[low < high]
