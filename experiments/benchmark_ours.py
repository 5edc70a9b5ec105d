"""Our side of the benchmark: answers each line on standard input with the seconds and peak memory of one call.

Started by benchmark.py with the settings as JSON on the command line.
"""

import json
import resource
import sys
import time
import types

import jax
import numpy as np
from benchmark_windows import NUM_QUERIES, SimulatedWindow, draw_windows, session_units

from poyo_jax.config import ModelConfig, OptimConfig, RunConfig
from poyo_jax.data.arrange import arrange, deal, padding_fraction, round_up, rows_of
from poyo_jax.data.tokens import BatchShape, Window
from poyo_jax.train.mesh import make_mesh, put_batch
from poyo_jax.train.state import build_model, init_state
from poyo_jax.train.steps import make_predict_step, make_train_step
from poyo_jax.train.tables import choose_optimizer
from poyo_jax.types import SPIKE, START, STOP, Batch

CHUNK_TOKENS = 256


def main() -> None:
    settings = json.loads(sys.argv[1])
    began = time.perf_counter()
    call, start = make_call(settings)
    call(0)
    print(json.dumps({"first_call": time.perf_counter() - began, **start}), flush=True)
    for number, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        call(number)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "peak_gb": peak}), flush=True)


def make_call(settings: dict):
    """(call(number) -> None, facts to report)."""
    jax.config.update("jax_num_cpu_devices", settings["cpu_devices"])
    mesh, micro = make_mesh(), settings["microbatch_windows"]
    run = RunConfig(microbatch_windows=micro, rows_per_group=settings["rows_per_group"])
    units = max(settings["vocabulary"] or 0, 1 + int(session_units().sum()))
    model = build_model(ModelConfig(**settings["model"]), run, units, 1 + len(session_units()))
    optimizer, _ = choose_optimizer(OptimConfig(), 1000, settings["batch_size"], mesh)
    host = make_batches(settings)
    batches = [put_batch(batch, mesh) for batch in host]
    facts = {
        "padding": float(np.mean([padding_fraction(batch) for batch in host])),
        "shapes": len({batch.token_kinds.shape for batch in host}),
    }
    state = init_state(model, optimizer, 0, mesh)
    if settings["what"] == "inference":
        predict = make_predict_step(model, mesh, microbatch_windows=micro)
        return lambda number: np.asarray(predict(state.params, batches[number % len(batches)])), facts
    step = make_train_step(model, optimizer, mesh, seed=0, microbatch_windows=micro)

    def train(number: int) -> None:
        nonlocal state
        state, metrics = step(state, batches[number % len(batches)], {})
        jax.block_until_ready(metrics)

    return train, facts


def make_batches(settings: dict) -> list[Batch]:
    """The windows of every batch in packed chunks, dealt over the devices, all in one shape."""
    units = session_units()
    ends = 1 + np.cumsum(units)
    sessions = [
        types.SimpleNamespace(unit_rows=np.arange(end - count, end), session_row=row)
        for row, (end, count) in enumerate(zip(ends, units, strict=True), start=1)
    ]
    groups = [
        [as_window(window, sessions) for window in draw_windows(settings["batch_size"], seed, settings["fixed_tokens"])]
        for seed in range(settings["num_batches"])
    ]
    shards = settings["cpu_devices"]
    rows = max(sum(rows_of(len(window.token_kinds), CHUNK_TOKENS) for window in group) for group in groups)
    shape = BatchShape(
        windows=settings["batch_size"] // shards,
        units=round_up(int(ends[-1]), 8),
        rows=round_up(rows / shards + (8 if shards > 1 else 0), 8),
        tokens=CHUNK_TOKENS,
        queries=NUM_QUERIES,
        channels=2,
        packed=True,
    )
    return [dealt_batch(group, shards, shape) for group in groups]


def dealt_batch(windows: list[Window], num_shards: int, shape: BatchShape) -> Batch:
    dealt = deal([len(window.token_kinds) for window in windows], num_shards)
    ids = [np.flatnonzero(dealt == shard) for shard in range(num_shards)]
    return arrange([[windows[i] for i in part] for part in ids], ids, [shape])


def as_window(window: SimulatedWindow, sessions: list) -> Window:
    alive = np.arange(window.num_units)
    edges = np.repeat([0.0, 1.0], window.num_units)
    kinds = np.repeat([START, STOP, SPIKE], [window.num_units, window.num_units, len(window.spike_units)])
    return Window(
        session=sessions[window.session],
        token_units=np.concatenate([alive, alive, window.spike_units]),
        token_kinds=kinds.astype(np.int8),
        token_times=np.concatenate([edges, window.spike_times]),
        first_sample=0,
        query_times=window.query_times,
        targets=window.targets,
        target_weights=np.ones(len(window.targets), np.float32),
    )


if __name__ == "__main__":
    main()
