"""Norms and effective ranks, against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from poyo_jax import train_model
from poyo_jax.train.reliability.health import effective_rank, effective_ranks, parameter_norms
from poyo_jax.train.writers import read_metrics


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7), (3, 6, 4)])
def test_effective_rank_is_the_participation_ratio(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    squared = np.linalg.svd(matrix, compute_uv=False) ** 2
    expected = squared.sum(-1) ** 2 / (squared**2).sum(-1)
    np.testing.assert_allclose(
        effective_rank(jnp.asarray(matrix, jnp.float32)), expected, rtol=1e-4
    )


def test_effective_rank_counts_directions():
    assert float(effective_rank(jnp.eye(6))) == pytest.approx(6)
    assert float(effective_rank(jnp.ones((6, 3)))) == pytest.approx(1)
    assert float(effective_rank(jnp.zeros((6, 3)))) == 0


def test_stacked_layers_give_the_least_and_vectors_none():
    layers = jnp.stack([jnp.eye(4), jnp.ones((4, 4))])
    params = {
        "processor": {"layers": {"kernel": layers, "bias": jnp.ones((2, 4))}},
        "readout": {"bias": jnp.ones(4)},
    }
    assert effective_ranks(params) == {"processor.layers.kernel": pytest.approx(1)}
    assert parameter_norms(params)["processor.layers.kernel"] == pytest.approx(20**0.5)


def test_runs_log_them_at_every_evaluation(tmp_path):
    train_model(
        tiny.config(num_steps=4, eval_every=2), [tiny.simulate(0)], tmp_path, progress=False
    )
    looks = [line for line in read_metrics(tmp_path) if "effective_rank" in line]
    assert [line["step"] for line in looks] == [2, 4]
    assert looks[0]["parameter_norm"]["backbone.head.kernel"] > 0
    assert (
        1 <= looks[0]["effective_rank"]["backbone.processor.layers.attention.output.kernel"] <= 16
    )
