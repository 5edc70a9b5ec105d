"""What units fire to, and the embeddings guessed from it."""

import json

import numpy as np
import pytest
from relabelled import labels_of, with_labels

from poyo_jax import Readout, Session
from poyo_jax.data.readout import default_readout
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import DataError
from poyo_jax.tuning import TuningMap, tuning_features, untrained_rows


@pytest.fixture(scope="module")
def session():
    return simulate_session(5, num_units=30, duration=60.0, task="random_target")


def features_of(session, intervals=None):
    return tuning_features(session, default_readout(session), intervals or session.split("train"))


def test_features_tell_rate_and_direction(session):
    features = features_of(session)
    assert features.shape == (30, 1 + 6 * 3)
    rates = np.bincount(np.asarray(session.spike_units), minlength=30) / 60
    assert np.corrcoef(features[:, 0], np.log(rates + 0.1))[0, 1] > 0.95
    behaviour = session.behaviour("cursor.vel")
    velocity = behaviour.values(0, behaviour.count)
    times, units = np.asarray(session.spike_times), np.asarray(session.spike_units)
    later = velocity[
        ((times + 0.1) * 100).astype(int).clip(0, len(velocity) - 1)
    ]  # 0.1 s after every spike
    after = np.stack([later[units == unit].mean(axis=0) for unit in range(30)])
    slopes = features[:, 1:].reshape(30, 6, 3)
    for channel in range(2):
        assert np.corrcoef(slopes[:, 2, channel], after[:, channel])[0, 1] > 0.9


def test_labels_elsewhere_do_not_matter(session):
    labels = session.split("valid")
    times, values = labels_of(session)
    values[~labels.contains(times)] = np.nan
    other = with_labels(session, values)
    readout = Readout(value_key="cursor.vel", mean=(0, 0), std=(10, 10))
    np.testing.assert_array_equal(
        tuning_features(session, readout, labels), tuning_features(other, readout, labels)
    )


def test_too_few_samples(session):
    behaviour = session.behaviour("cursor.vel")
    nothing = np.full((behaviour.count, 2), np.nan)
    times = behaviour.times_at(np.arange(behaviour.count))
    other = Session.from_arrays([0.5], [0], ["a"], times, nothing, session_id="other")
    readout = Readout(value_key="cursor.vel", mean=(0, 0), std=(1, 1))
    with pytest.raises(
        DataError, match=r"other has 0 measured samples of cursor.vel in the .* s to learn from"
    ):
        tuning_features(other, readout, other.split("train"))


def test_units_of_like_tuning_start_alike_before_there_is_a_model(session):
    """Rows are as far from each other as the scaled features are, whatever the session's rates of
    change.
    """
    features = features_of(session)
    rows = untrained_rows(features, 32)
    assert rows.shape == (30, 32)
    steeper = features * np.r_[1, np.full(18, 7.0)].astype(np.float32)
    np.testing.assert_allclose(untrained_rows(steeper, 32), rows, atol=1e-5)
    twice = untrained_rows(np.concatenate([features, features]), 32)
    np.testing.assert_allclose(twice, np.concatenate([rows, rows]), atol=1e-6)
    scaled = np.c_[
        (features[:, 0] - 1) / 2, features[:, 1:] / np.sqrt(np.mean(features[:, 1:] ** 2))
    ]
    np.testing.assert_allclose(rows @ rows.T, 0.01 * scaled @ scaled.T, atol=1e-4)


def test_a_row_of_few_numbers_says_what_it_can(session):
    rows = untrained_rows(features_of(session), 8)
    assert rows.shape == (30, 8)
    assert np.linalg.matrix_rank(rows) == 8


def test_units_that_never_spike_and_flat_behaviour_start_somewhere():
    assert np.isfinite(untrained_rows(np.zeros((3, 19), np.float32), 16)).all()


def test_a_linear_relation_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((40, 5)).astype(np.float32) for _ in range(4)]
    weights = rng.standard_normal((5, 3)).astype(np.float32)
    related = TuningMap.fit(features, [some @ weights + 1 for some in features])
    new = rng.standard_normal((100, 5)).astype(np.float32)
    errors = np.square(related.rows(new) - new @ weights - 1).mean()
    assert errors < 0.05 * np.square(weights).sum(axis=0).mean()
    rows = [rng.standard_normal((40, 3)).astype(np.float32) for _ in range(4)]
    unrelated = TuningMap.fit(features, rows)
    np.testing.assert_allclose(
        unrelated.rows(new), np.tile(np.concatenate(rows).mean(axis=0), (100, 1)), atol=0.1
    )
    assert np.isfinite(TuningMap.fit(features[:1], rows[:1]).rows(new)).all()
    assert np.isfinite(TuningMap.fit([features[0][:1]], [rows[0][:1]]).rows(new)).all()
    with pytest.raises(DataError, match="takes 5 features of a unit, but there are 4"):
        related.rows(new[:, :4])


def literal_map(x, y, ridge):
    """Ridge regression on standardised features, written out: (mean, std, weights, origin)."""
    mean, std, origin = x.mean(axis=0), x.std(axis=0) + 1e-6, y.mean(axis=0)
    scaled = (x - mean) / std
    penalty = ridge * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (y - origin))
    return mean, std, weights, origin


@pytest.mark.parametrize("num_sessions", [1, 3])
def test_the_map_is_the_ridge_regression_that_predicts_left_out_sessions_best(num_sessions):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 3))
    features = [rng.standard_normal((20, 5)).astype(np.float32) for _ in range(num_sessions)]
    rows = [some @ weights + rng.standard_normal((20, 3)) for some in features]
    x, y = np.concatenate(features).astype(np.float64), np.concatenate(rows)
    folds = np.repeat(np.arange(3), 20) if num_sessions == 3 else np.arange(20) % 5
    errors = {}
    for ridge in (0.1, 1.0, 10.0, 1e6):
        errors[ridge] = 0.0
        for fold in np.unique(folds):
            inside = folds == fold
            mean, std, slopes, origin = literal_map(x[~inside], y[~inside], ridge)
            predicted = origin + (x[inside] - mean) / std @ slopes
            errors[ridge] += np.sum((predicted - y[inside]) ** 2)
    fitted = TuningMap.fit(features, rows)
    expected = literal_map(x, y, min(errors, key=errors.get))
    for found, value in zip((fitted.mean, fitted.std, fitted.weights), expected, strict=False):
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fitted.origin, expected[3], rtol=1e-9)


def test_a_map_comes_back_from_its_values():
    rng = np.random.default_rng(0)
    fitted = TuningMap.fit(
        [rng.standard_normal((9, 4)).astype(np.float32)], [rng.standard_normal((9, 2)).astype("f4")]
    )
    again = TuningMap.from_dict(json.loads(json.dumps(fitted.to_dict())))
    for name in ("mean", "std", "weights", "origin"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
