"""The device mesh and how arrays lie on it: parameters on every device, windows split over the axis `data`."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"
SPLIT_ROWS = 1 << 16  # tables with fewer rows lie whole on every device
SPLIT_MULTIPLE = 1 << 12  # larger ones have a multiple of it, whatever the mesh, so that any mesh can load them


def make_mesh() -> Mesh:
    """All devices of all processes along one axis; one device is a mesh of one."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_over_data(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(DATA))


def padded_rows(num_rows: int) -> int:
    """Rows of a table, with those that make it divisible among devices if it is large enough to be split."""
    return -(-num_rows // SPLIT_MULTIPLE) * SPLIT_MULTIPLE if num_rows >= SPLIT_ROWS else num_rows


def is_split(num_rows: int, mesh: Mesh) -> bool:
    """Whether a table lies in parts on the devices of a mesh, by its rows, instead of whole on each."""
    return num_rows >= SPLIT_ROWS and mesh.size > 1 and num_rows % mesh.size == 0


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Where every array of a state lies; `state` has the shapes."""

    def of(x: Any) -> NamedSharding:
        return split_over_data(mesh) if x.ndim and is_split(x.shape[0], mesh) else replicated(mesh)

    return jax.tree.map(of, state)


def put_batch(batch, mesh: Mesh):
    """Place this process's part of a batch on its devices; each leading axis is split over the mesh."""
    sharding = split_over_data(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)
