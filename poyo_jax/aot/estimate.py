"""Compile a training step for a topology, and bound its time and memory."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax

from poyo_jax.aot.cost import Collective, Cost, cost_of
from poyo_jax.aot.hlo import parse as parse_program
from poyo_jax.aot.topology import Topology
from poyo_jax.aot.workload import Workload, abstract_batch, from_sessions, from_statistics
from poyo_jax.chips import Chip
from poyo_jax.config import Config
from poyo_jax.data.batches.tokens import BatchShape
from poyo_jax.data.session import Session
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import ConfigError
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.model.microbatch import microbatch_size
from poyo_jax.train.parts import make_parts
from poyo_jax.train.state import abstract_state
from poyo_jax.train.step import abstract_fixed

# How the compiler of TPUs says that a program needs more memory than there is.
_EXCEEDED = re.compile(r"([\d.]+)([KMGT])\)? (?:of|exceeds available HBM) \(?([\d.]+)([KMGT])")
_CACHED_FROM = "jax_persistent_cache_min_compile_time_secs"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Memory:
    """Bytes on a chip."""

    arguments: float
    temporary: float
    results: float  # that do not take the place of arguments

    @property
    def total(self) -> float:
        """All of it."""
        return self.arguments + self.temporary + self.results


@dataclass(frozen=True)
class Estimate:
    """What the compiled step of a run tells."""

    config: Config
    topology: Topology
    num_devices: int
    workload: Workload
    shape: BatchShape  # that was compiled
    microbatch: int  # windows that pass the processor at the same time
    memory: Memory
    cost: Cost
    needed_flops: float  # of the model's arithmetic, on one chip
    seconds: float  # of tracing and compiling

    @property
    def filled(self) -> float:
        """Share of the places for tokens that hold one."""
        shape = self.shape
        return shape.windows * self.workload.tokens / (shape.rows * shape.tokens)

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds that a step takes at least, by what limits it."""
        chip = self.topology.chip
        return {
            "memory traffic": self.cost.traffic / chip.bandwidth,
            "arithmetic": self.cost.flops / chip.flops,
            "number of operations": self.cost.count * chip.operation,
        }

    @property
    def waiting(self) -> float:
        """Seconds in which a chip waits for others, at least."""
        waits = 0.0
        for each in self.cost.collectives:
            seconds = collective_seconds(each, self.topology.chip)
            waits += each.times * max(0.0, seconds - (each.hidden or 0.0))
        return waits

    @property
    def step_seconds(self) -> float:
        """Seconds of a step, at least."""
        return max(self.bounds.values()) + self.waiting

    @property
    def bound_by(self) -> str:
        """What limits the step most."""
        bounds = self.bounds | {"collectives": self.waiting}
        return max(bounds, key=lambda name: bounds[name])


def estimate(
    preset: str, config: Config, topology: Topology, sessions: Sequence[Session] | None = None
) -> Estimate:
    """Compile the step for the shape that most batches of a run have.

    Sizes are those of the sessions, or without any those of the paper's sessions of the preset.
    Raises ConfigError when the batch cannot be divided, or the step exceeds the memory of a chip.
    """
    mesh = make_mesh(config.run.mesh, topology.devices())
    if sessions is None:
        workload = from_statistics(preset, config, mesh.size)
    else:
        workload = from_sessions(config, sessions, mesh.size)
    shape = workload.shapes[0]
    began = time.monotonic()
    parts = make_parts(config, workload.num_units, workload.num_sessions, mesh)
    state = abstract_state(parts.model, parts.rule, mesh)
    held = sum(map(_bytes_held, jax.tree.leaves(state)))
    if held > topology.chip.memory:
        raise _too_large(held, topology.chip.memory, topology)
    fixed = abstract_fixed(parts.schedules, mesh)
    lowered = cast(Any, parts.step).lower(state, abstract_batch(shape, mesh), fixed)
    compiled = _compile(lowered, topology)
    seconds = time.monotonic() - began
    memory = _memory(compiled)
    if memory.total > topology.chip.memory:
        raise _too_large(memory.total, topology.chip.memory, topology)
    chip = topology.chip
    program = parse_program(compiled.as_text() or "")
    cost = cost_of(program, lambda size, flops: max(size / chip.bandwidth, flops / chip.flops))
    forward = forward_flops(
        config.model,
        windows=shape.windows,
        tokens=round(shape.windows * workload.tokens),
        units=shape.units,
        queries=shape.queries,
    )
    return Estimate(
        config=config,
        topology=topology,
        num_devices=mesh.size,
        workload=workload,
        shape=shape,
        microbatch=microbatch_size(shape.windows, parts.microbatch_windows),
        memory=memory,
        cost=cost,
        needed_flops=TRAINING * forward.total,
        seconds=seconds,
    )


def collective_seconds(collective: Collective, chip: Chip) -> float:
    """Seconds of a collective, once, at the rates of the links within servers and between them."""
    count, size = collective.group, collective.size
    passes = 2 if collective.kind == "all-reduce" else 1
    near = min(count, chip.server)
    far = -(-count // near)
    seconds = passes * (near - 1) / near * size / chip.link
    return seconds + passes * (far - 1) / far * size / near / chip.beyond


def _compile(lowered: Any, topology: Topology) -> jax.stages.Compiled:
    # What is compiled for a topology cannot be read back from the cache, so it is not written.
    least = getattr(jax.config, _CACHED_FROM)
    jax.config.update(_CACHED_FROM, math.inf)
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used = _EXCEEDED.search(str(error))
        if used is None or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = float(used[1]) * _UNITS[used[2]]
        raise _too_large(needed, float(used[3]) * _UNITS[used[4]], topology) from None
    finally:
        jax.config.update(_CACHED_FROM, least)


def _too_large(needed: float, memory: float, topology: Topology) -> ConfigError:
    return ConfigError(
        f"the step needs {needed / 1e9:.1f} GB on a chip of {topology.name}, which has"
        f" {memory / 1e9:.1f} GB: {(needed - memory) / 1e9:.1f} GB too much. Set a smaller"
        " RunConfig.microbatch_windows, RunConfig.remat='layers', or a smaller"
        " DataConfig.batch_size, or take more chips."
    )


def _bytes_held(array: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array on one device."""
    shape = array.sharding.shard_shape(array.shape) if array.sharding else array.shape
    return math.prod(shape) * array.dtype.itemsize


def _memory(compiled: jax.stages.Compiled) -> Memory:
    told = compiled.memory_analysis()
    if told is None:
        return Memory(0.0, 0.0, 0.0)
    results = told.output_size_in_bytes - told.alias_size_in_bytes
    return Memory(told.argument_size_in_bytes, told.temp_size_in_bytes, results)
