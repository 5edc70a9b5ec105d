"""Rows of tables that are looked up and summed on several devices: equal to one device's, and
traffic that does not grow with the devices.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from experiments.benchmarks import exchange as benchmark
from poyo_jax.config import OptimConfig
from poyo_jax.distributed import lookup
from poyo_jax.distributed import mesh as meshes
from poyo_jax.distributed.exchange import grid_width, in_rounds
from poyo_jax.distributed.lookup import EVERYWHERE, SPLIT, Rows, look_up, sum_rows
from poyo_jax.distributed.mesh import AXES
from poyo_jax.model.params import UNITS
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules

REPOSITORY = Path(__file__).resolve().parents[2]
USED, DIM = 24, 4  # rows that each device looks up
# Shape of the mesh, and rows of the table: whole; split, with an entry for every row, or fewer.
TABLES = (((2, 4), 16), ((2, 4), 64), ((2, 4), 2048), ((3, 1), 96))


def rows_of_devices(num_rows: int, devices: int) -> dict[str, np.ndarray]:
    """Rows that the devices look up, in ways that are hard on an exchange."""
    rng = np.random.default_rng(0)
    count = devices * USED
    anywhere = rng.integers(0, num_rows, count)
    last_owner = num_rows - 1 - rng.integers(0, num_rows // devices, count)
    return {
        "anywhere": anywhere,
        "of one owner": last_owner,
        "one row": np.full(count, num_rows - 1),
        "mostly padding": np.where(rng.random(count) < 0.7, 0, anywhere),
        "one device asks": np.where(np.arange(count) < USED, last_owner, 0),
    }


def tables_on_devices() -> dict:
    """What the tests below expect to be true of each table and its rows; run in a child."""
    jax.config.update("jax_num_cpu_devices", 8)
    # Programs that run at the same time wait for each other without end when there are few cores.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    meshes.SPLIT_ROWS = 64
    lookup.MANY = 2  # the exchange on eight and on three devices; test_rows has the sum
    result = {}
    for shape, num_rows in TABLES:
        count = shape[0] * shape[1]
        mesh = Mesh(np.array(jax.devices()[:count]).reshape(shape), AXES)
        use = jax.jit(partial(use_table, mesh=mesh))
        alone = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), AXES)
        use_alone = jax.jit(partial(use_table, mesh=alone))
        for name, rows in rows_of_devices(num_rows, count).items():
            rng = np.random.default_rng(1)
            table = rng.normal(size=(num_rows, DIM)).astype(np.float32)
            values = rng.normal(size=(len(rows), DIM)).astype(np.float32)
            seen = use(table, rows.astype(np.int32), values)
            expected = use_alone(table, rows.astype(np.int32), values)
            again = use(table, rows.astype(np.int32), values)
            result[f"{shape} {num_rows} {name}"] = {
                "rows": np.array_equal(seen["vectors"], table[rows]),
                "sums": np.allclose(dense(seen, num_rows), exact_sums(rows, values, num_rows)),
                "once": is_once(np.asarray(seen["summed"].rows), rows, num_rows),
                "moved": np.allclose(seen["moved"], expected["moved"], rtol=1e-5, atol=1e-6),
                "bits": all(map(np.array_equal, jax.tree.leaves(seen), jax.tree.leaves(again))),
                "rounds": int(seen["rounds"]),
            }
    return result


def use_table(table, rows, values, mesh) -> dict:
    """Look rows up, sum their vectors, and move the table by two of such gradients."""
    num_rows = len(table)
    config = OptimConfig(name="sparse_lamb", learning_rate=0.01, clip_norm=3.0, accumulate_steps=2)
    rule, schedules = choose_optimizer(config, mesh), make_schedules(config, 10)
    update = rule.follow(*schedules.functions())
    rows, values = jax.lax.with_sharding_constraint((rows, values), NamedSharding(mesh, SPLIT))
    summed = sum_rows(rows, values, num_rows, mesh)
    params = {UNITS: table}
    state = rule.init(params)
    for gradient in (summed, Rows(summed.rows, jnp.square(summed.values))):
        params, state = update({UNITS: gradient}, state, params)

    def count_rounds(rows):
        return in_rounds(rows, num_rows, lambda _, rounds: rounds + 1, jnp.int32(0))

    rounds = jax.shard_map(
        count_rounds, mesh=mesh, in_specs=SPLIT, out_specs=EVERYWHERE, check_vma=False
    )
    return {
        "vectors": look_up(table, rows, mesh),
        "summed": summed,
        "moved": params[UNITS],
        "rounds": rounds(rows) if mesh.size > 1 else 0,
    }


def members_on_devices() -> bool:
    """Tell if the tables of an ensemble are used as each of them is alone; run in a child."""
    meshes.SPLIT_ROWS, lookup.MANY = 64, 2
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), AXES)
    rng = np.random.default_rng(2)
    tables = rng.normal(size=(3, 2048, DIM)).astype(np.float32)
    values = rng.normal(size=(3, 8 * USED, DIM)).astype(np.float32)
    rows = jnp.asarray(rows_of_devices(2048, 8)["of one owner"], jnp.int32)

    def use(table, values):
        summed = sum_rows(rows, values, 2048, mesh)
        return look_up(table, rows, mesh), summed.rows, summed.values

    together = jax.jit(jax.vmap(use))(tables, values)
    alone = [jax.jit(use)(*each) for each in zip(tables, values, strict=True)]
    equal = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
    for number, expected in enumerate(alone):
        jax.tree.map(equal, [part[number] for part in together], list(expected))
    return True


def dense(seen: dict, num_rows: int) -> np.ndarray:
    sums = np.zeros((num_rows + 1, DIM))
    np.add.at(sums, np.asarray(seen["summed"].rows), np.asarray(seen["summed"].values))
    return sums


def exact_sums(rows: np.ndarray, values: np.ndarray, num_rows: int) -> np.ndarray:
    sums = np.zeros((num_rows + 1, DIM))
    np.add.at(sums, rows, values)
    return sums


def is_once(entries: np.ndarray, rows: np.ndarray, num_rows: int) -> bool:
    """Tell if every row has one entry, and no other row but those of the table."""
    present = entries[entries < num_rows]
    return len(set(present)) == len(present) and set(rows) <= set(present)


def sent_by_a_chip() -> dict[int, list]:
    """Collectives of the programs for 16 to 1,024 TPUs, of which none is there."""
    sent = {}
    for count in (16, 256, 1024):
        mesh = AbstractMesh((count // 4, 4), AXES, axis_types=(AxisType.Auto,) * 2)
        program = benchmark.lower(mesh, num_rows=1_101_824, used=benchmark.USED)
        sent[count] = benchmark.sent_bytes(program.as_text(dialect="hlo"))
    return sent


@pytest.fixture(scope="module")
def seen() -> dict:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    result = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_several_devices_use_tables_as_one_does(seen):
    assert len(seen["tables"]) == 5 * len(TABLES)
    for case, facts in seen["tables"].items():
        facts = facts | {"case": case}
        rounds = facts.pop("rounds")
        assert rounds >= 1 and all(facts.values()), facts


def test_rows_that_find_no_slot_travel_in_further_rounds(seen):
    tables = seen["tables"]
    assert tables["(2, 4) 2048 anywhere"]["rounds"] == 1
    assert tables["(2, 4) 2048 mostly padding"]["rounds"] == 1
    assert tables["(2, 4) 2048 of one owner"]["rounds"] > 1


def test_the_members_of_an_ensemble_use_tables_as_each_alone_does(seen):
    assert seen["members"]


def test_traffic_for_a_split_table_does_not_grow_with_the_devices(seen):
    vectors = 4 * benchmark.DIM * benchmark.USED
    totals = []
    for collectives in seen["sent"].values():
        assert {kind for kind, _ in collectives} == {"all-to-all", "all-reduce"}
        totals.append(sum(size for _, size in collectives))
    assert 2 * vectors < min(totals) <= max(totals) < 11 * vectors
    assert max(totals) < 1.1 * min(totals)


def test_the_devices_stand_in_a_grid():
    assert [grid_width(count) for count in (2, 7, 8, 12, 16, 1024)] == [1, 1, 2, 3, 4, 32]


if __name__ == "__main__":
    tables, members = tables_on_devices(), members_on_devices()
    print(json.dumps({"tables": tables, "members": members, "sent": sent_by_a_chip()}))
