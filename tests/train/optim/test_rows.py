"""The rows of tables: their gradients, and tables that are split over devices."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from golden_model import TINY, params_from_torch
from golden_model import load as load_golden
from optimizer_runs import DIM, NUM_ROWS, NUM_STEPS, choose, gradients, random_tree, run, start

from poyo_jax import load, train_model
from poyo_jax.config import MeshConfig, OptimConfig
from poyo_jax.distributed import mesh as meshes
from poyo_jax.distributed.lookup import Rows, look_up, sum_rows
from poyo_jax.distributed.mesh import make_mesh, padded_rows, state_shardings
from poyo_jax.model.params import TABLES, is_stacked, path_names
from poyo_jax.train.optim.rows import add_rows

REPOSITORY = Path(__file__).resolve().parents[3]
OPTIMIZERS = ("sparse_lamb", "muon")
# name, rows looked up, accumulated batches
SPLIT_CASES = [(name, *case) for name in OPTIMIZERS for case in ((24, 1), (80, 1), (24, 2))]
UNITS = NUM_ROWS["unit_embedding"]


@pytest.mark.parametrize(("num_rows", "num_entries"), [(9, 6), (6, 6), (100, 6), (7, 6)])
def test_summed_rows_are_unique_and_keep_the_sum(num_rows, num_entries):
    rows, values = jnp.array([5, 2, 5, 0, 2, 2]), jnp.arange(12.0).reshape(6, 2)
    summed = sum_rows(rows, values, num_rows, make_mesh())
    assert summed.rows.tolist() == [0, 2, 5] + [num_rows] * (num_entries - 3)
    np.testing.assert_allclose(summed.values[:3], [[6, 7], [20, 23], [4, 6]])
    assert not summed.values[3:].any()


def test_there_are_no_more_entries_than_rows():
    rows, values = jnp.array([1, 1, 0, 1, 2, 1, 2]), jnp.ones((7, 2))
    summed = sum_rows(rows, values, 3, make_mesh())
    assert summed.rows.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(summed.values[:, 0], [1, 4, 2])


def test_added_rows_leave_the_others_alone():
    table = random_tree(0, {"table": (6, 2)})["table"]
    added = Rows(jnp.array([1, 4, 6]), jnp.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]))
    expected = np.array(table)
    expected[[1, 4]] += added.values[:2]
    np.testing.assert_array_equal(add_rows(table, added, make_mesh()), expected)


def test_predicates_know_the_models_parameters():
    params = params_from_torch(load_golden("poyo_tiny"), "param", TINY.depth)
    tables, lengths = set(), set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = path_names(path)
        if set(names) & set(TABLES):
            tables.add((names[-1], len(leaf)))
        if is_stacked(names):
            lengths.add(len(leaf))
    assert tables == {("unit_embedding", 11), ("session_embedding", 3)}
    assert lengths == {TINY.depth}


def test_large_tables_have_rows_for_any_mesh():
    assert [padded_rows(rows) for rows in (1, 40_000, 65_535, 65_536, 65_537)] == [
        1,
        40_000,
        65_535,
        65_536,
        69_632,
    ]


@pytest.fixture
def pad_tables(monkeypatch):
    """Function that pads tables of eight rows and more to 64 rows.

    What JAX traced before has the sizes of before, and what it traces meanwhile must not stay.
    """

    def pad() -> None:
        monkeypatch.setattr(meshes, "SPLIT_ROWS", 8)
        monkeypatch.setattr(meshes, "SPLIT_MULTIPLE", 64)
        jax.clear_caches()

    yield pad
    monkeypatch.undo()
    jax.clear_caches()


def test_a_run_with_padded_tables(tmp_path, pad_tables):
    """Its checkpoints hold padded tables, and whoever loads one gets the rows of the vocabulary,
    bit for bit.
    """
    sessions = [tiny.simulate(0)]
    config = tiny.config(num_steps=4, eval_every=2, save_every=2)
    config = replace(config, optim=OptimConfig(learning_rate=0.016))
    plain = train_model(config, sessions, tmp_path / "plain", progress=False)
    pad_tables()
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
    """Four devices with split tables make the steps of one device.

    See `split_tables_on_four_devices` below, which this runs in a process of its own.
    """
    paths = [REPOSITORY, REPOSITORY / "tests", Path(__file__).parent]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, __file__]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    expected = {str(case): [True] * 4 for case in SPLIT_CASES}
    assert json.loads(result.stdout) == expected


def split_tables_on_four_devices() -> dict:
    jax.config.update("jax_num_cpu_devices", 4)
    # Programs that run at the same time wait for each other without end when there are few cores.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    meshes.SPLIT_ROWS = UNITS
    mesh = make_mesh(MeshConfig(fsdp=2))
    alone = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), meshes.AXES)
    result = {}
    for name, count, accumulated in SPLIT_CASES:
        config = OptimConfig(
            name=name,
            learning_rate=0.01,
            weight_decay=1e-2,
            warmup_steps=2,
            clip_norm=3.0,
            accumulate_steps=accumulated,
        )
        expected, _ = run(choose(config, NUM_STEPS, alone)[0], start(), gradients(alone, count))[-1]
        steps = gradients(mesh, count)
        params = jax.device_put(start(), state_shardings(start(), mesh))
        seen, _ = run(choose(config, NUM_STEPS, mesh)[0], params, steps)[-1]
        pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(seen), strict=True)
        table, gradient = seen["unit_embedding"], steps[0]["unit_embedding"]
        rows = jnp.asarray(np.random.default_rng(2).integers(0, UNITS, count))
        of_device = gradient.rows.addressable_shards[1].data
        present = of_device[of_device < UNITS]
        result[str((name, count, accumulated))] = [
            table.addressable_shards[0].data.shape == (UNITS // 4, DIM),
            all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs),
            np.array_equal(look_up(table, rows, mesh), np.asarray(table)[np.asarray(rows)]),
            len(present) > 0 and bool(((present >= UNITS // 4) & (present < UNITS // 2)).all()),
        ]
    return result


if __name__ == "__main__":
    print(json.dumps(split_tables_on_four_devices()))
