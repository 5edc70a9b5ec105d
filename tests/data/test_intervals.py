"""Interval sets agree with brute force on small integer grids, and refuse bounds that make no
sense.
"""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import SessionError

SIZE = 24
CENTERS = np.arange(SIZE) + 0.5  # one time inside every unit cell of the grid


@st.composite
def interval_sets(draw):
    """Disjoint intervals on the integers 0 ... SIZE, some of which touch."""
    bounds = sorted(draw(st.sets(st.integers(0, SIZE), max_size=12)))
    cells = [(start, end) for start, end in itertools.pairwise(bounds) if draw(st.booleans())]
    return Intervals.from_pairs(draw(st.permutations(cells)))


rows = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8)


def cells(intervals):
    """For every unit cell of the grid, whether it lies in the set."""
    inside = np.zeros(SIZE, bool)
    for start, end in intervals:
        inside[int(start) : int(end)] = True
    return inside


def runs(start, end, taken):
    """Maximal runs of free cells in start ... end - 1."""
    free = [cell for cell in range(start, end) if not taken[cell]]
    starts = [cell for cell in free if cell == start or taken[cell - 1]]
    return [
        (first, next(cell for cell in range(first, end + 1) if cell == end or taken[cell]))
        for first in starts
    ]


def is_sorted_and_disjoint(intervals):
    return bool(
        np.all(intervals.starts < intervals.ends)
        and np.all(intervals.ends[:-1] <= intervals.starts[1:])
    )


@given(interval_sets(), st.lists(st.integers(-2, 2 * SIZE + 2), max_size=20))
def test_contains_is_half_open(intervals, halves):
    times = np.array(halves, float) / 2
    expected = [any(start <= time < end for start, end in intervals) for time in times]
    assert intervals.contains(times).tolist() == expected


@given(interval_sets(), interval_sets())
def test_union_joins_what_touches(a, b):
    union = a.union(b)
    np.testing.assert_array_equal(cells(union), cells(a) | cells(b))
    assert np.all(union.ends[:-1] < union.starts[1:])
    assert union.duration == np.sum(cells(a) | cells(b))


@given(interval_sets(), interval_sets())
def test_intersection_and_difference_keep_the_cuts(a, b):
    both, rest = a.intersect(b), a.subtract(b)
    np.testing.assert_array_equal(cells(both), cells(a) & cells(b))
    np.testing.assert_array_equal(cells(rest), cells(a) & ~cells(b))
    expected = [(max(s, t), min(e, f)) for s, e in a for t, f in b if max(s, t) < min(e, f)]
    assert list(both) == sorted(expected)
    pieces = [runs(int(start), int(end), cells(b)) for start, end in a]
    assert list(rest) == list(itertools.chain(*pieces))


@given(interval_sets())
def test_blocks_that_touch_survive_every_operation_but_union(a):
    everything = Intervals.from_pairs([(-1, SIZE + 1)])
    nothing = Intervals.from_pairs([])
    assert a.intersect(everything) == a
    assert a.subtract(nothing) == a
    assert a.dilate(0) == a
    assert Intervals.from_overlapping(a.starts[::-1], a.ends[::-1]) == a
    assert (
        len(a.intersect(nothing)) == len(a.subtract(everything)) == len(nothing.union(nothing)) == 0
    )


@given(interval_sets(), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 100.0]))
def test_dilate_stops_half_way_to_the_neighbour(a, seconds):
    expected = []
    for row, (start, end) in enumerate(a):
        left = -np.inf if row == 0 else (a.ends[row - 1] + start) / 2
        right = np.inf if row == len(a) - 1 else (end + a.starts[row + 1]) / 2
        expected.append((max(start - seconds, left), min(end + seconds, right)))
    assert list(a.dilate(seconds)) == expected


@given(rows)
def test_overlapping_rows_hold_the_same_time_once_merged(pairs):
    merged = Intervals.from_overlapping([start for start, _ in pairs], [end for _, end in pairs])
    expected = [any(start <= time < end for start, end in pairs) for time in CENTERS]
    assert merged.contains(CENTERS).tolist() == expected
    assert is_sorted_and_disjoint(merged)


def test_rows_without_time_are_dropped_and_touching_rows_kept():
    nan = np.nan
    merged = Intervals.from_overlapping([3, 1, nan, 5, 7, np.inf, 2], [4, 2, 2, nan, 7, 0, 3])
    assert list(merged) == [(1, 2), (2, 3), (3, 4)]


def test_longer_than_is_strict():
    assert list(Intervals.from_pairs([(0, 1), (2, 4)]).longer_than(1)) == [(2, 4)]


def test_contains_keeps_the_shape_and_takes_nan_and_scalars():
    intervals = Intervals.from_pairs([(1, 2)])
    assert intervals.contains([[1.0, 2.0], [np.nan, 1.5]]).tolist() == [
        [True, False],
        [False, True],
    ]
    assert intervals.contains(1.5) and not Intervals.from_pairs([]).contains(1.5)


def test_intervals_are_values():
    pairs = np.array([[2.0, 3.0], [0.0, 1.0]])
    intervals = Intervals.from_pairs(pairs)
    pairs[:] = 9
    assert (
        intervals == Intervals.from_arrays([0, 2], [1, 3]) == pickle.loads(pickle.dumps(intervals))
    )
    assert intervals != Intervals.from_pairs([(0, 1)]) and intervals != "intervals"
    assert repr(intervals) == "Intervals([0, 1), [2, 3); 2 s)"
    assert repr(Intervals.from_pairs([(k, k + 1) for k in range(5)])).endswith(
        "[2, 3), and 2 more; 5 s)"
    )
    with pytest.raises(ValueError, match="read-only"):
        intervals.starts[0] = 5


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, np.nan)], r"interval 0 \[0.0, nan\) has a bound that is not finite"),
        ([(0, np.inf)], "not finite"),
        ([(2, 1)], r"\[2.0, 1.0\) ends before it starts; swap"),
        ([(0, 2), (1, 3)], r"interval 0 \[0.0, 2.0\) overlaps the next one; cut or merge"),
        ([(0, 1, 2)], r"shape \(1, 3\); pass \(start, end\) pairs"),
        (np.zeros(4), r"shape \(4,\); pass"),
    ],
)
def test_senseless_bounds_are_refused(pairs, message):
    with pytest.raises(SessionError, match=message):
        Intervals.from_pairs(pairs)


def test_bounds_of_different_length_and_negative_growth_are_refused():
    with pytest.raises(SessionError, match=r"starts have shape \(1,\) and ends \(2,\)"):
        Intervals.from_arrays([0], [1, 2])
    with pytest.raises(SessionError, match=r"cannot grow by -1 s; pass zero or more"):
        Intervals.from_pairs([(0, 1)]).dilate(-1)
