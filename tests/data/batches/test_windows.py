"""Plans of windows against naive versions of the same algorithms."""

import math
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from poyo_jax.data.batches.windows import (
    RandomWindows,
    causal_windows,
    overlapping_windows,
    sequential_windows,
    trial_windows,
)
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import DataError

LENGTHS = st.floats(0.05, 7.0)
GAPS = st.floats(0.01, 2.0)


@st.composite
def interval_sets(draw, min_size=1):
    """Disjoint intervals with gaps between them."""
    pairs, time = [], draw(st.floats(0, 100))
    for gap, length in draw(st.lists(st.tuples(GAPS, LENGTHS), min_size=min_size, max_size=6)):
        pairs.append((time + gap, time + gap + length))
        time = pairs[-1][1]
    return Intervals.from_pairs(pairs)


def plan(intervals, window_length=1.0, seed=0, widen=False, domains=None):
    return RandomWindows(intervals, domains or intervals, window_length, seed, widen=widen)


PLAN = plan(
    [Intervals.from_pairs([(0, 10.5), (20, 23.25)]), Intervals.from_pairs([(5, 12)])], seed=3
)
EPOCH = np.arange(20)


def test_an_epoch_has_as_many_windows_as_fit():
    assert PLAN.epoch_size == 20  # 10 + 3 + 7
    for epoch in range(4):
        sessions, starts = PLAN.at(EPOCH + 20 * epoch)
        assert (sessions == 1).sum() == 7 and ((sessions == 0) & (starts < 15)).sum() == 10


def test_windows_are_a_function_of_seed_and_number():
    numbers = np.random.default_rng(0).permutation(100)
    sessions, starts = PLAN.at(np.arange(100))
    for other in (PLAN, pickle.loads(pickle.dumps(PLAN)), plan(PLAN.intervals, seed=3)):
        shuffled_sessions, shuffled_starts = other.at(numbers)
        np.testing.assert_array_equal(shuffled_sessions, sessions[numbers])
        np.testing.assert_array_equal(shuffled_starts, starts[numbers])
    single = [PLAN.at(np.array([number])) for number in (99, 0, 41, 7)]
    assert [(int(a[0]), float(b[0])) for a, b in single] == [
        (sessions[i], starts[i]) for i in (99, 0, 41, 7)
    ]
    assert not np.array_equal(plan(PLAN.intervals, seed=4).at(EPOCH)[1], starts[:20])
    assert not np.array_equal(starts[20:40], starts[:20])


def test_windows_come_in_random_order():
    orders = np.stack(
        [np.argsort(np.argsort(PLAN.at(EPOCH + 20 * epoch)[1])) for epoch in range(400)]
    )
    ranks = orders.mean(axis=0)  # of the windows at each place; 9.5 on average
    assert np.abs(ranks - 9.5).max() < 5 * np.sqrt(20**2 / 12 / 400)


@given(st.lists(interval_sets(), min_size=1, max_size=3), st.floats(0.3, 1.5), st.integers(0, 1000))
def test_windows_lie_inside_the_intervals_as_often_as_they_fit(intervals, window_length, seed):
    fits = [
        [math.floor((end - start) / window_length) for start, end in of_session]
        for of_session in intervals
    ]
    if not sum(map(sum, fits)):
        with pytest.raises(DataError):
            plan(intervals, window_length, seed)
        return
    windows = plan(intervals, window_length, seed)
    assert windows.epoch_size == sum(map(sum, fits))
    sessions, starts = windows.at(np.arange(windows.epoch_size) + 5 * windows.epoch_size)
    for session, of_session in enumerate(intervals):
        inside = [
            (
                (sessions == session)
                & (starts > start - 1e-9)
                & (starts + window_length < end + 1e-9)
            ).sum()
            for start, end in of_session
        ]
        assert inside == fits[session]


def reference_windows(start, end, window_length, offset):
    """Starts that torch_brain's RandomFixedWindowSampler takes from one interval, given its random
    offset.
    """
    if end - start < window_length:
        return []
    starts, at = [], start + offset
    while at + window_length <= end:
        starts.append(at)
        at = start + offset + len(starts) * window_length
    left = offset
    right = end - (starts[-1] + window_length) if starts else end - start - offset
    if left + right >= window_length:
        starts.append(end - window_length if right > left else start)
    return starts


