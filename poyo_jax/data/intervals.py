"""Sets of half-open time intervals [start, end), in float64 seconds of session time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from poyo_jax.data.numbers import durations_in_seconds
from poyo_jax.errors import SessionError

SAME_TIME = 1e-6  # s; a shorter time in common is a rounding error

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
        return cls.from_arrays(*pair_columns(pairs))

    @classmethod
    def from_overlapping(cls, starts: ArrayLike, ends: ArrayLike) -> "Intervals":
        """Build from rows of a file: merge overlapping rows and keep touching rows separate.

        Rows that hold no time (a NaN bound, or end <= start) are dropped: no time t fulfils start
        <= t < end.
        """
        starts, ends = _bounds(starts, ends)
        kept = starts < ends  # False where a bound is NaN
        merged = _merge(starts[kept], ends[kept], join_touching=False)
        return cls(*merged)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.starts.tolist(), self.ends.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        same_starts = np.array_equal(self.starts, other.starts)
        return same_starts and np.array_equal(self.ends, other.ends)

    def __repr__(self) -> str:
        first_rows = list(self)[:3]
        shown = ", ".join(f"[{start:g}, {end:g})" for start, end in first_rows)
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
        starts = np.concatenate([self.starts, other.starts])
        ends = np.concatenate([self.ends, other.ends])
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

        Raises SessionError when `seconds` is negative.
        """
        if not seconds >= 0:
            raise SessionError(f"intervals cannot grow by {seconds} s; pass zero or more seconds.")
        middles = (self.ends[:-1] + self.starts[1:]) / 2
        earliest = np.concatenate([[-np.inf], middles])[: len(self)]
        latest = np.concatenate([middles, [np.inf]])[: len(self)]
        starts = np.maximum(self.starts - seconds, earliest)
        ends = np.minimum(self.ends + seconds, latest)
        return Intervals(starts, ends)

    def longer_than(self, seconds: float) -> "Intervals":
        """The intervals whose length is strictly more than `seconds`."""
        long = self.ends - self.starts > seconds
        return Intervals(self.starts[long], self.ends[long])


def pair_columns(pairs: Iterable, name: str = "intervals") -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of (start, end) pairs, of an array [n, 2], or of `Intervals`.

    Raises SessionError for an array of another shape, and TypeError or ValueError for no numbers.
    """
    if isinstance(pairs, Intervals):
        return pairs.starts, pairs.ends
    rows = pairs if isinstance(pairs, np.ndarray) else list(pairs)
    table = np.asarray(durations_in_seconds(rows, name), np.float64)
    if table.size == 0:
        table = table.reshape(0, 2)
    if table.ndim != 2 or table.shape[1] != 2:
        raise SessionError(
            f"{name} came as an array of shape {table.shape}; pass (start, end) pairs, shape"
            " (n, 2)."
        )
    return table[:, 0], table[:, 1]


def _bounds(starts: ArrayLike, ends: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    starts = np.asarray(durations_in_seconds(starts, "interval starts"), np.float64)
    ends = np.asarray(durations_in_seconds(ends, "interval ends"), np.float64)
    if starts.ndim != 1 or starts.shape != ends.shape:
        raise SessionError(
            f"interval starts have shape {starts.shape} and ends {ends.shape}; pass two 1-D arrays"
            " of the same length."
        )
    return starts, ends


def _check(starts: np.ndarray, ends: np.ndarray) -> None:
    """Raise SessionError naming the first row that breaks the rules of `Intervals`."""
    _bounds(starts, ends)
    finite = np.isfinite(starts) & np.isfinite(ends)
    overlaps = np.append(starts[1:] < ends[:-1], False)
    rules = (
        (~finite, "has a bound that is not finite; every bound must be a time in seconds"),
        (ends < starts, "ends before it starts; swap the two times or remove it"),
        (overlaps, "overlaps the next one; cut or merge them"),
    )
    for broken, text in rules:
        if broken.any():
            row = int(np.argmax(broken))
            raise SessionError(f"interval {row} [{starts[row]}, {ends[row]}) {text}.")


def _merge(
    starts: np.ndarray, ends: np.ndarray, *, join_touching: bool
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    reach = np.maximum.accumulate(ends[order])
    later, before = starts[1:], reach[:-1]
    apart = later > before if join_touching else later >= before
    edge = [True] * (len(starts) > 0)
    is_first = np.concatenate([edge, apart]).astype(bool)
    is_last = np.concatenate([apart, edge]).astype(bool)
    return starts[is_first], reach[is_last]


def _intersect(
    starts: np.ndarray, ends: np.ndarray, other_starts: np.ndarray, other_ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first = np.searchsorted(other_ends, starts, side="right")
    stop = np.searchsorted(other_starts, ends, side="left")
    counts = np.maximum(stop - first, 0)
    row = np.repeat(np.arange(len(starts)), counts)
    begins = np.cumsum(counts) - counts
    offset = np.arange(len(row)) - np.repeat(begins, counts)
    other_row = first[row] + offset
    low = np.maximum(starts[row], other_starts[other_row])
    high = np.minimum(ends[row], other_ends[other_row])
    kept = low < high
    return low[kept], high[kept]
