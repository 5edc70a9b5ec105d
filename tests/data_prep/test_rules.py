"""The rules that data sets share do what the reference's rules say, however the samples and trials
fall.
"""

import importlib.util
import itertools
import json
import math

import literal_intervals as literal
import nested_split
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import rules
from poyo_jax.data.intervals import Intervals

some = settings(max_examples=60, deadline=None)
masks = st.lists(st.booleans(), min_size=1, max_size=80).map(lambda bits: np.array(bits, bool))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def long_masks(draw):
    """A few runs within 3,000 samples."""
    mask = np.zeros(3000, bool)
    for first in draw(st.lists(st.integers(0, 2999), max_size=6)):
        mask[first : first + draw(st.integers(1, 600))] = True
    return mask


@st.composite
def interval_lists(draw):
    """Disjoint (start, end) pairs in order, some of which touch."""
    bounds = sorted(draw(st.sets(st.floats(0, 50, width=16), max_size=14)))
    return [(start, end) for start, end in itertools.pairwise(bounds) if draw(st.booleans())]


# --- masks


@some
@given(masks, st.integers(1, 20))
def test_dilation_grows_runs_to_the_left_by_half(mask, size):
    expected = np.zeros(len(mask), bool)
    for first, last in literal.runs(mask):
        expected[max(first - size // 2, 0) : last + (size - 1) // 2 + 1] = True
    np.testing.assert_array_equal(rules.dilated(mask, size), expected)


@some
@given(masks, st.integers(1, 20))
def test_erosion_shrinks_runs_also_at_the_borders(mask, size):
    expected = np.zeros(len(mask), bool)
    for first, last in literal.runs(mask):
        expected[first + size // 2 : max(last - (size - 1) // 2 + 1, 0)] = True
    np.testing.assert_array_equal(rules.eroded(mask, size), expected)


@pytest.mark.parametrize(("size", "left", "right"), [(2, 1, 0), (50, 25, 24), (400, 200, 199)])
def test_dilation_by_the_sizes_in_use(size, left, right):
    mask = np.arange(1000) == 500
    assert literal.runs(rules.dilated(mask, size)) == [(500 - left, 500 + right)]


def test_erosion_by_the_size_in_use():
    mask = np.ones(1000, bool)
    mask[400] = False
    assert literal.runs(rules.eroded(mask, 100)) == [(50, 350), (451, 950)]


@some
@given(long_masks())
def test_dilation_then_erosion_nets_150_samples_on_both_sides(mask):
    kept = rules.eroded(rules.dilated(mask, 400), 100)
    expected = np.zeros(len(mask), bool)
    for first, last in literal.runs(mask):
        expected[max(first - 150, 50) : min(last + 150, len(mask) - 50) + 1] = True
    for first, last in itertools.pairwise(
        literal.runs(mask)
    ):  # 200 + 199 samples close the gap for good
        if last[0] - first[1] - 1 <= 399:
            expected[first[1] : last[0]] = True
    expected[:50], expected[len(mask) - 49 :] = False, False
    np.testing.assert_array_equal(kept, expected)


@some
@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=30))
def test_outliers_are_strictly_beyond_the_limit(pairs):
    expected = [x * x + y * y > 25 for x, y in pairs]
    assert rules.outlier_mask(np.array(pairs, float), 5.0, grow=1).tolist() == expected
    assert rules.outlier_mask(np.array(pairs, float), 5.0, grow=3).sum() >= sum(expected)


@some
@given(masks, seeds)
def test_mask_becomes_intervals_from_the_sample_before_each_run(mask, seed):
    times = np.cumsum(np.random.default_rng(seed).uniform(0.001, 0.1, len(mask)))
    starts = [times[0]] if mask[0] else []
    ends = []
    for k in range(len(mask) - 1):
        if not mask[k] and mask[k + 1]:
            starts.append(times[k])
        if mask[k] and not mask[k + 1]:
            ends.append(times[k])
    ends += [times[-1]] if mask[-1] else []
    assert list(rules.mask_intervals(times, mask)) == list(zip(starts, ends, strict=True))


def test_mask_of_no_samples_is_no_interval():
    assert len(rules.mask_intervals(np.zeros(0), np.zeros(0, bool))) == 0


# --- derivatives


@some
@given(st.integers(2, 12), seeds)
def test_gradient_is_central_inside_and_one_sided_at_the_ends(count, seed):
    rng = np.random.default_rng(seed)
    times, values = np.cumsum(rng.uniform(0.5, 2, count)), rng.normal(size=(count, 2))
    expected = np.empty_like(values)
    for channel in range(2):
        f = values[:, channel]
        expected[0, channel] = (f[1] - f[0]) / (times[1] - times[0])
        expected[-1, channel] = (f[-1] - f[-2]) / (times[-1] - times[-2])
        for k in range(1, count - 1):
            before, after = times[k] - times[k - 1], times[k + 1] - times[k]
            weighted = before**2 * f[k + 1] + (after**2 - before**2) * f[k] - after**2 * f[k - 1]
            expected[k, channel] = weighted / (before * after * (before + after))
    np.testing.assert_allclose(rules.gradient(values, times), expected, rtol=1e-9, atol=1e-12)


@some
@given(st.integers(3, 12), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_gradient_of_a_parabola_is_exact_inside(count, a, b, c):
    times = np.cumsum(1 + np.arange(count) % 3)
    values = (a * times**2 + b * times + c)[:, None]
    slope = (2 * a * times + b)[1:-1]
    np.testing.assert_allclose(rules.gradient(values, times)[1:-1, 0], slope, rtol=1e-8, atol=1e-8)


# --- splits


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.8, 0.2)])
def test_permutation_split_cuts_the_permutation_of_seed_42(shares):
    for count in range(5, 700):
        sizes = [round(share * count) for share in shares]
        sizes[0] += count - sum(sizes)  # the first share is the largest in use
        permutation = np.random.default_rng(42).permutation(count).tolist()
        expected, taken = [], 0
        for size in sizes:
            expected.append(sorted(permutation[taken : taken + size]))
            taken += size
        assert [part.tolist() for part in rules.permutation_split(count, shares)] == expected