class FixedOffsets:
    """A generator that draws given shares of the window length, and leaves windows in their
    order.
    """

    def __init__(self, shares):
        self.shares = shares

    def random(self, count):
        assert count == len(self.shares)
        return np.array(self.shares)

    def permutation(self, count):
        return np.arange(count)


@given(interval_sets(), st.floats(0.3, 1.5), st.data())
def test_windows_are_those_of_the_reference_given_the_offsets(intervals, window_length, data):
    long = [(start, end) for start, end in intervals if end - start >= window_length]
    if not long:
        return
    shares = data.draw(st.lists(st.floats(0, 0.999), min_size=len(long), max_size=len(long)))
    for (start, end), share in zip(long, shares, strict=True):
        spare = (end - start) / window_length % 1  # in windows
        assume(1e-6 < spare < 1 - 1e-6)  # else rounding decides how many windows fit
        assume(abs((spare - share) % 1 - share) > 1e-6)  # else it decides which end is farther
    windows = plan([intervals], window_length)
    with mock.patch.object(np.random, "default_rng", lambda seed: FixedOffsets(shares)):
        _, starts = windows.at(np.arange(windows.epoch_size))
    expected = [
        at
        for (start, end), share in zip(long, shares, strict=True)
        for at in reference_windows(start, end, window_length, share * window_length)
    ]
    np.testing.assert_allclose(starts, expected, rtol=0, atol=1e-9)


def test_windows_cover_the_interior_evenly():
    windows = plan([Intervals.from_pairs([(0, 10.5)])])
    _, starts = windows.at(np.arange(20000))
    interior = starts[(starts >= 1) & (starts < 8.5)]
    assert stats.kstest((interior - 1) / 7.5, "uniform").pvalue > 1e-3
    covering = [((starts <= time) & (time < starts + 1)).sum() for time in np.linspace(1, 9.4, 30)]
    np.testing.assert_array_equal(covering, 2000)  # once per epoch
    assert starts.min() < 0.01 and starts.max() > 9.49


@given(interval_sets(), st.floats(0.5, 3.0), st.floats(0, 2), st.floats(0, 2))
def test_widened_windows_meet_their_interval_and_stay_in_the_domain(
    intervals, window_length, before, after
):
    domain = Intervals.from_pairs([(intervals.starts[0] - before, intervals.ends[-1] + after)])
    windows = plan([intervals], window_length, widen=True, domains=[domain])
    _, starts = windows.at(np.arange(3 * windows.epoch_size))
    short = [(start, end) for start, end in intervals if end - start < window_length]
    assert windows.epoch_size == len(short) + sum(
        math.floor((end - start) / window_length)
        for start, end in intervals
        if end - start >= window_length
    )
    for start, end in short:
        assert ((starts <= end) & (starts + window_length >= start)).sum() >= 3
    if domain.duration >= window_length:
        assert starts.min() >= domain.starts[0] - 1e-9
        assert starts.max() + window_length <= domain.ends[0] + 1e-9
    else:
        assert starts.max() <= domain.starts[0] + 1e-9
        assert starts.min() + window_length >= domain.ends[0] - 1e-9


def test_widened_windows_hold_every_time_of_their_interval_at_every_place():
    interval, domain = Intervals.from_pairs([(10.0, 10.4)]), Intervals.from_pairs([(0, 20)])
    _, starts = plan([interval], widen=True, domains=[domain]).at(np.arange(4000))
    for time in (10.05, 10.2, 10.35):
        holding = starts[(starts <= time) & (time < starts + 1)]
        assert len(holding) > 2400
        places = np.histogram(time - holding, bins=5, range=(0, 1))[0] / len(holding)
        assert places.min() > 0.05, places
    _, starts = plan([interval], widen=True, domains=[Intervals.from_pairs([(10, 20)])]).at(
        np.arange(100)
    )
    assert starts.min() == 10 and starts.max() < 10.4


def test_without_widening_short_intervals_are_dropped():
    intervals = Intervals.from_pairs([(0, 0.5), (1, 3.5), (4, 4.999)])
    dropped, widened = plan([intervals]), plan([intervals], widen=True)
    assert (dropped.epoch_size, widened.epoch_size) == (2, 4)
    _, starts = dropped.at(np.arange(100))
    assert starts.min() >= 1 and starts.max() <= 2.5


