"""Units that start from their tuning, so that what a model learns of one unit holds for all that
are tuned alike.

With random embeddings every unit has to be learned by itself before anything is decoded, and R2
stays near zero for the longer the more units there are.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.train.state import TrainState
from poyo_jax.tuning import tuning_features, untrained_rows


def start_from_tuning(state: TrainState, sources: Sequence[ModelSession], mesh: Mesh) -> TrainState:
    """The fresh state with `untrained_rows` of the sources' units added to the scatter of their
    embeddings.

    Every device has an equal part of the table, whose sessions its process alone reads. Raises
    DataError for a session with less than two measured samples in its train split.
    """
    table = state.params["unit_embedding"]
    rows, dim = table.shape

    @cache
    def tuned(source: int) -> Float32[np.ndarray, "units dim"]:
        features = tuning_features(
            sources[source].session, sources[source].readout, sources[source].intervals
        )
        return untrained_rows(features, dim)

    def part(index: Any) -> Float32[np.ndarray, "_rows dim"]:
        first, last, _ = index[0].indices(padded)
        found = np.zeros((last - first, dim), np.float32)
        for number, source in enumerate(sources):
            inside = (source.unit_rows >= first) & (source.unit_rows < last)
            if inside.any():
                found[source.unit_rows[inside] - first] = tuned(number)[inside]
        return found

    padded = -(-rows // mesh.size) * mesh.size
    everywhere = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    added = jax.make_array_from_callback((padded, dim), everywhere, part)
    add = jax.jit(lambda table, added: table + added[:rows], out_shardings=table.sharding)
    return state._replace(params={**state.params, "unit_embedding": add(table, added)})
