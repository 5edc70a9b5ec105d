"""Compile the training step of a run for the devices of a topology, with no array in memory."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from poyo_jax.aot.workload import Workload
from poyo_jax.config import Config
from poyo_jax.data.batches.tokens import BatchShape
from poyo_jax.distributed.mesh import split_over_windows
from poyo_jax.train.parts import make_parts
from poyo_jax.train.state import abstract_state
from poyo_jax.types import Batch


def lower_step(config: Config, workload: Workload, shape: BatchShape, mesh: Mesh) -> Any:
    """The training step for batches of a shape, as it is handed to the compiler."""
    parts = make_parts(config, workload.num_units, workload.num_sessions, mesh)
    state = abstract_state(parts.model, parts.optimizer, mesh)
    return parts.step.lower(state, abstract_batch(shape, mesh), {})


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
    )
