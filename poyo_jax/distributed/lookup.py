"""Exchange rows of tables between devices: look rows up, and sum the gradients of rows.

A table lies whole on every device, or is split over the mesh by rows (`is_split`). All that devices
send each other for its sake passes through `look_up` and `sum_rows`: the indices of the rows that
they look up, and one vector for each row that any device looks up, at most the whole table.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int32

from poyo_jax.distributed.mesh import AXES, is_split, sum_over_devices

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


class Rows(NamedTuple):
    """Rows of a table, each once, with a vector for each.

    Both arrays lie as the table does: of a split table, each device has entries for its own rows.
    A row index equal to the number of rows marks an empty entry, whose vector is zero.
    """

    rows: Int32[Array, " entries"]
    values: Float[Array, "entries dim"]


def table_spec(num_rows: int, mesh: Mesh) -> PartitionSpec:
    """Return the partition of a table, its state and its `Rows` on the mesh."""
    return SPLIT if is_split(num_rows, mesh) else EVERYWHERE


def first_row(rows_per_device: int, num_rows: int) -> int | Int32[Array, ""]:
    """Index of the first row that this device has of a table, inside shard_map."""
    if rows_per_device == num_rows:
        return 0
    return jax.lax.axis_index(AXES) * rows_per_device


def look_up(
    table: Float[Array, "rows dim"], rows: Int32[Array, " used"], mesh: Mesh
) -> Float[Array, "used dim"]:
    """Rows of a table; `rows` and the result are split over the mesh."""
    num_rows = len(table)

    def whole(table: Array, rows: Array) -> Array:
        return table[rows]

    def split(table: Array, rows: Array) -> Array:
        unique = _rows_of_all_devices(rows, num_rows)
        places = unique - first_row(len(table), num_rows)
        present = (places >= 0) & (places < len(table))
        vectors = table[jnp.where(present, places, 0)]
        vectors = jnp.where(present[:, None], vectors, 0)
        vectors = jax.lax.psum(vectors, AXES)
        return vectors[jnp.searchsorted(unique, rows)]

    read = split if is_split(num_rows, mesh) else whole
    specs = (table_spec(num_rows, mesh), SPLIT)
    read = jax.shard_map(read, mesh=mesh, in_specs=specs, out_specs=SPLIT)
    return read(table, rows)


def sum_rows(
    rows: Int32[Array, " used"], values: Float[Array, "used dim"], num_rows: int, mesh: Mesh
) -> Rows:
    """Every row that any device looked up once, ascending, with the sum of its vectors.

    `rows` and `values` are split over the mesh, and `num_rows` is the size of the table. There are
    as many entries as rows were looked up, or as the table has rows if that is less.
    """

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=SPLIT,
        out_specs=table_spec(num_rows, mesh),
        check_vma=False,
    )
    def total(rows: Array, values: Array) -> Rows:
        unique = _rows_of_all_devices(rows, num_rows)
        entries = jnp.searchsorted(unique, rows)
        zeros = jnp.zeros((len(unique), values.shape[1]), values.dtype)
        sums = zeros.at[entries].add(values)
        summed = Rows(unique, sum_over_devices(sums, mesh))
        return _of_this_device(summed, num_rows, mesh) if is_split(num_rows, mesh) else summed

    return total(rows, values)


def _rows_of_all_devices(rows: Array, num_rows: int) -> Array:
    """Rows that any device looks up, ascending, then empty entries; inside shard_map."""
    rows = jax.lax.all_gather(rows, AXES, tiled=True)
    return jnp.unique(rows, size=min(len(rows), num_rows), fill_value=num_rows)


def _of_this_device(summed: Rows, num_rows: int, mesh: Mesh) -> Rows:
    """The entries of the rows that this device has of a split table, inside shard_map."""
    rows_per_device = num_rows // mesh.size
    first = first_row(rows_per_device, num_rows)
    count = min(len(summed.rows), rows_per_device)
    entries = jnp.searchsorted(summed.rows, first) + jnp.arange(count)
    rows = summed.rows.at[entries].get(mode="fill", fill_value=num_rows)
    values = summed.values.at[entries].get(mode="fill", fill_value=0)
    present = rows < first + rows_per_device
    rows = jnp.where(present, rows, num_rows)
    values = jnp.where(present[:, None], values, 0)
    return Rows(rows, values)
