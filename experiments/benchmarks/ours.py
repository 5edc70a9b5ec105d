"""Our side of the benchmark; speed.py starts it with the settings as JSON on the command line."""

import json
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.benchmarks.draw import NUM_QUERIES, SimulatedWindow, draw_windows, session_units
from experiments.benchmarks.server import seconds, serve, timed
from poyo_jax.config import ModelConfig, OptimConfig, RunConfig, from_dict
from poyo_jax.data.batches.batching import arrange, deal, padding_fraction, round_up, rows_of
from poyo_jax.data.batches.tokens import BatchShape, Window
from poyo_jax.decoding.predict import make_predict_step
from poyo_jax.distributed.mesh import make_mesh, put_batch, split_over_windows
from poyo_jax.model.build import build_model
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.state import init_state
from poyo_jax.train.step import Fixed, make_train_step
from poyo_jax.types import PADDING, SPIKE, START, STOP, Batch

CHUNK_TOKENS = 256
MATMUL_SIZE = 1536


def main() -> None:
    settings = json.loads(sys.argv[1])
    if settings["what"] == "pipeline":
        from experiments.benchmarks.loader import make_loader

        return serve(*make_loader(settings))
    if settings["what"] == "window":
        from experiments.benchmarks.one_window import make_decoder

        return serve(*make_decoder(settings))
    jax.config.update("jax_num_cpu_devices", settings["cpu_devices"])
    serve(*make_call(settings))


def make_call(settings: dict):
    """Return a call and its facts.

    The call trains a step or predicts, and measures the machine's rate of products next to it.
    """
    mesh = make_mesh()
    host = make_batches(settings)
    batches, facts = [put_batch(batch, mesh) for batch in host], batch_facts(settings, host)
    step, state = make_step(settings, mesh)
    lowered, facts["trace_s"] = _taking(lambda: step.lower(state, batches[0]))
    compiled, facts["compile_s"] = _taking(lowered.compile)

    def call(number: int) -> None:
        nonlocal state
        out = jax.block_until_ready(compiled(state, batches[number % len(batches)]))
        state = out[0] if settings["what"] == "train" else state

    facts["first_run_s"] = seconds(call, 0)
    matmul_gflops = make_matmul(mesh)
    return lambda number: timed(call)(number) | {"matmul_gflops": matmul_gflops()}, facts


def make_step(settings: dict, mesh: Mesh):
    """Return a jitted function of a state and a batch, and the state."""
    micro = settings["microbatch_windows"]
    run = RunConfig(microbatch_windows=micro, rows_per_group=settings["rows_per_group"])
    units = max(settings["vocabulary"] or 0, 1 + int(session_units().sum()))
    sizes = from_dict(ModelConfig, settings["model"])
    model = build_model(sizes, run, units, 1 + len(session_units()))
    rule = choose_optimizer(OptimConfig(), mesh)
    state = init_state(model, rule, 0, mesh)
    if settings["what"] == "inference":
        step = make_predict_step(model, mesh, microbatch_windows=micro)
        return jax.jit(step), state.params
    step = make_train_step(model, rule.follow, mesh, microbatch_windows=micro)
    fixed = Fixed.of(make_schedules(OptimConfig(), 1000), 0, mesh)
    return jax.jit(lambda state, batch: step(state, batch, fixed), donate_argnums=0), state


def make_matmul(mesh: Mesh):
    """Make a function that measures float32 matrix products on all devices at once, in GFLOP/s."""
    shape = (mesh.size, MATMUL_SIZE, MATMUL_SIZE)
    factors = jax.device_put(
        np.random.default_rng(0).random(shape, np.float32), split_over_windows(mesh)
    )
    product = jax.jit(lambda x: jnp.matmul(x, x), out_shardings=split_over_windows(mesh))
    jax.block_until_ready(product(factors))
    gflop = 2 * mesh.size * MATMUL_SIZE**3 / 1e9
    return lambda: max(
        gflop / seconds(lambda: jax.block_until_ready(product(factors))) for _ in range(3)
    )


