"""Networks that are trained side by side, against one alone; and decoding in pieces, against
windows one by one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax.baselines.networks import NETWORKS, Arrays, Rates, Shape, predict, start, train

UNITS, ROWS = 4, 400


@pytest.fixture(scope="module")
def arrays():
    """Targets that are the running mean of two units' counts."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (ROWS, UNITS)).astype(np.uint16)
    roots = np.sqrt(counts, dtype=np.float32)
    smooth = (
        np.stack([np.convolve(roots[:, i], np.full(3, 1 / 3))[:ROWS] for i in range(2)], axis=1)
        - roots.mean()
    )
    rows = np.arange(50, 300)
    weights = np.isin(np.arange(ROWS), rows).astype(np.float32)
    return Arrays(
        *map(jnp.asarray, (counts, roots.mean(axis=0), roots.std(axis=0), smooth, weights, rows))
    )


def shape_of(network, **changes):
    shape = Shape(network, hidden=8, ticks=1, past=3, future=1, channels=2, num_steps=200)
    return shape._replace(**changes)


def rates_of(*learning_rates, dropout=0.2):
    rates = np.array(learning_rates, np.float32)
    return Rates(
        rates, np.full_like(rates, 0.01), np.full_like(rates, dropout), np.full_like(rates, dropout)
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_trials_side_by_side_are_trials_alone(arrays, network):
    shape, keys, rates = (
        shape_of(network),
        jax.random.split(jax.random.key(0), 2),
        rates_of(1e-2, 1e-3, dropout=0.0),
    )
    together, _ = train(
        shape, arrays, rates, start(shape, UNITS, keys), jax.random.key(1), jnp.asarray(0), 20
    )
    for i in range(2):
        one = Rates(*(some[i : i + 1] for some in rates))
        alone, _ = train(
            shape,
            arrays,
            one,
            start(shape, UNITS, keys[i : i + 1]),
            jax.random.key(1),
            jnp.asarray(0),
            20,
        )
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=2e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_twice_ten_steps_are_twenty(arrays, network):
    shape, rates, key = shape_of(network), rates_of(1e-2), jax.random.key(1)
    state = start(shape, UNITS, jax.random.split(jax.random.key(0), 1))
    once, _ = train(shape, arrays, rates, state, key, jnp.asarray(0), 20)
    half = train(shape, arrays, rates, state, key, jnp.asarray(0), 10)
    twice, _ = train(shape, arrays, rates, half, key, jnp.asarray(10), 10)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_training_learns(arrays, network):
    shape, rates = shape_of(network), rates_of(1e-2, 1e-8, dropout=0.0)
    state = start(shape, UNITS, jax.random.split(jax.random.key(0), 2))
    params, _ = train(shape, arrays, rates, state, jax.random.key(1), jnp.asarray(0), 200)
    rows = np.arange(320, 390)  # no train row
    errors = np.square(
        predict(shape, arrays, params, rows) - np.asarray(arrays.targets)[rows]
    ).mean(axis=(1, 2))
    spread = np.asarray(arrays.targets)[rows].var()
    assert errors[0] < 0.7 * spread < errors[1]


@pytest.mark.parametrize("ticks", [1, 3])
def test_the_mlp_sees_exactly_its_bins(arrays, ticks):
    shape = shape_of("mlp", ticks=ticks, past=3, future=2)
    params, _ = start(shape, UNITS, jax.random.split(jax.random.key(0), 1))
    rows = np.array([200, 100, 101, 37])
    found = predict(shape, arrays, params, rows)[0]
    for row, value in zip(rows, found, strict=True):
        bins = row + ticks * np.arange(
            -2, 3
        )  # three that end at or before the sample, two after it
        x = (np.sqrt(np.asarray(arrays.counts)[bins]) - arrays.mean) / arrays.std
        expected = shape.module.apply(
            jax.tree.map(lambda p: p[0], params), jnp.asarray(x[None], jnp.float32)
        )
        np.testing.assert_allclose(value, expected[0, 0], atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("future", [0, 2])
def test_no_spike_beyond_the_reach_counts(arrays, network, future):
    shape = shape_of(network, future=future, ticks=2)
    params, _ = start(shape, UNITS, jax.random.split(jax.random.key(0), 1))
    last = 200 + 2 * future
    later = arrays._replace(counts=arrays.counts.at[last + 1 :].add(3))
    own = arrays._replace(counts=arrays.counts.at[last].add(3))
    value = predict(shape, arrays, params, np.array([200]))
    np.testing.assert_allclose(predict(shape, later, params, np.array([200])), value, atol=1e-6)
    assert np.abs(predict(shape, own, params, np.array([200])) - value).max() > 1e-4


def test_dropout_keeps_the_mean_and_depends_on_the_seed():
    shape = shape_of("mlp")
    params, _ = start(shape, UNITS, jax.random.split(jax.random.key(0), 1))
    params, x = jax.tree.map(lambda p: p[0], params), jnp.ones((2, 20, UNITS))
    rates = Rates(0.0, 0.0, jnp.float32(0.4), jnp.float32(0.0))
    some = [shape.module.apply(params, x, rates, jnp.uint32(seed)) for seed in range(100)]
    assert np.abs(some[0] - some[1]).max() > 1e-3
    hidden_noise = np.std(some, axis=0).mean()
    assert np.abs(np.mean(some, axis=0) - shape.module.apply(params, x)).mean() < hidden_noise
