"""LAMB equals the reference, for the backbone and for tables whose rows come and go."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_model import TINY, load, params_from_torch
from optimizer_runs import (
    DIM,
    NUM_ROWS,
    NUM_STEPS,
    choose,
    gradients,
    in_rows,
    random_tree,
    run,
    start,
    whole_tables,
)

from poyo_jax.config import OptimConfig
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.lamb import LambSettings, lamb, lamb_rows, trust_ratio
from poyo_jax.train.optim.rows import with_tables
from poyo_jax.train.optim.schedules import one_cycle, one_cycle_beta1

# our name: the golden file's
NAMES = {"unit_embedding": "emb", "mat": "mat", "big": "big", "bias": "bias"}


def golden_tree(arrays, prefix):
    return {ours: jnp.asarray(arrays[f"{prefix}/{theirs}"]) for ours, theirs in NAMES.items()}


def with_lamb(learning_rate, **settings):
    settings = LambSettings(learning_rate=learning_rate, **settings)
    return with_tables(lamb(settings), lamb_rows(settings), make_mesh())


def moments(state) -> tuple[dict, dict]:
    """Both moments of all parameters; rows that did not move in the last update have none."""
    mu, nu = dict(state.backbone.mu), dict(state.backbone.nu)
    for name, table in state.tables.items():
        moved = np.asarray(table.rows.moved == state.count - 1)[:, None]
        mu[name], nu[name] = table.rows.mu * moved, table.rows.nu * moved
    return mu, nu


@pytest.mark.parametrize("case", ["wd", "nowd", "recipe"])
def test_lamb_equals_the_reference(case):
    arrays = load("sparse_lamb")
    settings = json.loads(str(arrays[f"{case}/hp"]))
    optimizer = with_lamb(settings["lr"], weight_decay=settings["weight_decay"])
    steps = [
        golden_tree({f"g/{k}": arrays[f"grads/{k}"][step] for k in NAMES.values()}, "g")
        for step in range(5)
    ]
    ends = run(optimizer, golden_tree(arrays, f"{case}/param0"), list(map(in_rows, steps)))
    for step, (params, state) in enumerate(ends, start=1):
        mu, nu = moments(state)
        for kind, tree in (("param", params), ("exp_avg", mu), ("exp_avg_sq", nu)):
            for name, expected in golden_tree(arrays, f"{case}/{kind}{step}").items():
                tolerance = 1e-6 * np.abs(expected).max()
                np.testing.assert_allclose(
                    tree[name], expected, rtol=0, atol=tolerance, err_msg=f"{kind}{step} {name}"
                )


@pytest.mark.parametrize("case", ["wd", "nowd", "recipe"])
def test_trust_ratio_equals_the_reference(case):
    arrays = load("sparse_lamb")
    decay = json.loads(str(arrays[f"{case}/hp"]))["weight_decay"]
    for step in range(1, 6):
        for name in NAMES.values():
            before = jnp.asarray(arrays[f"{case}/param{step - 1}/{name}"])
            mu = arrays[f"{case}/exp_avg{step}/{name}"]
            nu = arrays[f"{case}/exp_avg_sq{step}/{name}"]
            moved = mu / (np.sqrt(nu) + 1e-6) + decay * before
            ratio = trust_ratio(jnp.linalg.norm(before), jnp.linalg.norm(moved), 10.0)
            expected = arrays[f"{case}/trust_ratio{step}/{name}"]
            np.testing.assert_allclose(ratio, expected, rtol=1e-6)


def test_clamp_limits_the_weights_norm_in_the_trust_ratio():
    assert trust_ratio(jnp.float32(20), jnp.float32(4), 10.0) == pytest.approx(2.5)
    assert trust_ratio(jnp.float32(20), jnp.float32(4), 100.0) == pytest.approx(5.0)


def test_first_step_of_the_golden_model_equals_the_reference():
    tiny, trained = load("poyo_tiny"), load("train5")
    recipe = json.loads(str(trained["meta"]))
    config = OptimConfig(learning_rate=recipe["lr"], weight_decay=recipe["weight_decay"])
    optimizer, _ = choose(config, recipe["total_steps"], make_mesh())
    params, gradient = (
        jax.tree.map(jnp.asarray, params_from_torch(tiny, prefix, TINY.depth))
        for prefix in ("param", "grad_weighted")
    )
    moved = run(optimizer, params, [in_rows(gradient)])[0][0]
    expected = params_from_torch(trained, "step1", TINY.depth)

    def compare(moved, expected, before):
        tolerance = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(moved, expected, rtol=0, atol=tolerance)
        assert not np.all(moved == before)

    jax.tree.map(compare, moved, expected, params)


# --- tables


def lamb_in_float64(config, schedule, table, steps) -> list[np.ndarray]:
    """A table after each whole gradient, as the reference's optimiser moves it."""
    mu, nu = np.zeros_like(table), np.zeros_like(table)
    ends = []
    for count, gradient in enumerate(steps):
        rate, b1 = (float(schedule(count)[name]) for name in ("learning_rate", "beta1"))
        used = (gradient != 0).any(axis=1, keepdims=True)
        mu = np.where(used, b1 * mu + (1 - b1) * gradient, 0)
        nu = np.where(used, 0.999 * nu + 0.001 * gradient**2, 0)
        step = mu / (np.sqrt(nu) + 1e-6) + config.weight_decay * table
        ratio = min(np.linalg.norm(table), 10.0) / np.linalg.norm(step)
        table = np.where(used, table - rate * ratio * step, table)
        ends.append(table)
    return ends


