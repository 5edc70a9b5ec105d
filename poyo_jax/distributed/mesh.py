"""The device mesh and where arrays lie on it.

Two axes, `data` and `fsdp`. The windows of a batch are shared by all devices. Parameters are
repeated along `data` and divided along `fsdp`; large tables of units and sessions are divided among
all devices, by rows. `ShardingRules` says which axis of an array goes where.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from poyo_jax.config import MeshConfig
from poyo_jax.errors import ConfigError
from poyo_jax.model.params import TABLES, path_names

AXES = ("data", "fsdp")
SPLIT_ROWS = 1 << 16  # tables with fewer rows lie whole on every device
# Larger tables have a multiple of so many rows, whatever the mesh, so that any mesh can load them.
SPLIT_MULTIPLE = 1 << 12

# Axes of the mesh that share an axis of an array; None: it is whole everywhere.
Axes = tuple[str, ...] | None


@dataclass(frozen=True)
class ShardingRules:
    """Mesh axes along which the logical axes of arrays are split."""

    windows: Axes = AXES  # leading axis of all arrays of a batch
    rows: Axes = AXES  # of large tables and their moments
    layers: Axes = None
    inputs: Axes = None  # of linear maps
    outputs: Axes = ("fsdp",)


RULES = ShardingRules()
LOGICAL_AXES: dict[str, list[str | None]] = {
    "kernel": ["layers", "inputs", "outputs"],
    "bias": ["layers", "outputs"],
}
ROW_NUMBERS = ("updates", "moved")  # of optimisers: a number for each row of a table


def make_mesh(config: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange devices as a mesh, by default all of all processes; one device is a mesh of one.

    The devices may be those of a topology that is not there. Raises ConfigError when their number
    does not fit `config`.
    """
    config, devices = config or MeshConfig(), devices or jax.devices()
    count = len(devices)
    data = count // config.fsdp if config.data == -1 else config.data
    if data * config.fsdp != count:
        raise ConfigError(
            f"MeshConfig asks for data x fsdp = {data} x {config.fsdp} devices, but there are"
            f" {count}. Choose numbers whose product is that, or data = -1 and an fsdp that"
            " divides it."
        )
    shape = (data, config.fsdp)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_over_windows(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(RULES.windows))


def padded_rows(num_rows: int) -> int:
    """Compute the rows of a table with padding: large tables must be divisible among devices."""
    if num_rows < SPLIT_ROWS:
        return num_rows
    return -(-num_rows // SPLIT_MULTIPLE) * SPLIT_MULTIPLE


def with_padding(params: dict) -> dict:
    """Append rows of zeros to large tables (`padded_rows`), as in checkpoints."""
    padded = {}
    for name in TABLES:
        *members, num_rows, _ = params[name].shape
        missing = padded_rows(num_rows) - num_rows
        padded[name] = jnp.pad(params[name], [(0, 0)] * len(members) + [(0, missing), (0, 0)])
    return params | padded


def is_split(num_rows: int, mesh: Mesh) -> bool:
    """Tell if the rows of a table are split over the devices; else each device has all rows."""
    return num_rows >= SPLIT_ROWS and mesh.size > 1 and num_rows % mesh.size == 0


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Choose the sharding of every array of a state by its name and shape.

    Moments are sharded like their parameters.
    """

    def of(path: tuple, x: Any) -> NamedSharding:
        logical = _logical_axes(path, x.ndim)
        axes = []
        for axis, size in zip(logical, x.shape, strict=True):
            axes.append(_fitting(axis, size, mesh))
        # jax omits trailing None too, and compares specs as they are written.
        while axes and axes[-1] is None:
            axes.pop()
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(of, state)


def _logical_axes(path: tuple, ndim: int) -> list[str | None]:
    """Names of an array's axes in ShardingRules; None for an axis that is always whole.

    An axis of members is one of these.
    """
    names = path_names(path)
    known: list[str | None]
    if any(name in TABLES for name in names):
        known = ["rows"] if names[-1] in ROW_NUMBERS else ["rows", None]
        known = known[:ndim]
    else:
        known = LOGICAL_AXES.get(names[-1] if names else "", [])
        known = known[-ndim:] if ndim else []
    return [*[None] * (ndim - len(known)), *known]


def _fitting(axis: str | None, size: int, mesh: Mesh) -> Axes:
    """Choose the axes of the mesh for a logical axis.

    Return None if the size is not divisible, or if a table is too small to be split.
    """
    axes = None if axis is None else getattr(RULES, axis)
    if axes is None or (axis == "rows" and not is_split(size, mesh)):
        return None
    sizes = [mesh.shape[name] for name in axes]
    count = int(np.prod(sizes))
    return axes if count > 1 and size % count == 0 else None


def put_batch(batch, mesh: Mesh):
    """Put this process's share of a batch on its devices, split along each leading axis."""
    sharding = split_over_windows(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def put_everywhere(tree: Any, mesh: Mesh) -> Any:
    """Put arrays, which all processes have, as a whole on every device of the mesh."""
    sharding = replicated(mesh)

    def put(x: Any) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        values = np.asarray(x)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(put, tree)


def on_host(tree: Any, mesh: Mesh) -> Any:
    """The tree with arrays whose parts other processes have as whole arrays of this one.

    All processes must call this.
    """
    gather = jax.jit(lambda x: x, out_shardings=replicated(mesh))

    def fetch(x: jax.Array) -> Any:
        return x if x.is_fully_addressable else np.asarray(gather(x))

    return jax.tree.map(fetch, tree)


def put_params(params: dict, mesh: Mesh) -> dict:
    """Place parameters, which all processes have, on the devices of the mesh."""
    if mesh.size == 1:
        return params

    def put(x: Any, where: NamedSharding) -> jax.Array:
        values = np.asarray(x)
        return jax.make_array_from_callback(values.shape, where, lambda index: values[index])

    return jax.tree.map(put, params, state_shardings(params, mesh))


def own_part(array: jax.Array) -> np.ndarray:
    """Gather the shards of an array on the devices of this process, in the order of `put_batch`."""
    shards = {}
    for shard in array.addressable_shards:
        start = shard.index[0].start or 0
        shards[start] = np.asarray(shard.data)
    return np.concatenate([shards[start] for start in sorted(shards)])


def sum_over_devices(x: Array, mesh: Mesh) -> Array:
    """Sum over all devices, inside shard_map.

    On CPUs, pairs are summed, then pairs of pairs, and so on: the result then has the same bits
    however the devices are spread over processes, which no collective library promises.
    Accelerators do as they like best.
    """
    if mesh.size & (mesh.size - 1) or mesh.devices.flat[0].platform != "cpu":
        return jax.lax.psum(x, AXES)
    width = 1
    while width < mesh.size:
        starts = [start for start in range(mesh.size) if not start & width]
        pairs = [[start, start + width] for start in starts]
        x = jax.lax.psum(x, AXES, axis_index_groups=pairs)
        width *= 2
    return x
