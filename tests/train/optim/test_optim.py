import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_model import TINY, load, params_from_torch

from poyo_jax.config import OptimConfig
from poyo_jax.errors import ConfigError
from poyo_jax.model.params import is_stacked, is_table
from poyo_jax.train.optim.optax_rules import (
    adamw,
    make_optimizer,
    muon,
    one_cycle,
    one_cycle_beta1,
    sparse_lamb,
    trust_ratio,
    warmup_cosine,
)

NAMES = {
    "unit_embedding": "emb",
    "mat": "mat",
    "big": "big",
    "bias": "bias",
}  # ours: the golden file's


def golden_tree(arrays, prefix):
    return {ours: jnp.asarray(arrays[f"{prefix}/{theirs}"]) for ours, theirs in NAMES.items()}


def random_tree(seed, shapes):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()
    }


def run(optimizer, params, gradients):
    """Parameters, updates and state after each gradient."""
    state, steps = optimizer.init(params), []
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
        steps.append((params, updates, state))
    return steps


@pytest.mark.parametrize("case", ["wd", "nowd", "recipe"])
def test_sparse_lamb_equals_the_reference(case):
    arrays = load("sparse_lamb")
    settings = json.loads(str(arrays[f"{case}/hp"]))
    optimizer = sparse_lamb(settings["lr"], weight_decay=settings["weight_decay"])
    gradients = [
        golden_tree({f"g/{k}": arrays[f"grads/{k}"][step] for k in NAMES.values()}, "g")
        for step in range(5)
    ]
    steps = run(optimizer, golden_tree(arrays, f"{case}/param0"), gradients)
    for step, (params, _, state) in enumerate(steps, start=1):
        for kind, tree in (("param", params), ("exp_avg", state.mu), ("exp_avg_sq", state.nu)):
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
            before = arrays[f"{case}/param{step - 1}/{name}"]
            mu, nu = (
                arrays[f"{case}/exp_avg{step}/{name}"],
                arrays[f"{case}/exp_avg_sq{step}/{name}"],
            )
            moved = jnp.asarray(mu / (np.sqrt(nu) + 1e-6) + decay * before)
            ratio = trust_ratio(jnp.asarray(before), moved, 10.0, stacked=False)
            np.testing.assert_allclose(
                ratio.item(), arrays[f"{case}/trust_ratio{step}/{name}"], rtol=1e-6
            )


def test_clamp_limits_the_weights_norm_in_the_trust_ratio():
    weights, step = jnp.full((4, 4), 5.0), jnp.ones((4, 4))  # norms 20 and 4
    assert trust_ratio(weights, step, 10.0, stacked=False).item() == pytest.approx(2.5)
    assert trust_ratio(weights, step, 100.0, stacked=False).item() == pytest.approx(5.0)


def test_rows_without_gradient_stay_and_lose_their_moments():
    params = random_tree(
        0, {"unit_embedding": (6, 4), "session_embedding": (3, 4), "kernel": (6, 4)}
    )
    first, second = (
        random_tree(1, jax.tree.map(jnp.shape, params)),
        random_tree(2, jax.tree.map(jnp.shape, params)),
    )
    second = {name: gradient.at[1].set(0.0) for name, gradient in second.items()}
    (before, _, _), (after, _, state) = run(sparse_lamb(0.1), params, [first, second])
    for name in ("unit_embedding", "session_embedding"):
        np.testing.assert_array_equal(after[name][1], before[name][1])
        assert not np.any(state.mu[name][1]) and not np.any(state.nu[name][1])
        others = np.arange(len(after[name])) != 1
        assert np.all(after[name][others] != before[name][others])
    assert np.all(after["kernel"][1] != before["kernel"][1])
    np.testing.assert_allclose(state.mu["kernel"][1], 0.9 * 0.1 * first["kernel"][1], rtol=1e-6)


def test_stacked_layers_move_as_separate_layers_do():
    shapes = {"kernel": (3, 5, 4), "bias": (3, 4)}
    scale = jnp.array([1.0, 0.1, 20.0])  # the last layer's norm exceeds the clamp
    params = {
        name: x * scale.reshape(3, *[1] * (x.ndim - 1))
        for name, x in random_tree(0, shapes).items()
    }
    gradients = [random_tree(seed, shapes) for seed in (1, 2)]
    stacked = run(
        sparse_lamb(0.1), {"layers": params}, [{"layers": gradient} for gradient in gradients]
    )
    for layer in range(3):
        one = jax.tree.map(lambda x, layer=layer: x[layer], (params, gradients))
        for (together, _, _), (alone, _, _) in zip(
            stacked, run(sparse_lamb(0.1), *one), strict=True
        ):
            for name in shapes:
                np.testing.assert_allclose(
                    together["layers"][name][layer], alone[name], rtol=1e-6, atol=1e-7
                )


