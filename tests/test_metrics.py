"""R2 against its definition, and its handling of what is missing."""

import numpy as np
import pytest

from poyo_jax.errors import DataError
from poyo_jax.metrics import r2_of_sums, r2_per_channel, r2_score, r2_sums


def test_the_known_cases():
    targets = np.array([[1.0, 0.0], [2.0, 2.0], [3.0, 4.0]])
    assert r2_score(targets, targets) == 1.0
    np.testing.assert_allclose(r2_per_channel(targets, np.tile(targets.mean(axis=0), (3, 1))), 0.0)
    np.testing.assert_allclose(
        r2_per_channel(targets, targets + np.array([1.0, 2.0])), [1 - 3 / 2, 1 - 12 / 8]
    )
    assert r2_score(targets, targets + np.array([1.0, 0.0])) == pytest.approx((1 - 3 / 2 + 1) / 2)


def test_samples_without_targets_do_not_count():
    rng = np.random.default_rng(0)
    targets, predictions = rng.normal(size=(2, 30, 2))
    gappy = np.insert(targets, [4, 9], np.nan, axis=0)
    gappy[4, 0] = 3.0  # one channel measured, the other not
    filled = np.insert(predictions, [4, 9], 100.0, axis=0)
    assert r2_score(gappy, filled) == r2_score(targets, predictions)


def test_large_offsets_cost_no_precision():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(50_000, 1)).astype(np.float32) + np.float32(4096)
    assert r2_score(targets, targets + np.float32(1)) == pytest.approx(
        1 - 1 / np.var(targets, dtype=np.float64), abs=1e-3
    )


def test_channels_that_never_vary_do_not_count():
    # 0.1 is no sum of powers of two: the mean of its copies differs from it by rounding.
    targets = np.stack([np.arange(7.0), np.full(7, 0.1)], axis=1)
    predictions = targets + np.array([1.0, 5.0])
    per_channel = r2_per_channel(targets, predictions)
    assert per_channel[0] == 1 - 7 / 28
    assert np.isnan(per_channel[1])
    assert r2_score(targets, predictions) == per_channel[0]
    for origin in ((3.0, 0.1), (0.0, 0.0), (3.0, 40.0)):
        sums = r2_sums(targets, predictions, origin)
        assert r2_of_sums(sums) == pytest.approx(per_channel[0])
        assert np.isnan(r2_of_sums(sums[:, 1:]))
    with pytest.raises(DataError, match=r"none of the 1 channels of the targets varies.*leave the"):
        r2_score(targets[:, 1:], predictions[:, 1:])
    predictions[2, 0] = np.nan  # a prediction that is not finite is no flat channel
    assert np.isnan(r2_score(targets, predictions))
    assert np.isnan(r2_of_sums(r2_sums(targets, predictions, (0.0, 0.0))))


def test_too_few_samples_are_explained():
    targets = np.array([[1.0], [np.nan], [np.nan]])
    with pytest.raises(
        DataError,
        match="R2 needs at least 2 samples with targets, but got 1 of 3; check that the split",
    ):
        r2_score(targets, np.zeros((3, 1)))


def test_different_shapes_are_explained():
    with pytest.raises(DataError, match=r"targets have shape \(3, 1\) but predictions \(3, 2\)"):
        r2_score(np.zeros((3, 1)), np.zeros((3, 2)))