def test_permutation_of_ten_blocks():
    assert np.random.default_rng(rules.SEED).permutation(10).tolist() == [
        5,
        6,
        0,
        7,
        3,
        2,
        4,
        9,
        1,
        8,
    ]
    train, valid, test = rules.permutation_split(10, (0.8, 0.1, 0.1))
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([0, 2, 3, 4, 5, 6, 7, 9], [1], [8])


def test_sizes_round_half_to_even_and_the_largest_takes_the_rest():
    """Of 15, 10.5, 1.5 and 3.0 become 10, 2 and 3; of 25, 17.5, 2.5 and 5 become 18, 2 and 5."""
    assert [len(part) for part in rules.permutation_split(15, (0.7, 0.1, 0.2))] == [10, 2, 3]
    assert [len(part) for part in rules.permutation_split(25, (0.7, 0.1, 0.2))] == [18, 2, 5]
    assert [len(part) for part in rules.permutation_split(5, (0.7, 0.1, 0.2))] == [4, 0, 1]


@some
@given(st.integers(0, 2000))
def test_splits_are_a_partition_in_ascending_order(count):
    for parts in (rules.permutation_split(count, (0.7, 0.1, 0.2)), rules.nested_split(count)):
        assert sorted(np.concatenate(parts).tolist()) == list(range(count))
        assert all((np.diff(part) > 0).all() for part in parts)


def test_nested_split_is_that_of_scikit_learn():
    """Digests of its splits of 5 to 699 trials, which `nested_split.py` wrote."""
    table = json.loads(nested_split.TABLE.read_text())
    assert sorted(map(int, table)) == list(nested_split.COUNTS)
    wrong = [
        count
        for count in table
        if nested_split.digest(rules.nested_split(int(count))) != table[count]
    ]
    assert wrong == []


@pytest.mark.skipif(
    not importlib.util.find_spec("sklearn"), reason="compares with scikit-learn: pip install it"
)
def test_nested_split_equals_scikit_learn_live():
    for count in nested_split.COUNTS:
        for ours, theirs in zip(
            rules.nested_split(count), nested_split.by_scikit_learn(count), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_nested_split_follows_its_description():
    for count in range(5, 200):
        shuffled = np.random.RandomState(42).permutation(count)
        num_test = math.ceil(0.2 * count)
        rest = shuffled[num_test:]
        again = np.random.RandomState(42).permutation(len(rest))
        valid = rest[again[: math.ceil(0.125 * len(rest))]]
        train = set(range(count)) - set(shuffled[:num_test]) - set(valid)
        expected = sorted(train), sorted(valid), sorted(shuffled[:num_test])
        assert tuple(part.tolist() for part in rules.nested_split(count)) == expected


# --- intervals


@some
@given(interval_lists(), interval_lists())
def test_difference_keeps_the_pieces_of_each_interval(a, b):
    assert list(Intervals.from_pairs(a).subtract(Intervals.from_pairs(b))) == literal.subtract(a, b)


@some
@given(interval_lists(), interval_lists())
def test_union_merges_by_start_what_overlaps_or_touches(a, b):
    assert list(Intervals.from_pairs(a).union(Intervals.from_pairs(b))) == literal.union(a, b)


@some
@given(interval_lists(), st.sampled_from([0.1, 1.0, 3.0]))
def test_dilation_of_held_out_trials_stops_half_way(a, seconds):
    assert list(Intervals.from_pairs(a).dilate(seconds)) == literal.dilate(a, seconds)


@some
@given(interval_lists(), interval_lists(), st.lists(st.floats(-1, 51), max_size=20))
def test_operations_hold_the_times_that_they_should(a, b, times):
    inside = [
        [any(start <= time < end for start, end in pairs) for pairs in (a, b)] for time in times
    ]
    first, second = Intervals.from_pairs(a), Intervals.from_pairs(b)
    assert first.union(second).contains(times).tolist() == [x or y for x, y in inside]
    assert first.intersect(second).contains(times).tolist() == [x and y for x, y in inside]
    assert first.subtract(second).contains(times).tolist() == [x and not y for x, y in inside]