@pytest.mark.parametrize("count", [12, 24, 80])  # fewer rows than both tables have, one, and none
@pytest.mark.parametrize(
    ("clip_norm", "scale", "decay"),  # a table's norm below and above the clamp
    [(None, 0.3, 0.0), (None, 3.0, 1e-2), (3.0, 0.3, 1e-2)],
)
def test_every_step_equals_that_of_whole_tables(clip_norm, scale, decay, count):
    config = OptimConfig(learning_rate=0.01, weight_decay=decay, clip_norm=clip_norm)
    optimizer, schedule = choose(config, NUM_STEPS, make_mesh())
    steps = gradients(make_mesh(), count)
    ends = run(optimizer, start(scale), steps)
    for name in TABLES:
        assert len(steps[0][name].rows) == min(count, NUM_ROWS[name])
        whole = []
        for gradient in steps:
            factor = 1.0
            if clip_norm is not None:
                values = [gradient["backbone"], *(gradient[table].values for table in TABLES)]
                factor = min(1.0, clip_norm / float(optax.tree.norm(values)))
            whole.append(factor * whole_tables(gradient)[name])
        table = np.asarray(start(scale)[name], np.float64)
        expected = lamb_in_float64(config, schedule, table, whole)
        for (params, _), one in zip(ends, expected, strict=True):
            np.testing.assert_allclose(params[name], one, rtol=1e-5, atol=1e-6)
        assert not np.allclose(expected[-1], table, atol=1e-2)


def test_rows_without_gradient_stay_and_lose_their_moments():
    shapes = {"unit_embedding": (6, 4), "session_embedding": (3, 4), "kernel": (6, 4)}
    first, second = random_tree(1, shapes), random_tree(2, shapes)
    second = {name: gradient.at[1].set(0.0) for name, gradient in second.items()}
    params = random_tree(0, shapes)
    (before, _), (after, state) = run(with_lamb(0.1), params, [in_rows(first), in_rows(second)])
    mu, nu = moments(state)
    for name in TABLES:
        np.testing.assert_array_equal(after[name][1], before[name][1])
        assert not np.any(mu[name][1]) and not np.any(nu[name][1])
        others = np.arange(len(after[name])) != 1
        assert np.all(after[name][others] != before[name][others])
    assert np.all(after["kernel"][1] != before["kernel"][1])
    np.testing.assert_allclose(mu["kernel"][1], 0.9 * 0.1 * first["kernel"][1], rtol=1e-6)


def test_the_squared_norm_does_not_drift():
    config = OptimConfig(learning_rate=1e-4)
    optimizer, _ = choose(config, 2000, make_mesh())
    params, update, steps = start(), jax.jit(optimizer.update), gradients(make_mesh())
    state = optimizer.init(params)
    for step in range(2000):
        params, state = update(steps[step % NUM_STEPS], state, params)
    exact = np.sum(np.asarray(params["unit_embedding"], np.float64) ** 2)
    square = sum(map(np.float64, state.tables["unit_embedding"].shared))
    assert float(square) == pytest.approx(exact, rel=1e-6)


