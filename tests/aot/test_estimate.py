"""What is refused before or instead of a compilation, sizes of the batches, and the report."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from poyo_jax.aot import estimate as estimates
from poyo_jax.aot.cost import Collective, Cost, Operation
from poyo_jax.aot.estimate import Estimate, Memory, collective_seconds, estimate
from poyo_jax.aot.hlo import Array, Instruction
from poyo_jax.aot.report import describe, warnings
from poyo_jax.aot.topology import Topology, parse
from poyo_jax.aot.workload import abstract_batch, from_sessions, from_statistics
from poyo_jax.chips import CHIPS
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import ConfigError
from poyo_jax.presets import PRESETS
from poyo_jax.train.setup import TrainSetup

FAST = PRESETS["poyo_1_fast"]()

# --- sizes


def test_sizes_of_the_paper_are_those_of_its_data_sets():
    made = from_statistics("poyo_1_fast", FAST, 16)
    assert made.num_units == 1 + 11_557 + 1_728 + 14_899 + 957
    assert made.num_sessions == 1 + 117 + 9 + 47 + 5
    # Windows are drawn by the seconds of the data sets: Perich's have 913 tokens each,
    # Churchland's 6,345, O'Doherty's 1,213, Flint's 2,262.
    mean = (200 * 913 + 87 * 6345 + 60 * 1213 + 3 * 2262) / 350
    assert made.tokens == pytest.approx(mean, rel=0.03)
    shape = made.shapes[0]
    assert (shape.windows, shape.tokens, shape.queries) == (64, 1024, 128)
    rows = [each.rows for each in made.shapes]
    assert rows == sorted(rows) and rows[0] > 64 * made.tokens / 1024


def test_presets_of_one_session_take_one():
    made = from_statistics("demo", PRESETS["demo"](), 1)
    assert (made.num_units, made.num_sessions) == (100, 2)
    assert made.shapes[0].units == 104  # at most those of one session, rounded up


def test_sizes_of_sessions_are_those_of_their_run(tiny_sessions):
    config = tiny.config()
    made = from_sessions(config, tiny_sessions, 4)
    setup = TrainSetup(config, tiny_sessions, {})
    assert made.num_units == setup.metadata.units.num_rows
    batches = replace(setup.batches, num_shards=4)
    assert isinstance(batches, TrainBatches)
    assert made.shapes == batches.shapes
    tokens = [np.sum(batches[step].token_kinds != 3) for step in range(5)]
    assert made.tokens * config.data.batch_size == pytest.approx(np.mean(tokens), rel=0.2)
    batch, mesh = setup.batches[0], make_mesh()
    whole = abstract_batch(setup.batches.shapes[-1], mesh)
    for name, array in batch._asdict().items():
        planned = getattr(whole, name)
        if array is None:
            assert planned is None, name
            continue
        assert planned.dtype == array.dtype, name
        assert planned.shape[1:] == array.shape[1:], name


# --- bad input


@pytest.fixture
def own_devices(monkeypatch):
    """The devices of this process in place of those of a topology."""
    monkeypatch.setattr(Topology, "devices", lambda self: jax.devices())


def test_a_batch_that_the_chips_cannot_share():
    data = replace(FAST.data, batch_size=1000)
    says = r"batch_size is 1000, which 16 devices cannot share evenly\. Use 1008, or another"
    with pytest.raises(ConfigError, match=says):
        from_statistics("poyo_1_fast", replace(FAST, data=data), 16)


def test_a_state_that_exceeds_the_memory_is_refused_before_it_is_compiled(own_devices, monkeypatch):
    small = replace(CHIPS["v5e"], memory=1e6)
    says = (
        r"the step needs 0\.1 GB on a chip of v5e:2x2, which has 0\.0 GB: 0\.1 GB too much\. Set a"
        r" smaller RunConfig.microbatch_windows, RunConfig.remat='layers', or .* more chips"
    )
    config = PRESETS["poyo_1"]()
    with pytest.raises(ConfigError, match=says):
        estimate("poyo_1", config, Topology(small, "2x2"))


@pytest.mark.parametrize(
    "text",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
        " temporaries (24.00G) exceeds available HBM (15.75G).",
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 24.00G of 15.75G hbm.",
    ],
)
def test_a_program_that_exceeds_the_memory(text):
    def compile():
        raise jax.errors.JaxRuntimeError(text)

    says = r"needs 25\.8 GB on a chip of v5e:4x4, which has 16\.9 GB: 8\.9 GB too much\. Set"
    with pytest.raises(ConfigError, match=says):
        estimates._compile(SimpleNamespace(compile=compile), parse("v5e:4x4"))


def test_other_errors_of_the_compiler_are_its_own():
    def compile():
        raise jax.errors.JaxRuntimeError("INTERNAL: something of 3G is wrong")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something"):
        estimates._compile(SimpleNamespace(compile=compile), parse("v5e:4x4"))


# --- bounds and their description


def made(**changes) -> Estimate:
    """A step of poyo_1_fast with one operation and one collective."""
    array = Array("bf16", (64, 16), (1, 0), (8, 128))
    instruction = Instruction("fusion.1", "fusion", (array,), (), "", "", True)
    operation = Operation(instruction, times=100, traffic=82e6, padding=0.0, flops=1.97e9)
    workload = from_statistics("poyo_1_fast", FAST, 16)
    fields = {
        "config": FAST,
        "topology": parse("v5e:4x4"),
        "num_devices": 16,
        "workload": workload,
        "shape": workload.shapes[0],
        "microbatch": 16,
        "memory": Memory(1e9, 2e9, 0.5e9),
        "cost": Cost([operation], [Collective("all-reduce", 1, 100e6, 16, None)]),
        "needed_flops": 197e9,
        "seconds": 60.0,
    }
    return Estimate(**fields | changes)


def test_bounds_of_a_step():
    """8.2 GB at 820 GB/s, 197 GFLOP at 197 TFLOP/s, 100 operations at 1 us."""
    estimated = made()
    assert estimated.bounds["memory traffic"] == pytest.approx(10e-3)
    assert estimated.bounds["arithmetic"] == pytest.approx(1e-3)
    assert estimated.bounds["number of operations"] == pytest.approx(100e-6)
    waiting = 2 * 15 / 16 * 100e6 / 200e9
    assert estimated.waiting == pytest.approx(waiting)
    assert estimated.step_seconds == pytest.approx(10e-3 + waiting)
    assert estimated.bound_by == "memory traffic"


def test_an_overlapped_collective_is_waited_for_only_in_part():
    needed = 2 * 15 / 16 * 100e6 / 200e9
    cost = Cost(made().cost.operations, [Collective("all-reduce", 1, 100e6, 16, needed / 4)])
    assert made(cost=cost).waiting == pytest.approx(0.75 * needed)
    cost = Cost(made().cost.operations, [Collective("all-reduce", 1, 100e6, 16, 1.0)])
    assert made(cost=cost).waiting == 0


def test_collectives_between_servers_of_gpus_pass_the_network():
    """Eight GPUs of a server sum at 450 GB/s; each then sends its eighth at 50 GB/s, twice."""
    h200 = CHIPS["h200"]
    near = collective_seconds(Collective("all-reduce", 1, 80e6, 8, None), h200)
    assert near == pytest.approx(2 * 7 / 8 * 80e6 / 450e9)
    far = collective_seconds(Collective("all-reduce", 1, 80e6, 16, None), h200)
    assert far == pytest.approx(near + 2 * 1 / 2 * 80e6 / 8 / 50e9)
    gathered = collective_seconds(Collective("all-gather", 1, 80e6, 8, None), h200)
    assert gathered == pytest.approx(near / 2)


def test_the_report_says_what_it_is_and_what_bounds_the_step():
    text = describe(made())
    assert "16 devices that are not there" in text
    assert "bounds from the compiled program, none is measured" in text
    assert "the paper's statistics" in text
    assert "memory        3.50 GB of 16.00 GB on a device" in text
    assert "1 all-reduce, 100.00 MB, 0.94 ms, 0% of it overlapped" in text
    assert "at least 10.9 ms, bounded by memory traffic" in text
    assert "at most 93,6" in text  # 1,024 windows in 10.94 ms


def test_what_is_slow_is_named():
    operation = made().cost.operations[0]
    full = replace(made().shape, rows=200)
    found = warnings(made(shape=full))
    assert [text.split(";")[0][:40] for text in found] == [
        "no kernel of flash attention is used",
        "chips wait 0.94 ms for each other",
    ]
    many = replace(operation, times=9000, traffic=1e6, padding=0.5e6, flops=1.97e8)
    found = warnings(made(cost=Cost([many], endless_loops=2), needed_flops=1e11, shape=full))
    assert found[1].startswith("9,000 operations are many for a step of 11.0 ms")
    assert found[2].startswith("50% of the traffic pads tiles, most of it in fusion.1 (rest; bf16")
    assert found[3].startswith("17.7 times the operations that the model needs")
    assert found[4] == "2 loops do not tell their turns and count once"
    sparse = replace(full, rows=256)
    (empty,) = set(warnings(made(shape=sparse))) - set(warnings(made(shape=full)))
    assert empty.startswith("43% of the places for tokens hold none; a smaller DataConfig.chunk")
    single = warnings(made(config=PRESETS["poyo_1"]()))
    assert any(text.startswith("TPUs round the factors of float32 products") for text in single)
