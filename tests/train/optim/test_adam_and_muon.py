"""AdamW and Muon decay matrices alone, and Adam moves each row of a table as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_runs import NUM_ROWS, gradients, run, start

from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.adam import adam_rows, adamw
from poyo_jax.train.optim.muon import muon
from poyo_jax.train.optim.rows import with_tables
from poyo_jax.train.optim.schedules import warmup_cosine

RATE = 0.01


def one_update(rule, params, gradient):
    updates, _ = jax.jit(rule.update)(gradient, rule.init(params), params)
    return optax.apply_updates(params, updates)


def test_muon_makes_orthogonal_steps_of_every_layer_and_adams_of_the_rest():
    rng = np.random.default_rng(0)
    shapes = {
        "latent_embedding": (5, 4),
        "processor": {"layers": {"kernel": (3, 4, 8), "bias": (3, 8)}},
        "readout": {"kernel": (6, 2)},
    }
    gradient = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    params = jax.tree.map(jnp.zeros_like, gradient)
    moved = one_update(muon(lambda step: 0.1, weight_decay=0.0), params, gradient)
    layers = moved["processor"]["layers"]
    for name, matrix in (("layers", layers["kernel"]), ("readout", moved["readout"]["kernel"])):
        size = 0.1 * 0.2 * np.sqrt(max(matrix.shape[-2:]))
        scales = np.linalg.svd(matrix, compute_uv=False) / size
        # Newton-Schulz makes them about 1.
        assert (scales > 0.6).all() and (scales < 1.3).all(), name
    for ours, theirs in (
        (moved["latent_embedding"], gradient["latent_embedding"]),
        (layers["bias"], gradient["processor"]["layers"]["bias"]),
    ):
        assert (np.sign(ours) == -np.sign(theirs)).all()
        assert np.ptp(np.abs(ours)) < 1e-6  # Adam's first step


@pytest.mark.parametrize(
    "rule", [muon(lambda step: 0.5, 0.2), adamw(warmup_cosine(0.5, 10, 0), 0.2)]
)
def test_only_matrices_decay(rule):
    params = {
        "unit_embedding": jnp.ones((3, 2)),
        "latent_embedding": jnp.ones((3, 2)),
        "readout": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "processor": {"layers": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}},
    }
    moved = one_update(rule, params, jax.tree.map(jnp.zeros_like, params))
    expected = {
        "unit_embedding": 1.0,
        "latent_embedding": 1.0,
        "readout": {"kernel": 0.9, "bias": 1.0},
        "processor": {"layers": {"kernel": 0.9, "bias": 1.0}},
    }
    jax.tree.map(lambda x, value: np.testing.assert_allclose(x, value, rtol=1e-6), moved, expected)


@pytest.mark.parametrize("count", [12, 80])  # fewer rows than both tables have, and more
def test_adam_moves_every_row_as_if_it_were_alone(count):
    """A row that has a gradient in every step moves as in whole tables, too."""
    steps = gradients(make_mesh(), count)
    optimizer = with_tables(optax.identity(), adam_rows(RATE), make_mesh())
    ends = run(optimizer, start(), steps)[-1][0]
    alone = optax.adam(RATE)
    for name in TABLES:
        for row in range(0, NUM_ROWS[name], 3):
            vector = start()[name][row]
            state = alone.init(vector)
            for gradient in steps:
                values = np.asarray(gradient[name].values)[np.asarray(gradient[name].rows) == row]
                if values.any():
                    change, state = alone.update(jnp.asarray(values[0]), state)
                    vector = vector + change
            np.testing.assert_allclose(ends[name][row], vector, rtol=1e-5, atol=1e-6)
