"""Look up rows of tables that may be split over the devices of a mesh."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int32

from poyo_jax.distributed.mesh import AXES, is_split

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


def look_up(
    table: Float[Array, "rows dim"], rows: Int32[Array, " used"], mesh: Mesh
) -> Float[Array, "used dim"]:
    """The rows of a table, which may be split over the mesh; `rows` and the result are split over
    it.
    """
    if not is_split(len(table), mesh):
        return jax.shard_map(
            lambda x, i: x[i], mesh=mesh, in_specs=(EVERYWHERE, SPLIT), out_specs=SPLIT
        )(table, rows)

    @partial(jax.shard_map, mesh=mesh, in_specs=(SPLIT, SPLIT), out_specs=SPLIT)
    def gather(own, rows):
        if len(table) <= len(rows) * mesh.size:
            return jax.lax.all_gather(own, AXES, tiled=True)[rows]
        found = held_rows(own, jax.lax.all_gather(rows, AXES, tiled=True))
        return jax.lax.psum_scatter(found, AXES, tiled=True)

    return gather(table, rows)


def held_rows(own: Array, rows: Array) -> Array:
    """What this device holds of these rows of a split table; zeros for all others."""
    place = rows - jax.lax.axis_index(AXES) * len(own)
    mine = (place >= 0) & (place < len(own))
    found = own[jnp.where(mine, place, 0)]
    return jnp.where(mine.reshape(-1, *[1] * (own.ndim - 1)), found, 0)
