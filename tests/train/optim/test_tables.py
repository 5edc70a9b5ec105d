"""Optimisers on the rows of a batch equal those on whole tables, on one device and with tables
split over several.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from poyo_jax import load, train_model
from poyo_jax.config import MeshConfig, OptimConfig
from poyo_jax.distributed import mesh as meshes
from poyo_jax.distributed.lookup import look_up
from poyo_jax.distributed.mesh import make_mesh, padded_rows, state_shardings
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.optim.optax_rules import make_optimizer
from poyo_jax.train.optim.table_adam import table_adam
from poyo_jax.train.optim.tables import Rows, combine, dense

REPOSITORY = Path(__file__).resolve().parents[3]
STEPS, DIM, UNITS, SESSIONS = 30, 8, 64, 16
OPTIMIZERS, ROWS = (
    ("sparse_lamb", "muon"),
    (24, 80),
)  # rows that a batch looks up: some, or as many as all
combined = jax.jit(combine, static_argnums=(1, 2))


def start(scale: float = 0.3) -> dict:
    rng = np.random.default_rng(0)
    tables = {
        name: scale * rng.normal(size=(rows, DIM))
        for name, rows in zip(TABLES, (UNITS, SESSIONS), strict=True)
    }
    params = tables | {"backbone": {"kernel": rng.normal(size=(DIM, 4)), "bias": np.zeros(4)}}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def gradients(mesh, count: int = 24) -> list[dict]:
    """Of `count` rows that repeat, come and go; some have no gradient."""
    rng, steps = np.random.default_rng(1), []
    for step in range(STEPS):
        gradient: dict = {
            "backbone": {"kernel": rng.normal(size=(DIM, 4)), "bias": rng.normal(size=4)}
        }
        for name, rows in zip(TABLES, (UNITS, SESSIONS), strict=True):
            used = rng.integers(0, rows // (1 + step % 3), count)
            values = rng.normal(size=(count, DIM)) * (used % 5 > 0)[:, None]
            gradient[name] = combined(
                Rows(jnp.asarray(used), jnp.asarray(values, jnp.float32)), rows, mesh
            )
        steps.append(
            jax.tree.map(
                lambda x: jnp.asarray(x, jnp.float32) if x.dtype == np.float64 else x, gradient
            )
        )
    return steps


def run(optimizer, params, steps) -> list[dict]:
    update, state, seen = jax.jit(optimizer.update), optimizer.init(params), []
    for gradient in steps:
        params, state = update(gradient, state, params)
        seen.append(params)
    return seen


@pytest.mark.parametrize(
    ("clip_norm", "scale", "decay", "count"),
    # a table's norm below and above the clamp; fewer rows than both tables have, than one, and than
    # none
    [
        (None, 0.3, 0.0, 12),
        (None, 3.0, 1e-2, 12),
        (3.0, 0.3, 1e-2, 24),
        (None, 3.0, 0.0, 24),
        (3.0, 3.0, 1e-2, 80),
        (None, 0.3, 1e-2, 80),
    ],
)
def test_every_step_equals_that_of_whole_tables(clip_norm, scale, decay, count):
    config, mesh = (
        OptimConfig(base_learning_rate=0.01, weight_decay=decay, clip_norm=clip_norm),
        make_mesh(),
    )
    whole, _ = make_optimizer(config, STEPS, 1)
    rows, _ = choose_optimizer(config, STEPS, 1, mesh)
    steps = gradients(mesh, count)
    assert [steps[0][name].rows is None for name in TABLES] == [count >= UNITS, count >= SESSIONS]
    expected = run(dense(whole), start(scale), steps)
    for a, b in zip(expected, run(rows, start(scale), steps), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)
    assert not np.allclose(
        expected[-1]["unit_embedding"], start(scale)["unit_embedding"], atol=1e-2
    )


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_adam_on_rows_equals_adam_on_whole_tables_that_are_used_in_every_step(name):
    config, mesh = (
        OptimConfig(name=name, base_learning_rate=0.01, warmup_steps=3, clip_norm=3.0),
        make_mesh(),
    )
    steps = gradients(mesh)
    rng = np.random.default_rng(2)
    for gradient in steps:
        for table, rows in zip(TABLES, (UNITS, SESSIONS), strict=True):
            gradient[table] = Rows(None, jnp.asarray(rng.normal(size=(rows, DIM)), jnp.float32))
    whole, rows = make_optimizer(config, STEPS, 1)[0], choose_optimizer(config, STEPS, 1, mesh)[0]
    for a, b in zip(run(dense(whole), start(), steps), run(rows, start(), steps), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.parametrize("count", [12, 80])
def test_adam_moves_every_row_as_if_it_were_alone(count):
    mesh = make_mesh()
    steps, rate = gradients(mesh, count), 0.01
    rows = table_adam(optax.identity(), lambda step: rate, b1=0.9, mesh=mesh)
    ends = run(rows, start(), steps)[-1]
    alone = optax.adam(rate)
    for row in range(SESSIONS):
        vector = start()["session_embedding"][row]
        state = alone.init(vector)
        for gradient in steps:
            part = gradient["session_embedding"]
            places = np.arange(SESSIONS) if part.rows is None else np.asarray(part.rows)
            values = np.asarray(part.values)[places == row]
            if values.any():
                change, state = alone.update(jnp.asarray(values[0]), state)
                vector = vector + change
        np.testing.assert_allclose(ends["session_embedding"][row], vector, rtol=1e-5, atol=1e-6)


def test_the_squared_norm_does_not_drift():
    mesh = make_mesh()
    optimizer, _ = choose_optimizer(OptimConfig(base_learning_rate=1e-4), 2000, 1, mesh)
    params, state, update = start(), None, jax.jit(optimizer.update)
    state, steps = optimizer.init(params), gradients(mesh)
    for step in range(2000):
        params, state = update(steps[step % STEPS], state, params)
    exact = np.sum(np.asarray(params["unit_embedding"], np.float64) ** 2)
    assert float(sum(map(np.float64, state.tables["unit_embedding"].square))) == pytest.approx(
        exact, rel=1e-6
    )


def test_combined_rows_are_unique_and_keep_the_sum():
    rows, values = jnp.array([5, 2, 5, 0, 2, 2]), jnp.arange(12.0).reshape(6, 2)
    part = combine(Rows(rows, values), 9, make_mesh())
    assert part.rows.tolist() == [0, 2, 5, 9, 9, 9]
    np.testing.assert_allclose(part.values[:3], [[6, 7], [20, 23], [4, 6]])
    assert not part.values[3:].any()
    part = combine(Rows(rows, values), 6, make_mesh())
    assert part.rows is None
    np.testing.assert_allclose(part.values, [[6, 7], [0, 0], [20, 23], [0, 0], [0, 0], [4, 6]])


@pytest.mark.parametrize("name", ["sparse_lamb", "muon"])
def test_accumulation_keeps_whole_tables(name):
    config = OptimConfig(name=name, accumulate_steps=2, warmup_steps=2)
    params, steps = start(), gradients(make_mesh())[:4]
    whole, _ = make_optimizer(config, 10, 1)
    chosen, _ = choose_optimizer(config, 10, 1, make_mesh())
    for a, b in zip(run(dense(whole), params, steps), run(chosen, params, steps), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_large_tables_have_rows_for_any_mesh():
    assert [padded_rows(rows) for rows in (1, 40_000, 65_535, 65_536, 65_537)] == [
        1,
        40_000,
        65_535,
        65_536,
        69_632,
    ]


def test_a_run_with_padded_tables(tmp_path, monkeypatch):
    """Its checkpoints hold padded tables, and whoever loads one gets the rows of the vocabulary,
    bit for bit.
    """
    sessions = [tiny.simulate(0)]
    config = tiny.config(num_steps=4, eval_every=2, save_every=2)
    config = replace(config, optim=OptimConfig(base_learning_rate=1e-3))
    plain = train_model(config, sessions, tmp_path / "plain", progress=False)
    monkeypatch.setattr(meshes, "SPLIT_ROWS", 8)
    monkeypatch.setattr(meshes, "SPLIT_MULTIPLE", 64)
    trained = train_model(config, sessions, tmp_path / "padded", progress=False)
    loaded = load(tmp_path / "padded", step=4)
    assert (
        plain.params["unit_embedding"].shape == trained.params["unit_embedding"].shape == (13, 16)
    )
    jax.tree.map(np.testing.assert_array_equal, trained.params, loaded.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        plain.params,
        loaded.params,
    )
    longer = replace(config, run=replace(config.run, num_steps=6))
    assert train_model(longer, sessions, tmp_path / "padded", progress=False).step == 6


def test_split_tables_equal_whole_ones():
    """Four devices with split tables make the steps of one device; see
    `split_tables_on_four_devices` below.
    """
    command = [sys.executable, __file__]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == dict.fromkeys(
        [f"{name}, {count} rows" for name in OPTIMIZERS for count in ROWS], [True] * 3
    )


def split_tables_on_four_devices() -> dict:
    jax.config.update("jax_num_cpu_devices", 4)
    meshes.SPLIT_ROWS = UNITS
    mesh = make_mesh(MeshConfig(fsdp=2))
    alone = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), meshes.AXES)
    result = {}
    for name, count in product(OPTIMIZERS, ROWS):
        config = OptimConfig(name=name, base_learning_rate=0.01, weight_decay=1e-2, warmup_steps=2)
        expected = run(
            choose_optimizer(config, STEPS, 1, alone)[0], start(), gradients(alone, count)
        )
        params = jax.device_put(start(), state_shardings(start(), mesh))
        seen = run(choose_optimizer(config, STEPS, 1, mesh)[0], params, gradients(mesh, count))
        pairs = zip(jax.tree.leaves(expected[-1]), jax.tree.leaves(seen[-1]), strict=True)
        rows = jnp.asarray(np.random.default_rng(2).integers(0, UNITS, count))
        table = seen[-1]["unit_embedding"]
        result[f"{name}, {count} rows"] = [
            table.addressable_shards[0].data.shape == (UNITS // 4, DIM),
            all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs),
            np.array_equal(look_up(table, rows, mesh), np.asarray(table)[np.asarray(rows)]),
        ]
    return result


if __name__ == "__main__":
    print(json.dumps(split_tables_on_four_devices()))