# --- backbone


def in_processor(layers: dict) -> dict:
    """A backbone in which these are the stacked layers of the processor."""
    return {"processor": {"layers": layers}}


def test_stacked_layers_move_as_separate_layers_do():
    shapes = {"kernel": (3, 5, DIM), "bias": (3, DIM)}
    scale = jnp.array([1.0, 0.1, 20.0])  # the last layer's norm exceeds the clamp
    params = {
        name: x * scale.reshape(3, *[1] * (x.ndim - 1))
        for name, x in random_tree(0, shapes).items()
    }
    steps = [random_tree(seed, shapes) for seed in (1, 2)]
    stacked = run(with_lamb(0.1), in_processor(params), [in_processor(x) for x in steps])
    for layer in range(3):
        one, gradient = jax.tree.map(lambda x, layer=layer: x[layer], (params, steps))
        separate = run(with_lamb(0.1), one, gradient)
        for (together, _), (alone, _) in zip(stacked, separate, strict=True):
            for name in shapes:
                np.testing.assert_allclose(
                    together["processor"]["layers"][name][layer], alone[name], rtol=1e-6, atol=1e-7
                )


def test_update_n_uses_both_schedules_at_n():
    rates, betas = jnp.array([1.0, 0.0, 0.5]), jnp.array([0.95, 0.85, 0.9])
    params = random_tree(0, {"kernel": (3, 2)})
    steps = [random_tree(seed, {"kernel": (3, 2)}) for seed in (1, 2, 3)]
    scheduled = with_lamb(lambda count: rates[count], b1=lambda count: betas[count])
    ends, mu = run(scheduled, params, steps), 0.0
    for beta1, gradient, (_, state) in zip(betas, steps, ends, strict=True):
        mu = beta1 * mu + (1 - beta1) * gradient["kernel"]
        np.testing.assert_allclose(state.backbone.mu["kernel"], mu, rtol=1e-5, atol=1e-7)
    constant = run(with_lamb(1.0, b1=0.95), params, steps[:1])
    np.testing.assert_allclose(ends[0][0]["kernel"], constant[0][0]["kernel"], rtol=1e-5)
    np.testing.assert_array_equal(ends[1][0]["kernel"], ends[0][0]["kernel"])
    assert np.all(ends[2][0]["kernel"] != ends[1][0]["kernel"])
    assert int(ends[2][1].count) == 3


def test_state_is_float32_and_can_be_donated():
    optimizer = with_lamb(one_cycle(0.1, 10), b1=one_cycle_beta1(10))
    shapes = {"unit_embedding": (4, 2), "kernel": (3, 2)}
    params, gradient = random_tree(0, shapes), in_rows(random_tree(1, shapes))
    expected, _ = optimizer.update(gradient, optimizer.init(params), params)
    donating = jax.jit(
        lambda params, state: optimizer.update(gradient, state, params), donate_argnums=(0, 1)
    )
    moved, state = donating(params, optimizer.init(params))
    for name in moved:
        np.testing.assert_allclose(moved[name], expected[name], rtol=1e-6)
    before = state
    moved, state = donating(moved, state)
    assert all(x.is_deleted() for x in jax.tree.leaves(before))
    assert state.count == 2 and state.count.dtype == jnp.int32
    assert {x.dtype for x in jax.tree.leaves((moved, moments(state)))} == {jnp.dtype("float32")}


def test_low_precision_parameters_get_float32_moments_and_updates_of_their_own_type():
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16)}
    optimizer = lamb(LambSettings(learning_rate=0.1))
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert updates["kernel"].dtype == jnp.bfloat16
    assert state.mu["kernel"].dtype == state.nu["kernel"].dtype == jnp.float32


def test_lamb_asks_for_the_parameters():
    optimizer = lamb(LambSettings(learning_rate=0.1))
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(
        ValueError, match=r"needs the parameters: call update\(gradients, state, params\)"
    ):
        optimizer.update(params, optimizer.init(params))
