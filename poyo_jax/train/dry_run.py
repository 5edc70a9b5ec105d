"""A dry run: measure the cost of a training step by making three of them."""

import logging
import math
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from poyo_jax.config import Config
from poyo_jax.data.batches.batching import grow, shape_index
from poyo_jax.data.given import readouts_by_session
from poyo_jax.data.session import Session
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.distributed.processes import check_agreement, gather
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.progress import compiling
from poyo_jax.train.setup import TrainSetup
from poyo_jax.types import PADDING, Batch, SomeReadouts
from poyo_jax.words import in_bytes

logger = logging.getLogger(__name__)

STEPS = 3


def rehearse(
    config: Config,
    sessions: Sequence[Session],
    readouts: Mapping[str, SomeReadouts] | None = None,
) -> str:
    """Compile the step for the largest shape of batch, make three steps, and describe their cost.

    Nothing is written.
    """
    setup = TrainSetup(config, sessions, readouts_by_session(readouts))
    check_agreement(setup.facts)
    state = setup.fresh_state()
    shapes, shards = setup.batches.shapes, setup.batches.num_shards
    largest = shapes[-1]
    began = time.monotonic()
    host = [setup.batches[step] for step in range(STEPS)]
    made = (time.monotonic() - began) / STEPS
    fitting = [shape_index(batch, shards, shapes) + 1 for batch in host]
    grown = [grow(batch, shards, largest) for batch in host]
    batches = [put_batch(batch, setup.mesh) for batch in grown]
    if jax.process_index() == 0:
        logger.info(compiling(setup.mesh.size))
    began = time.monotonic()
    setup.train_step.compile(state, batches[0])
    compile_time = time.monotonic() - began
    (program,) = setup.train_step.programs.values()
    memory = _memory(program)
    num_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    seconds, losses = _run(setup, state, batches)
    flops = _flops(config, host)
    windows = config.data.batch_size
    leaves = jax.tree.leaves(state.params)
    parameters = sum(x.size for x in leaves)
    axes = [f"{name} {size}" for name, size in setup.mesh.shape.items()]
    mesh = " x ".join(axes)
    lines = {
        "devices": (
            f"{jax.device_count()} ({jax.devices()[0].device_kind}) of {jax.process_count()}"
            f" processes; {mesh}"
        ),
        "parameters": f"{parameters:,} values, {in_bytes(num_bytes)} with optimiser state",
        "batch": (
            f"{windows} windows; {len(shapes)} shapes, of {shapes[0].rows} to {largest.rows} rows"
            f" of {largest.tokens} tokens on a device; the first {STEPS} batches fit shapes"
            f" {fitting}"
        ),
        "compiling": f"{compile_time:.1f} s, for the largest shape",
        "memory": memory,
        "operations": _operations(flops, seconds),
        "step": f"{seconds:.3f} s at best, {windows / seconds:.1f} windows/s in the largest shape",
        "input pipeline": (
            f"{windows / jax.process_count() / made:.0f} windows/s per process, without reading"
            " ahead"
        ),
        "losses": ", ".join(f"{loss:.4f}" for loss in losses),
    }
    return "\n".join(f"{name:17}{text}" for name, text in lines.items())


def _run(
    setup: TrainSetup,
    state,
    batches: Sequence[Batch],
) -> tuple[float, list[float]]:
    """Make the steps; return the time (s) of the fastest one and all losses."""
    seconds, losses = [], []
    for batch in batches:
        began = time.monotonic()
        state, metrics = setup.train_step(state, batch)
        losses.append(float(metrics["loss"]))
        seconds.append(time.monotonic() - began)
    return min(seconds), losses


def _flops(config: Config, batches: Sequence[Batch]) -> float:
    """Mean number of operations of a step, over all devices."""
    counts = []
    for batch in batches:
        is_token = batch.token_kinds != PADDING
        is_unit = batch.unit_rows > 0
        counts.append((is_token.sum(), is_unit.sum()))
    of_processes = gather(np.mean(counts, axis=0))
    tokens, units = of_processes.sum(axis=0)
    queries = batches[0].query_times.shape[1]
    windows = config.data.batch_size
    cost = forward_flops(
        config.model,
        windows=windows,
        tokens=int(tokens),
        units=int(units),
        queries=queries,
    )
    return TRAINING * cost.total


def _operations(flops: float, seconds: float) -> str:
    """Operations of a step that takes `seconds`; NaN stands for a number that is not known."""
    if math.isnan(flops):
        return "not known: the processor has no method `flops` (poyo_jax/model/flops.py)"
    speed = flops / seconds / jax.device_count()
    return f"{flops / 1e9:.2f} GFLOP; {speed / 1e9:.2f} GFLOP/s on a device"


def _memory(program: jax.stages.Compiled) -> str:
    """Memory of a device that a program needs, by the account of XLA."""
    memory = program.memory_analysis()
    if memory is None:
        return "not known for this device"
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
    listed = ", ".join(f"{name} {in_bytes(size)}" for name, size in parts.items())
    return f"{in_bytes(sum(parts.values()))} on a device: {listed}"
