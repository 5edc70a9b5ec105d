"""Exchange rows of tables between devices: look rows up, and sum the gradients of rows.

A table lies whole on every device, or is split over the mesh by rows (`is_split`). All that devices
send each other for its sake passes through `look_up` and `sum_rows`. Devices sum one vector for
each row that any of them looks up, at most the whole table. On `MANY` devices that would grow with
their number: there the rows of a split table travel only between the devices that use them and the
device that has them (exchange.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int32

from poyo_jax.distributed.exchange import Journey, in_rounds
from poyo_jax.distributed.mesh import AXES, is_split, sum_over_devices

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)
# With fewer devices the exchange sends as much as the sum, and takes longer.
MANY = 8

Way = Callable[..., Any]  # to read or to sum rows, inside shard_map


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
    spec = table_spec(len(table), mesh)
    read = partial(_way(spec, mesh, _read_whole, _read_summed, _read_sent), num_rows=len(table))
    read = jax.shard_map(read, mesh=mesh, in_specs=(spec, SPLIT), out_specs=SPLIT, check_vma=False)
    return read(table, rows)


def sum_rows(
    rows: Int32[Array, " used"], values: Float[Array, "used dim"], num_rows: int, mesh: Mesh
) -> Rows:
    """Every row that any device looked up once, ascending, with the sum of its vectors.

    `rows` and `values` are split over the mesh, and `num_rows` is the size of the table. There are
    as many entries as rows were looked up, or as the table has rows if that is less. Where rows
    were looked up more often than there are rows, every row has an entry.
    """
    spec = table_spec(num_rows, mesh)
    total = _way(spec, mesh, _sum_of_whole, _own_part_of_sum, _sum_of_sent)
    total = jax.shard_map(
        partial(total, num_rows=num_rows, mesh=mesh),
        mesh=mesh,
        in_specs=SPLIT,
        out_specs=spec,
        check_vma=False,
    )
    return total(rows, values)


def _way(spec: PartitionSpec, mesh: Mesh, whole: Way, summed: Way, sent: Way) -> Way:
    """Choose the function for a whole table, or a split one on few devices, or on many."""
    if spec == EVERYWHERE:
        return whole
    return summed if mesh.size < MANY else sent


# --- inside shard_map: reading


def _read_whole(table: Array, rows: Array, num_rows: int) -> Array:
    return table[rows]


def _read_summed(table: Array, rows: Array, num_rows: int) -> Array:
    """Sum the vectors of all rows that any device looks up; each has its own."""
    unique = _rows_of_all_devices(rows, num_rows)
    places = unique - first_row(len(table), num_rows)
    present = (places >= 0) & (places < len(table))
    vectors = table[jnp.where(present, places, 0)]
    vectors = jnp.where(present[:, None], vectors, 0)
    vectors = jax.lax.psum(vectors, AXES)
    return vectors[jnp.searchsorted(unique, rows)]


def _read_sent(table: Array, rows: Array, num_rows: int) -> Array:
    first = first_row(len(table), num_rows)

    def answer(journey: Journey, vectors: Array) -> Array:
        found = table.at[journey.arrived - first].get(mode="fill", fill_value=0)
        return vectors + journey.send_back(found)

    vectors = jnp.zeros((len(rows), table.shape[1]), table.dtype)
    return in_rounds(rows, num_rows, answer, vectors)


def _rows_of_all_devices(rows: Array, num_rows: int) -> Array:
    """Rows that any device looks up, ascending, then empty entries."""
    rows = jax.lax.all_gather(rows, AXES, tiled=True)
    return jnp.unique(rows, size=min(len(rows), num_rows), fill_value=num_rows)


# --- inside shard_map: summing


def _sum_of_whole(rows: Array, values: Array, num_rows: int, mesh: Mesh) -> Rows:
    """`sum_rows` for a table that every device has."""
    kept, entries = jnp.arange(num_rows), rows
    if mesh.size * len(rows) <= num_rows:
        kept = _rows_of_all_devices(rows, num_rows)
        entries = jnp.searchsorted(kept, rows)
    sums = jnp.zeros((len(kept), values.shape[1]), values.dtype)
    sums = sums.at[entries].add(values)
    return Rows(kept, sum_over_devices(sums, mesh))


def _own_part_of_sum(rows: Array, values: Array, num_rows: int, mesh: Mesh) -> Rows:
    """`sum_rows` for a split table on few devices: the entries of this device in the sum of all."""
    summed = _sum_of_whole(rows, values, num_rows, mesh)
    rows_here = num_rows // mesh.size
    first = first_row(rows_here, num_rows)
    count = min(len(summed.rows), rows_here)
    entries = jnp.searchsorted(summed.rows, first) + jnp.arange(count)
    rows = summed.rows.at[entries].get(mode="fill", fill_value=num_rows)
    values = summed.values.at[entries].get(mode="fill", fill_value=0)
    present = rows < first + rows_here
    rows = jnp.where(present, rows, num_rows)
    values = jnp.where(present[:, None], values, 0)
    return Rows(rows, values)


def _sum_of_sent(rows: Array, values: Array, num_rows: int, mesh: Mesh) -> Rows:
    """`sum_rows` for a split table on many devices: every device sums for the rows it has."""
    rows_here = num_rows // mesh.size
    first = first_row(rows_here, num_rows)
    # Rows that have an entry: all of this device, unless all devices together use fewer.
    kept = first + jnp.arange(rows_here)
    every_row = mesh.size * len(rows) >= rows_here
    if not every_row:
        used = jax.lax.all_gather(rows, AXES, tiled=True)
        used = jnp.where((used >= first) & (used < first + rows_here), used, num_rows)
        kept = jnp.unique(used, size=len(used), fill_value=num_rows)

    def add(journey: Journey, sums: Array) -> Array:
        arrived = journey.arrived
        entries = arrived - first if every_row else jnp.searchsorted(kept, arrived)
        return sums.at[entries].add(journey.send(values), mode="drop")

    sums = jnp.zeros((len(kept), values.shape[1]), values.dtype)
    return Rows(kept, in_rounds(rows, num_rows, add, sums))