def test_update_n_uses_both_schedules_at_n():
    rates, betas = jnp.array([1.0, 0.0, 0.5]), jnp.array([0.95, 0.85, 0.9])
    params = random_tree(0, {"kernel": (3, 2)})
    gradients = [random_tree(seed, {"kernel": (3, 2)}) for seed in (1, 2, 3)]
    scheduled = sparse_lamb(lambda count: rates[count], b1=lambda count: betas[count])
    steps, mu = run(scheduled, params, gradients), 0.0
    for beta1, gradient, (_, _, state) in zip(betas, gradients, steps, strict=True):
        mu = beta1 * mu + (1 - beta1) * gradient["kernel"]
        np.testing.assert_allclose(state.mu["kernel"], mu, rtol=1e-5, atol=1e-7)
    constant = run(sparse_lamb(1.0, b1=0.95), params, gradients[:1])
    np.testing.assert_allclose(steps[0][1]["kernel"], constant[0][1]["kernel"], rtol=1e-5)
    assert not np.any(steps[1][1]["kernel"])
    assert np.all(steps[2][1]["kernel"] != 0)
    assert int(steps[2][2].count) == 3


def test_state_is_float32_and_can_be_donated():
    optimizer = sparse_lamb(one_cycle(0.1, 10), b1=one_cycle_beta1(10))
    params = random_tree(0, {"unit_embedding": (4, 2), "kernel": (3, 2)})
    gradient = random_tree(1, {"unit_embedding": (4, 2), "kernel": (3, 2)})

    def step(params, state):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    expected, _ = step(params, optimizer.init(params))
    donating = jax.jit(step, donate_argnums=(0, 1))
    moved, state = donating(params, optimizer.init(params))
    for name in moved:
        np.testing.assert_allclose(moved[name], expected[name], rtol=1e-6)
    before = state
    moved, state = donating(moved, state)
    assert all(x.is_deleted() for x in jax.tree.leaves(before))
    assert state.count == 2 and state.count.dtype == jnp.int32
    assert {x.dtype for x in jax.tree.leaves((moved, state.mu, state.nu))} == {jnp.dtype("float32")}


def test_low_precision_parameters_get_float32_moments_and_updates_of_their_own_type():
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16)}
    _, updates, state = run(sparse_lamb(0.1), params, [params])[0]
    assert updates["kernel"].dtype == jnp.bfloat16
    assert state.mu["kernel"].dtype == state.nu["kernel"].dtype == jnp.float32


def test_sparse_lamb_asks_for_the_parameters():
    optimizer = sparse_lamb(0.1)
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(
        ValueError, match=r"needs the parameters: call update\(gradients, state, params\)"
    ):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize("num_steps", [40, 1000])