def test_a_plan_without_windows_is_refused():
    sentence = (
        r"none of the 2 intervals to draw windows from is as long as a window, 1\.0 s\. Choose a"
        r" shorter window, or"
    )
    with pytest.raises(DataError, match=sentence):
        plan([Intervals.from_pairs([(0, 0.5), (1, 1.5)])])


def naive_sequential(start, end, window_length, step):
    if end - start < window_length:
        return [(start + end) / 2 - window_length / 2]
    starts = [start]
    while starts[-1] + step + window_length <= end + 1e-9:
        starts.append(start + len(starts) * step)
    return starts if starts[-1] + window_length >= end - 1e-9 else [*starts, end - window_length]


@given(interval_sets(min_size=0), st.floats(0.3, 1.5), st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.5]))
def test_sequential_windows_step_through_every_interval_to_its_end(intervals, window_length, step):
    starts = sequential_windows(intervals, window_length, step)
    expected = [
        at for start, end in intervals for at in naive_sequential(start, end, window_length, step)
    ]
    np.testing.assert_allclose(starts, expected, rtol=0, atol=1e-9)


@given(interval_sets(), st.floats(0.3, 1.5), st.floats(0.1, 1.0))
def test_sequential_windows_that_overlap_cover_every_time(intervals, window_length, share):
    starts = sequential_windows(intervals, window_length, share * window_length)
    times = np.concatenate(
        [np.linspace(start, end, 50, endpoint=False) for start, end in intervals]
    )
    covered = (starts <= times[:, None] + 1e-9) & (times[:, None] < starts + window_length + 1e-9)
    assert covered.any(axis=1).all()


@given(interval_sets(), st.floats(0.5, 2.0), st.integers(3, 8), st.floats(0, 3))
def test_overlapping_windows_hold_every_time_as_often_as_the_domain_allows(
    intervals, window_length, overlap, margin
):
    domain = Intervals.from_pairs([(intervals.starts[0] - margin, intervals.ends[-1] + margin)])
    step = window_length / overlap
    starts = overlapping_windows(intervals, domain, window_length, step)
    assert np.all(np.diff(starts) > 0)
    if domain.duration >= window_length:
        assert (
            starts[0] >= domain.starts[0] - 1e-9
            and starts[-1] + window_length <= domain.ends[0] + 1e-9
        )
    times = np.concatenate(
        [np.linspace(start, end, 50, endpoint=False)[1:] for start, end in intervals]
    )
    held = (
        (starts <= times[:, None] + 1e-9) & (times[:, None] < starts + window_length + 1e-9)
    ).sum(axis=1)
    assert held.min() >= (overlap if margin >= window_length else 1)


@given(interval_sets(), st.floats(0.3, 1.5), st.floats(0.05, 0.3))
def test_the_ends_of_causal_windows_cover_every_time_once(intervals, window_length, step):
    ends = causal_windows(intervals, window_length, step) + window_length
    times = np.concatenate(
        [np.linspace(start, end, 50, endpoint=False)[1:] for start, end in intervals]
    )
    times = times[np.abs(times[:, None] - ends).min(axis=1) > 1e-6]  # not on an edge
    covered = (ends - step <= times[:, None]) & (times[:, None] < ends)
    assert (covered.sum(axis=1) >= 1).all()
    inside = np.array([intervals.contains(end - step + 1e-9) for end in ends])
    assert inside.all() and np.all(np.diff(ends) > 0)


def test_sequential_windows_of_a_round_grid_are_exact():
    assert sequential_windows(Intervals.from_pairs([(2, 4.5)]), 1.0, 0.5).tolist() == [
        2,
        2.5,
        3,
        3.5,
    ]
    assert sequential_windows(Intervals.from_pairs([(2, 3)]), 1.0, 0.1).tolist() == [2]
    assert sequential_windows(Intervals.from_pairs([(0, 0.3)]), 0.1, 0.1).tolist() == pytest.approx(
        [0, 0.1, 0.2]
    )
    assert sequential_windows(Intervals.from_pairs([]), 1.0, 0.5).shape == (0,)


@given(interval_sets(min_size=0), st.floats(0.3, 3.0))
def test_windows_of_trials_begin_with_the_trial_or_lie_around_it(trials, window_length):
    expected = [
        start if end - start >= window_length else (start + end) / 2 - window_length / 2
        for start, end in trials
    ]
    np.testing.assert_allclose(trial_windows(trials, window_length), expected, rtol=0, atol=1e-9)
