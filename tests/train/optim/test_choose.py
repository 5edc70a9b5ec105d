"""The optimiser of a configuration: schedule, clipping, and accumulation of gradients."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_runs import (
    NUM_ROWS,
    choose,
    gradients,
    looked_up,
    run,
    start,
    summed_gradient,
)

from poyo_jax.config import OptimConfig, OptimizerName
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import ConfigError
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.adam import AdamW
from poyo_jax.train.optim.choose import BUILT_IN

NAMES = get_args(OptimizerName)


def make(num_updates: int = 20, **settings):
    config = OptimConfig(**{"learning_rate": 0.08, "warmup_steps": 4} | settings)
    return choose(config, num_updates, make_mesh())


@pytest.mark.parametrize("name", NAMES)
def test_the_optimizer_follows_the_schedule_it_reports(name):
    optimizer, schedule = make(name=name)
    peak = max(float(schedule(step)["learning_rate"]) for step in range(20))
    assert peak == pytest.approx(0.08)
    assert float(schedule(0)["beta1"]) == pytest.approx(0.95 if name == "sparse_lamb" else 0.9)
    # A constant gradient moves a zero bias by the rate times a step that both formulas give.
    params = {"bias": jnp.zeros(1)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(20):
        beta1, rate = (float(schedule(step)[key]) for key in ("beta1", "learning_rate"))
        if name == "sparse_lamb":
            mu, nu = (
                np.asarray(optax.tree_utils.tree_get(state, moment)["bias"])
                for moment in ("mu", "nu")
            )
            size = rate * (beta1 * mu + 1 - beta1) / (np.sqrt(0.999 * nu + 0.001) + 1e-6)
        else:
            size = rate
        moved, state = update({"bias": jnp.ones(1)}, state, {"bias": jnp.zeros(1)})
        np.testing.assert_allclose(moved["bias"], -size, rtol=1e-4)


def test_the_configuration_knows_the_names_of_all_optimizers():
    assert set(NAMES) == set(BUILT_IN)


class Descent(AdamW):
    """Plain gradient descent, an optimiser of one's own."""

    def backbone(self, learning_rate, beta1):
        return optax.sgd(learning_rate)


def test_an_optimizer_of_ones_own_is_named_by_its_import_path():
    optimizer, schedule = make(name=f"{__name__}:Descent", warmup_steps=0)
    params = {"kernel": jnp.ones((2, 2))}
    moved, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(moved["kernel"], 1 - 0.08, rtol=1e-6)
    assert float(schedule(0)["learning_rate"]) == pytest.approx(0.08)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(
        ConfigError, match="subprocess:Popen', which is not an optimiser: it has no"
    ):
        make(name="subprocess:Popen")
    with pytest.raises(ConfigError, match=r"OptimConfig.name is 'stranger:Descent', but module"):
        make(name="stranger:Descent")


def test_a_warmup_must_be_shorter_than_the_run():
    with pytest.raises(
        ConfigError,
        match=r"warmup_steps is 100, but the run makes only 50 updates; .* Lower OptimConfig",
    ):
        make(50, name="adamw", warmup_steps=100)


def test_clipping_bounds_the_gradient_before_the_moments():
    params, gradient = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.full((2, 2), 50.0)}  # norm 100
    optimizer, _ = make(clip_norm=1.0)
    state = run(optimizer, params, [gradient])[0][1]
    mu = optax.tree_utils.tree_get(state, "mu")["kernel"]
    np.testing.assert_allclose(mu, 0.05 * 0.5, rtol=1e-5)


def test_clipping_bounds_the_gradient_of_tables_together_with_the_rest():
    gradient = gradients(make_mesh())[0]
    values = [gradient["backbone"], *(gradient[table].values for table in TABLES)]
    norm = float(optax.tree.norm(values))
    clipped, small = make(clip_norm=0.5 * norm)[0], make(clip_norm=2 * norm)[0]
    halved = {
        name: value._replace(values=value.values / 2) if name in TABLES else value
        for name, value in gradient.items()
    }
    halved["backbone"] = jax.tree.map(lambda x: x / 2, gradient["backbone"])
    for optimizer, given in ((clipped, halved), (small, gradient)):
        moved = run(optimizer, start(), [gradient])[0][0]
        expected = run(make()[0], start(), [given])[0][0]
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), moved, expected)


# --- accumulation


def assert_close(trees, expected):
    def compare(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)

    jax.tree.map(compare, trees, expected)


@pytest.mark.parametrize("name", NAMES)
def test_two_equal_batches_move_the_parameters_as_one(name):
    """In every update; rows come and go between them."""
    accumulating, _ = make(name=name, clip_norm=0.5, accumulate_steps=2)
    plain, _ = make(name=name, clip_norm=0.5)
    steps = gradients(make_mesh(), 12)[:8]
    twice = [gradient for gradient in steps for _ in range(2)]
    ends, expected = run(accumulating, start(), twice), run(plain, start(), steps)
    previous = start()
    for number, (params, state) in enumerate(expected):
        waiting, updated = ends[2 * number], ends[2 * number + 1]
        jax.tree.map(np.testing.assert_array_equal, waiting[0], previous)
        assert_close(updated[0], params)
        assert_close(updated[1].optimizer, state)
        previous = updated[0]
    moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), previous, start())
    assert min(jax.tree.leaves(moved)) > 1e-3


def joined(group: list[dict]) -> dict:
    """The gradient, by look-up, of all batches of a group together."""
    weight = np.float32(1 / len(group))
    backbones = [gradient["backbone"] for gradient in group]
    gradient: dict = {"backbone": jax.tree.map(lambda *x: weight * sum(x), *backbones)}
    for table in NUM_ROWS:
        rows = np.concatenate([one[table][0] for one in group])
        vectors = np.concatenate([one[table][1] for one in group])
        gradient[table] = rows, weight * vectors
    return gradient


@pytest.mark.parametrize("count", [12, 80])  # fewer rows than both tables have, and more
@pytest.mark.parametrize("name", NAMES)
def test_different_batches_move_the_parameters_as_one_large_batch(name, count):
    num_batches = 3
    accumulating, _ = make(name=name, accumulate_steps=num_batches, clip_norm=3.0)
    plain, _ = make(name=name, clip_norm=3.0)
    mesh = make_mesh()
    batches = looked_up(count)[: 4 * num_batches]
    groups = [batches[first : first + num_batches] for first in range(0, 12, num_batches)]
    large = [summed_gradient(joined(group), mesh) for group in groups]
    ends = run(accumulating, start(), [summed_gradient(gradient, mesh) for gradient in batches])
    for updated, expected in zip(
        ends[num_batches - 1 :: num_batches], run(plain, start(), large), strict=True
    ):
        assert_close(updated[0], expected[0])


def test_an_incomplete_set_of_batches_moves_nothing():
    optimizer, _ = make(accumulate_steps=2)
    ends = run(optimizer, start(), gradients(make_mesh())[:3])
    jax.tree.map(np.testing.assert_array_equal, ends[2][0], ends[1][0])
    assert ends[2][1].batches == 1 and any(x.any() for x in jax.tree.leaves(ends[2][1].sums))
    assert ends[1][1].batches == 0 and not any(x.any() for x in jax.tree.leaves(ends[1][1].sums))
