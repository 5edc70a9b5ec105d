"""What the batches of a run hold: sizes from its sessions, or from the statistics of the paper.

The page of the paper (poyo-brain.github.io) lists sessions, units, spikes and samples of behaviour
of every data set. With the rate of its behaviour, the samples give its seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from poyo_jax.config import Config, DataConfig, RunConfig
from poyo_jax.data.batches.batching import (
    ROW_MULTIPLE,
    check_batch_size,
    growing_shapes,
    round_up,
)
from poyo_jax.data.batches.tokens import BatchShape
from poyo_jax.data.session import Session
from poyo_jax.distributed.mesh import split_over_windows
from poyo_jax.train.setup import TrainSetup
from poyo_jax.types import Batch


class Statistics(NamedTuple):
    """Sizes of a data set, for pretraining."""

    sessions: int
    units: int
    spikes: float
    seconds: float
    rate: float  # samples of behaviour per second

    @property
    def session_units(self) -> int:
        """Units of a session."""
        return round(self.units / self.sessions)


PERICH = Statistics(117, 11_557, 143e6, 20e6 / 100, 100)
CHURCHLAND = Statistics(9, 1_728, 706e6, 87e6 / 1000, 1000)
ODOHERTY = Statistics(47, 14_899, 123e6, 15e6 / 250, 250)
FLINT = Statistics(5, 957, 7.9e6, 0.3e6 / 100, 100)
ONE_SESSION = Statistics(1, 99, 143e6 / 117, 200e3 / 117, 100)
DATA_SETS = {"poyo_1": (PERICH, CHURCHLAND, ODOHERTY, FLINT), "poyo_mp": (PERICH,)}
SCATTER = 0.5  # assumed: standard deviation of the logarithm of tokens within a data set
LARGEST = 4.0  # assumed: tokens of the fullest window of a data set over their mean
WINDOWS = 4096  # that are drawn


@dataclass(frozen=True)
class Workload:
    """Sizes of a run's batches and tables."""

    shapes: tuple[BatchShape, ...]  # of a device, growing
    num_units: int  # rows of the unit table, padding included
    num_sessions: int
    tokens: float  # mean of a window
    source: str


def from_statistics(preset: str, config: Config, num_devices: int) -> Workload:
    """Sizes of a run on the paper's sessions of a preset; other presets train on one session."""
    names = [name for name in DATA_SETS if preset == name or preset.startswith(f"{name}_")]
    sets = DATA_SETS[names[0]] if names else (ONE_SESSION,)
    data = config.data
    length = config.model.window_length
    means = [_tokens(each, data, length) for each in sets]
    seconds = np.array([each.seconds for each in sets])
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(sets), WINDOWS, p=seconds / seconds.sum())
    scatter = rng.lognormal(-(SCATTER**2) / 2, SCATTER, WINDOWS)
    expected = np.array(means)[drawn]
    counts = expected * np.minimum(scatter, LARGEST)
    check_batch_size(data.batch_size, num_devices)
    windows = data.batch_size // num_devices
    of_sessions = []
    for each in sets:
        of_sessions += [each.session_units] * each.sessions
    queries = math.ceil(max(each.rate for each in sets) * length)
    shape = BatchShape(
        windows=windows,
        units=round_up(1 + sum(sorted(of_sessions, reverse=True)[:windows]), ROW_MULTIPLE),
        rows=windows,
        tokens=data.chunk_tokens,
        queries=min(queries, data.max_queries or queries),
        channels=config.model.num_channels,
        packed=data.layout == "packed",
    )
    largest = int(max(means) * LARGEST)
    shapes = growing_shapes(shape, counts, expected, largest, num_devices, data.layout)
    return Workload(
        shapes=shapes,
        num_units=1 + sum(each.units for each in sets),
        num_sessions=1 + sum(each.sessions for each in sets),
        tokens=float(counts.mean()),
        source="the paper's statistics",
    )


def from_sessions(config: Config, sessions: Sequence[Session], num_devices: int) -> Workload:
    """Sizes of a run on these sessions. Raises what `TrainSetup` raises."""
    check_batch_size(config.data.batch_size, num_devices)
    # The set-up is made for this process, whose devices are others.
    own = replace(config, run=RunConfig(num_steps=config.run.num_steps))
    setup = TrainSetup(own, sessions, {})
    batches = replace(setup.batches, num_shards=num_devices, process=0, num_processes=1)
    return Workload(
        shapes=batches.shapes,
        num_units=setup.metadata.units.num_rows,
        num_sessions=setup.metadata.sessions.num_rows,
        tokens=batches.mean_tokens,
        source="the sessions",
    )


def _tokens(data_set: Statistics, config: DataConfig, window_length: float) -> float:
    """Mean number of tokens of a window, after unit dropout."""
    units = data_set.session_units
    spikes = data_set.spikes / data_set.seconds * window_length
    kept, dropout = units, config.unit_dropout
    if dropout is not None:
        kept = (dropout.min_units + dropout.mode_units + dropout.max_units) / 3
    return (2 * units + spikes) * min(1.0, kept / units)


def abstract_batch(shape: BatchShape, mesh: Mesh) -> Batch:
    """Shapes, types and places of the arrays of a batch; `shape` is that of one device."""
    where = split_over_windows(mesh)

    def array(dtype: type, first: int, *rest: int) -> Any:
        return jax.ShapeDtypeStruct((first * mesh.size, *rest), dtype, sharding=where)

    windows, rows, tokens, queries = shape.windows, shape.rows, shape.tokens, shape.queries
    return Batch(
        unit_rows=array(np.int32, shape.units),
        token_units=array(np.int32, rows, tokens),
        token_kinds=array(np.int8, rows, tokens),
        token_times=array(np.float32, rows, tokens),
        token_times_low=array(np.float32, rows, tokens),
        token_windows=array(np.int32, rows) if shape.packed else None,
        token_offsets=array(np.int32, rows),
        session_rows=array(np.int32, windows),
        query_times=array(np.float32, windows, queries),
        targets=array(np.float32, windows, queries, shape.channels),
        target_weights=array(np.float32, windows, queries),
        window_ids=array(np.uint32, windows),
        query_outputs=array(np.int8, windows, queries) if shape.several else None,
    )