def test_one_cycle_equals_pytorch(num_steps):
    steps = np.arange(num_steps)
    arrays = load("onecycle")
    schedules = {
        "lr": one_cycle(float(arrays[f"max_lr/{num_steps}"]), num_steps),
        "beta1": one_cycle_beta1(num_steps),
    }
    for name, schedule in schedules.items():
        expected = arrays[f"{name}/{num_steps}"]
        np.testing.assert_allclose(schedule(steps), expected, rtol=1e-12)
        np.testing.assert_allclose(schedule(steps.astype(np.float64)), expected, rtol=1e-12)
        np.testing.assert_allclose(jax.jit(schedule)(jnp.arange(num_steps)), expected, rtol=1e-6)
        np.testing.assert_allclose(
            jax.jit(schedule)(jnp.int32(num_steps // 3)), expected[num_steps // 3], rtol=1e-6
        )
        for later in (num_steps, num_steps + 1, 10 * num_steps):
            np.testing.assert_allclose(schedule(later), expected[-1], rtol=1e-12)
            np.testing.assert_allclose(schedule(jnp.int32(later)), expected[-1], rtol=1e-6)


@pytest.mark.parametrize("pct_start", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_one_cycle_of_few_steps_is_finite_and_bounded(num_steps, pct_start):
    steps = np.arange(num_steps)
    rates, betas = (
        one_cycle(2.0, num_steps, pct_start)(steps),
        one_cycle_beta1(num_steps, pct_start)(steps),
    )
    assert np.all((rates >= 2e-4 - 1e-12) & (rates <= 2.0)) and np.all(
        (betas >= 0.85 - 1e-12) & (betas <= 0.95)
    )
    assert rates[-1] == pytest.approx(2e-4) and betas[-1] == pytest.approx(0.95)
    np.testing.assert_allclose(
        one_cycle(2.0, num_steps, pct_start)(jnp.asarray(steps)), rates, rtol=1e-5
    )


@pytest.mark.parametrize(
    "make", [lambda n: one_cycle(1.0, n), one_cycle_beta1, lambda n: warmup_cosine(1.0, n, 0)]
)
def test_schedules_need_a_step(make):
    with pytest.raises(
        ConfigError, match=r"has 0 steps; it needs at least 1\. Raise RunConfig\.num_steps"
    ):
        make(0)


def test_warmup_must_be_shorter_than_the_run():
    with pytest.raises(
        ConfigError,
        match=r"warmup_steps is 100, but the run makes only 50 updates; .* Lower OptimConfig",
    ):
        make_optimizer(OptimConfig(name="adamw"), 50, 8)


def test_warmup_cosine_rises_in_a_line_and_falls_to_zero():
    rates = np.array([warmup_cosine(2.0, 30, 10)(step) for step in range(40)])
    np.testing.assert_allclose(rates[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(rates[20], 1.0, rtol=1e-6)
    np.testing.assert_allclose(rates[30:], 0.0, atol=1e-6)


def test_warmup_cosine_holds_its_peak():
    rates = np.array([warmup_cosine(2.0, 50, 10, hold=0.5)(step) for step in range(51)])
    np.testing.assert_allclose(rates[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(rates[10:31], 2.0, rtol=1e-6)
    np.testing.assert_allclose(rates[[40, 50]], [1.0, 0.0], atol=1e-6)


def test_muon_makes_orthogonal_steps_of_every_layer_and_adams_of_the_rest():
    rng = np.random.default_rng(0)
    shapes = {
        "unit_embedding": (5, 4),
        "layers": {"kernel": (3, 4, 8), "bias": (3, 8)},
        "readout": {"kernel": (6, 2)},
    }
    gradient = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    params = jax.tree.map(jnp.zeros_like, gradient)
    moved = run(muon(lambda step: 0.1, weight_decay=0.0), params, [gradient])[0][0]
    for name, matrix in (
        ("layers", moved["layers"]["kernel"]),
        ("readout", moved["readout"]["kernel"]),
    ):
        scales = np.linalg.svd(matrix, compute_uv=False) / (
            0.1 * 0.2 * np.sqrt(max(shapes[name]["kernel"][-2:]))
        )
        assert (scales > 0.6).all() and (scales < 1.3).all(), (
            name
        )  # Newton-Schulz makes them about 1
    for ours, theirs in (
        (moved["unit_embedding"], gradient["unit_embedding"]),
        (moved["layers"]["bias"], gradient["layers"]["bias"]),
    ):
        assert (np.sign(ours) == -np.sign(theirs)).all() and np.ptp(
            np.abs(ours)
        ) < 1e-6  # Adam's first step


def test_muon_decays_only_matrices():
    params = {
        "unit_embedding": jnp.ones((3, 2)),
        "layers": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))},
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    moved = run(muon(lambda step: 0.5, 0.2), params, [zero])[0][0]
    np.testing.assert_allclose(moved["layers"]["kernel"], 0.9, rtol=1e-6)
    assert (moved["unit_embedding"] == 1).all() and (moved["layers"]["bias"] == 1).all()


def test_adamw_decays_only_matrices():
    params = {
        "unit_embedding": jnp.ones((3, 2)),
        "latent_embedding": jnp.ones((3, 2)),
        "readout": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "layers": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))},
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    moved = run(adamw(warmup_cosine(0.5, 10, 0), 0.2), params, [zero])[0][0]
    expected = {
        "unit_embedding": 1.0,
        "latent_embedding": 1.0,
        "readout": {"kernel": 0.9, "bias": 1.0},
        "layers": {"kernel": 0.9, "bias": 1.0},
    }
    jax.tree.map(lambda x, value: np.testing.assert_allclose(x, value, rtol=1e-6), moved, expected)


@pytest.mark.parametrize("name", ["sparse_lamb", "adamw", "muon"])
def test_make_optimizer_follows_the_schedule_it_reports(name):
    config = OptimConfig(name=name, base_learning_rate=0.01, warmup_steps=4)
    optimizer, schedule = make_optimizer(config, 20, 8)
    peak = max(float(schedule(step)["learning_rate"]) for step in range(20))
    assert peak == pytest.approx(0.08)
    assert float(schedule(0)["beta1"]) == pytest.approx(0.95 if name == "sparse_lamb" else 0.9)
    params, gradient = {"bias": jnp.zeros(1)}, {"bias": jnp.ones(1)}
    state = optimizer.init(params)
    for step in range(
        20
    ):  # a constant gradient moves a zero bias by the rate times a step that both formulas give
        beta1, rate = (float(schedule(step)[key]) for key in ("beta1", "learning_rate"))
        if name == "sparse_lamb":
            mu = np.asarray(optax.tree_utils.tree_get(state, "mu")["bias"])
            nu = np.asarray(optax.tree_utils.tree_get(state, "nu")["bias"])
            size = rate * (beta1 * mu + 1 - beta1) / (np.sqrt(0.999 * nu + 0.001) + 1e-6)
        else:
            size = rate
        updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(updates["bias"], -size, rtol=1e-4)


def test_clipping_bounds_the_gradient_before_the_moments():
    params, gradient = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.full((2, 2), 50.0)}  # norm 100
    optimizer, _ = make_optimizer(OptimConfig(clip_norm=1.0), 10, 8)
    state = run(optimizer, params, [gradient])[0][2]
    mu = optax.tree_utils.tree_get(state, "mu")["kernel"]
    np.testing.assert_allclose(mu, 0.05 * 0.5, rtol=1e-5)


def test_accumulation_makes_one_update_of_the_mean_gradient():
    shapes = {"unit_embedding": (4, 2), "kernel": (3, 2)}
    params, gradients = random_tree(0, shapes), [random_tree(seed, shapes) for seed in (1, 2, 3, 4)]
    gradients = [
        gradient | {"unit_embedding": gradient["unit_embedding"].at[0].set(0.0)}
        for gradient in gradients
    ]
    accumulating, _ = make_optimizer(OptimConfig(accumulate_steps=2, clip_norm=0.5), 10, 8)
    plain, _ = make_optimizer(OptimConfig(clip_norm=0.5), 10, 8)
    means = [jax.tree.map(lambda x, y: (x + y) / 2, *gradients[i : i + 2]) for i in (0, 2)]
    steps, expected = run(accumulating, params, gradients), run(plain, params, means)
    for name in shapes:
        np.testing.assert_array_equal(steps[0][0][name], params[name])
        np.testing.assert_allclose(steps[1][0][name], expected[0][0][name], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(steps[2][0][name], steps[1][0][name])
        np.testing.assert_allclose(steps[3][0][name], expected[1][0][name], rtol=1e-5, atol=1e-7)


def test_first_step_of_the_golden_model_equals_the_reference():
    tiny, trained = load("poyo_tiny"), load("train5")
    recipe = json.loads(str(trained["meta"]))
    config = OptimConfig(base_learning_rate=recipe["lr"], weight_decay=recipe["weight_decay"])
    optimizer, _ = make_optimizer(config, recipe["total_steps"], batch_size=1)
    params, gradient = (
        params_from_torch(tiny, prefix, TINY.depth) for prefix in ("param", "grad_weighted")
    )
    moved = run(
        optimizer, jax.tree.map(jnp.asarray, params), [jax.tree.map(jnp.asarray, gradient)]
    )[0][0]
    expected = params_from_torch(trained, "step1", TINY.depth)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2e-6 * np.abs(y).max()),
        moved,
        expected,
    )
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.all(x == y), False), moved, params)


def test_predicates_know_the_models_parameters():
    params = params_from_torch(load("poyo_tiny"), "param", TINY.depth)
    tables, lengths = set(), set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = tuple(entry.key for entry in path)
        if is_table(names):
            tables.add((names[-1], len(leaf)))
        if is_stacked(names):
            lengths.add(len(leaf))
    assert tables == {("unit_embedding", 11), ("session_embedding", 3)}
    assert lengths == {TINY.depth}