def batch_facts(settings: dict, host: list[Batch]) -> dict:
    """Describe an average batch: its content, and the operations of a call on it."""
    spikes, tokens = (
        np.mean([test(batch.token_kinds).sum() for batch in host])
        for test in (_is_spike, _is_token)
    )
    flops = forward_flops(
        from_dict(ModelConfig, settings["model"]),
        windows=settings["batch_size"],
        tokens=int(tokens),
        units=int(np.mean([len(np.unique(batch.unit_rows)) for batch in host])),
        queries=NUM_QUERIES,
    ).total
    return {
        "windows": settings["batch_size"],
        "tokens": float(tokens),
        "spikes": float(spikes),
        "padding": float(np.mean([padding_fraction(batch) for batch in host])),
        "shapes": len({batch.token_kinds.shape for batch in host}),
        "gflop": flops * (TRAINING if settings["what"] == "train" else 1) / 1e9,
    }


def make_batches(settings: dict) -> list[Batch]:
    """The windows of every batch in packed chunks, dealt over the devices, all in one shape."""
    units = session_units()
    ends = 1 + np.cumsum(units)
    sessions = [
        types.SimpleNamespace(unit_rows=np.arange(end - count, end), session_row=row)
        for row, (end, count) in enumerate(zip(ends, units, strict=True), start=1)
    ]
    groups = [
        [
            as_window(window, sessions)
            for window in draw_windows(settings["batch_size"], seed, settings["fixed_tokens"])
        ]
        for seed in range(settings["num_batches"])
    ]
    shards = settings["cpu_devices"]
    dealt = [deal([len(window.token_kinds) for window in group], shards) for group in groups]
    shape = BatchShape(
        windows=settings["batch_size"] // shards,
        units=round_up(int(ends[-1]), 8),
        rows=round_up(max(map(rows_of_fullest_shard, groups, dealt)), settings["rows_per_group"]),
        tokens=CHUNK_TOKENS,
        queries=NUM_QUERIES,
        channels=2,
        packed=True,
    )
    return [
        dealt_batch(*group_and_shards, shards, shape)
        for group_and_shards in zip(groups, dealt, strict=True)
    ]


def rows_of_fullest_shard(windows: list[Window], dealt: np.ndarray) -> int:
    return int(
        np.bincount(
            dealt, [rows_of(len(window.token_kinds), CHUNK_TOKENS) for window in windows]
        ).max()
    )


def dealt_batch(
    windows: list[Window], dealt: np.ndarray, num_shards: int, shape: BatchShape
) -> Batch:
    ids = [np.flatnonzero(dealt == shard) for shard in range(num_shards)]
    return arrange([[windows[i] for i in part] for part in ids], ids, [shape])


def as_window(window: SimulatedWindow, sessions: list) -> Window:
    alive = np.arange(window.num_units)
    edges = np.repeat([0.0, 1.0], window.num_units)
    kinds = np.repeat(
        [START, STOP, SPIKE], [window.num_units, window.num_units, len(window.spike_units)]
    )
    return Window(
        session=sessions[window.session],
        token_units=np.concatenate([alive, alive, window.spike_units]),
        token_kinds=kinds.astype(np.int8),
        token_times=np.concatenate([edges, window.spike_times]),
        query_times=window.query_times,
        targets=window.targets,
        target_weights=np.ones(len(window.targets), np.float32),
        query_outputs=np.zeros(len(window.targets), np.int8),
    )


def _is_spike(kinds: np.ndarray) -> np.ndarray:
    return kinds == SPIKE


def _is_token(kinds: np.ndarray) -> np.ndarray:
    return kinds != PADDING


def _taking(function):
    began = time.perf_counter()
    return function(), time.perf_counter() - began


if __name__ == "__main__":
    main()
