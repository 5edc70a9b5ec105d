"""The Kalman filter against the model that made its data, and against the filter with all its
covariances.
"""

import numpy as np
import pytest

from poyo_jax import Session
from poyo_jax.baselines import fit_baseline
from poyo_jax.baselines.kalman import Kalman, fit_kalman, run_kalman
from poyo_jax.errors import DataError

A = np.array([[0.9, 0.2], [-0.2, 0.9]])
W = np.array([[0.2, 0.05], [0.05, 0.3]])
H = np.random.default_rng(1).normal(size=(7, 2))
ROOT_Q = np.random.default_rng(2).normal(size=(7, 7)) * 0.6
Q = ROOT_Q @ ROOT_Q.T + 0.1 * np.eye(7)
TRUE = Kalman(A, W, H, Q, np.array([1.0, -2.0]), np.arange(7.0))


def simulate(count, seed=0):
    """States and counts of the linear model with Gaussian noise, about their means."""
    rng = np.random.default_rng(seed)
    state, states = np.zeros(2), np.empty((count, 2))
    for i, noise in enumerate(rng.multivariate_normal(np.zeros(2), W, count)):
        states[i] = state = A @ state + noise
    counts = states @ H.T + rng.multivariate_normal(np.zeros(7), Q, count)
    return states + TRUE.mean_state, counts + TRUE.mean_counts


def textbook(counts):
    """The filter with its covariances carried along, as in any textbook."""
    state, covariance, states = np.zeros(2), np.zeros((2, 2)), []
    for y in counts - TRUE.mean_counts:
        state, covariance = A @ state, A @ covariance @ A.T + W
        gain = covariance @ H.T @ np.linalg.inv(H @ covariance @ H.T + Q)
        state = state + gain @ (y - H @ state)
        covariance = (np.eye(2) - gain @ H) @ covariance
        states.append(state)
    return np.array(states) + TRUE.mean_state


def test_the_steady_filter_is_the_textbook_one_after_some_bins():
    _, counts = simulate(200)
    found = run_kalman(TRUE, (counts - TRUE.mean_counts) @ TRUE.gain.T)
    expected = textbook(counts)
    np.testing.assert_allclose(found[30:], expected[30:], atol=1e-6)
    assert np.abs(expected - TRUE.mean_state).max() > 1


def test_series_are_filtered_side_by_side():
    innovations = np.random.default_rng(0).normal(size=(50, 3, 2))
    together = run_kalman(TRUE, innovations)
    np.testing.assert_allclose(together[:, 1], run_kalman(TRUE, innovations[:, 1]), atol=1e-12)


def test_a_fit_recovers_the_model():
    states, counts = simulate(100_000)
    found = fit_kalman(states[1:], states[:-1], counts[1:], np.ones(len(states) - 1))
    for name in ("transition", "transition_noise", "observation", "observation_noise"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(TRUE, name), atol=0.05, err_msg=name
        )
    np.testing.assert_allclose(found.mean_counts, TRUE.mean_counts, atol=0.1)


def test_samples_without_weight_do_not_count():
    states, counts = simulate(2000)
    half = np.repeat([1.0, 0.0], 1000)[1:]
    found = fit_kalman(states[1:], states[:-1], counts[1:], half)
    expected = fit_kalman(states[1:1000], states[:999], counts[1:1000], np.full(999, 3.0))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_shrinkage_leaves_the_diagonal_of_q():
    states, counts = simulate(500)
    counts[:, 3] = 0.0  # a silent unit
    plain, shrunk = (
        fit_kalman(states[1:], states[:-1], counts[1:], np.ones(499), some) for some in (0.0, 1.0)
    )
    q = shrunk.observation_noise
    np.testing.assert_array_equal(q[~np.eye(7, dtype=bool)], 0.0)
    np.testing.assert_allclose(
        np.diag(q)[[0, 1, 2, 4, 5, 6]], np.diag(plain.observation_noise)[[0, 1, 2, 4, 5, 6]]
    )
    assert np.isfinite(plain.gain).all() and np.isfinite(shrunk.gain).all()


def test_slow_states_that_are_hardly_observed_settle():
    """One state and one unit, whose gain has a closed form."""
    a, w, h, q = 1 - 1e-6, 1e-4, 1e-3, 2.0
    hardly = Kalman(*np.array([a, w, h, q]).reshape(4, 1, 1), np.zeros(1), np.zeros(1))
    # P = a^2 P / (1 + P h^2 / q) + w
    information = h**2 / q
    p = np.max(np.roots([information, 1 - a**2 - w * information, -w]))
    np.testing.assert_allclose(hardly.gain, p * h / (p * h**2 + q), rtol=1e-9)


def test_each_of_two_states_settles():
    """The second, a random walk, settles later than the first, whose covariance is far larger."""
    w, h = 1e-14, 0.03
    identity, zeros = np.eye(2), np.zeros(2)
    two = Kalman(np.diag([0.5, 1.0]), np.diag([1.0, w]), np.diag([1.0, h]), identity, zeros, zeros)
    # P = P / (1 + P h^2) + w
    p = (w + np.sqrt(w**2 + 4 * w / h**2)) / 2
    np.testing.assert_allclose(two.gain[1, 1], p * h / (p * h**2 + 1), rtol=1e-6)


def test_a_slow_behaviour_without_tuned_units_is_searched():
    times = np.arange(0, 60, 0.05)
    slow = np.stack([np.sin(times / 20), np.cos(times / 20)], axis=1)
    rng = np.random.default_rng(0)
    session = Session.from_counts(rng.poisson(0.3, (len(times), 5)), 0.05, slow, session_id="slow")
    found = fit_baseline("kalman", session, progress=False)
    assert len(found.trials) > 50 and np.isfinite(found.r2["test"])


def test_what_cannot_be_fitted_is_explained():
    with pytest.raises(
        DataError,
        match="fitted to 2 samples with a sample one bin before them, but needs more than 2",
    ):
        fit_kalman(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 7)), np.ones(2))
    growing = TRUE._replace(transition=2 * np.eye(2), observation=np.zeros((7, 2)))
    with pytest.raises(DataError, match="its state grows by 2 a bin without being observed"):
        _ = growing.gain
