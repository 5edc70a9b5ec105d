"""Runs, derivatives, flagged samples and splits by trials agree with plain definitions of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.derive import (
    first_of_runs,
    gradient_of_runs,
    intervals_where,
    permutation_split,
    run_intervals,
    trial_splits,
)
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import DataError

RECORDED = Intervals.from_pairs([(0, 100)])


@given(st.lists(st.sampled_from([1, 2, 5, 6, 30]), min_size=1, max_size=40))
def test_runs_end_where_a_step_is_above_five_median_ones(steps):
    times = np.append(0.0, np.cumsum(steps))
    firsts = first_of_runs(times)
    expected = [0, *(row + 1 for row, step in enumerate(steps) if step > 5 * np.median(steps))]
    assert firsts.tolist() == expected
    domain = run_intervals(times, firsts)
    assert len(domain) == len(firsts) and domain.contains(times).all()


def test_runs_may_begin_before_the_step_is_over():
    times = np.array([0.0, 1.0, 1.5, 2.5])
    assert list(run_intervals(times, np.array([0, 2]))) == [(0, 1.5), (1.5, 3.5)]


def test_derivative_knows_nothing_beyond_its_run():
    times = np.array([0.0, 1.0, 2.0, 50.0, 51.0, 99.0])
    values = np.array([0.0, 1.0, 4.0, 7.0, 9.0, 0.0])
    derivative = gradient_of_runs(values, times, np.array([0, 3, 5]))
    np.testing.assert_array_equal(derivative, [1, 2, 3, 2, 2, np.nan])


@given(st.lists(st.booleans(), min_size=2, max_size=30))
def test_intervals_where_hold_just_the_flagged_samples(flags):
    times, mask = np.arange(len(flags)) * 0.5, np.array(flags)
    np.testing.assert_array_equal(intervals_where(mask, times).contains(times), mask)


@given(st.integers(1, 300))
def test_permutation_split_takes_every_row_once(count):
    parts = permutation_split(count, (0.7, 0.1, 0.2))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert count < 6 or min(map(len, parts)) > 0


def test_permutation_of_ten_rows_is_that_of_the_reference():
    train, valid, test = permutation_split(10, (0.7, 0.1, 0.2))
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([0, 2, 3, 4, 5, 6, 7], [9], [1, 8])


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 12)), min_size=6, max_size=25),
    st.booleans(),
)
def test_splits_by_trials_share_no_time(rows, labelled):
    starts, lengths = np.sort(np.array(rows, np.float64), axis=0).T
    trials = {"start": starts, "end": starts + lengths}
    if labelled:
        trials["split"] = np.array(["train", "train", "val"] * len(rows), object)[: len(rows)]
    try:
        parts = trial_splits(trials, RECORDED, "trials", "trials")
    except DataError:
        return
    train, valid, test = (parts[name] for name in ("train", "valid", "test"))
    guard = 0.0 if labelled else 1.0  # s
    assert not len(train.intersect(valid.union(test).dilate(guard))) and not len(
        valid.intersect(test)
    )
    assert min(train.duration, valid.duration, test.duration) > 0
    assert RECORDED.intersect(train.union(valid).union(test)) == train.union(valid).union(test)


def test_blocks_or_too_few_trials_leave_the_splits_to_others():
    trials = {"start": np.arange(10.0), "end": np.arange(10.0) + 1}
    assert trial_splits(trials, RECORDED, "blocks", "trials") == {}
    few = {name: times[:5] for name, times in trials.items()}
    assert trial_splits(few, RECORDED, None, "trials") == {}
    with pytest.raises(
        DataError, match="trials has 5 trials with behaviour; splitting by trials needs 6"
    ):
        trial_splits(few, RECORDED, "trials", "trials")
    assert set(trial_splits(trials, RECORDED, None, "trials")) == {"train", "valid", "test"}
