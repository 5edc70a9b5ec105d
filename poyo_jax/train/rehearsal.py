"""A dry run: what a training step costs here, found out by making three of them."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from poyo_jax.config import Config
from poyo_jax.data.arrange import grow, rung_of
from poyo_jax.data.session import Session
from poyo_jax.train.distributed import check_agreement
from poyo_jax.train.job import Job
from poyo_jax.train.mesh import put_batch

STEPS = 3


def rehearse(config: Config, sessions: Sequence[Session]) -> str:
    """Compile the step for the largest shape of batch, make three steps, and tell what it took. Nothing is written."""
    job = Job(config, sessions, {})
    check_agreement(job.facts())
    state = job.fresh_state()
    shapes, shards = job.batches.shapes, job.batches.num_shards
    began = time.monotonic()
    host = [job.batches[step] for step in range(STEPS)]
    windows_per_second = STEPS * config.data.batch_size / jax.process_count() / (time.monotonic() - began)
    rungs = [rung_of(batch, shards, shapes) for batch in host]
    batches = [put_batch(grow(batch, shards, shapes[-1]), job.mesh) for batch in host]
    began = time.monotonic()
    job.train_step.compile(state, batches[0])
    compiling = time.monotonic() - began
    (program,) = job.train_step.programs.values()
    seconds, losses = [], []
    for batch in batches:
        began = time.monotonic()
        state, metrics = job.train_step(state, batch)
        losses.append(float(metrics["loss"]))
        seconds.append(time.monotonic() - began)
    return "\n".join(
        [
            f"devices          {jax.device_count()} ({jax.devices()[0].device_kind}), processes {jax.process_count()}, "
            f"mesh {' x '.join(f'{name} {size}' for name, size in job.mesh.shape.items())}",
            f"parameters       {_count(state.params):,} values, {_size(_bytes(state))} with optimiser state",
            f"batch            {config.data.batch_size} windows; {len(shapes)} shapes, of {shapes[0].rows} to "
            f"{shapes[-1].rows} rows of {shapes[-1].tokens} tokens on a device; the first {STEPS} batches fit {_names(rungs, len(shapes))}",
            f"compiling        {compiling:.1f} s, for the largest shape",
            f"memory           {_memory(program)}",
            f"operations       {_operations(program)}",
            f"step             {min(seconds):.3f} s at best, {config.data.batch_size / min(seconds):.1f} windows/s "
            "in the largest shape",
            f"input pipeline   {windows_per_second:.0f} windows/s per process, without reading ahead",
            f"losses           {', '.join(f'{loss:.4f}' for loss in losses)}",
        ]
    )


def _names(rungs: Sequence[int], count: int) -> str:
    return ", ".join(f"shape {rung + 1} of {count}" for rung in rungs)


def _count(tree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def _bytes(tree) -> int:
    return sum(x.size * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def _memory(program: jax.stages.Compiled) -> str:
    """What XLA says of a device's memory."""
    memory = program.memory_analysis()
    if memory is None:
        return "not known for this device"
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
    listed = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
    return f"{_size(sum(parts.values()))} on a device: {listed}"


def _operations(program: jax.stages.Compiled) -> str:
    """What XLA counts of a step on a device; it takes a loop for one turn, so this is a lower bound."""
    cost = program.cost_analysis() or {}
    flops = cost.get("flops")
    return "not known for this device" if flops is None else f"at least {flops / 1e9:.2f} GFLOP on a device, loops once"
