"""Updates of the unit and session tables that touch only the rows a batch uses, whatever the size
of the vocabulary.

A table is a parameter [rows, dim]. Its gradient comes as `Rows`: the rows that the batch looked up
and the gradient of each. Large tables are split over the mesh by rows; every device then looks up
and moves the rows it holds.

What travels between devices is the smaller of two things: the rows that all devices look up, or the
whole table. So with few devices the size of the vocabulary does not count, and with many the number
of devices does not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int32

from poyo_jax.distributed.lookup import held_rows
from poyo_jax.distributed.mesh import AXES, is_split, replicated, sum_over_devices
from poyo_jax.model.params import TABLES

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


class Rows(NamedTuple):
    """Gradient of a table in some of its rows, or in all of them in order if `rows` is None.

    A row index equal to the number of rows marks a slot without a row.
    """

    rows: Int32[Array, " rows"] | None
    values: Float[Array, "rows dim"]


# (rows, their state, what all rows share, gradient, which rows have one, sum over devices) -> the
# first three anew
Move = Callable[[Array, Any, Any, Array, Array, Callable[[Array], Array]], tuple[Array, Any, Any]]


class Optimizer(NamedTuple):
    """How parameters move. `update(gradient, state, params) -> (params, state)`; gradients of
    tables are `Rows`.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


class ByRowsState(NamedTuple):
    """State of `by_rows`."""

    count: Int32[Array, ""]  # updates made so far
    backbone: Any
    tables: dict[str, Any]


def dense(optimizer: optax.GradientTransformation) -> Optimizer:
    """An optax optimiser, for which the gradients of tables are spread out; its cost grows with the
    vocabulary.
    """

    def update(gradient: dict, state: Any, params: dict) -> tuple[dict, Any]:
        spread = {
            name: _spread(part, len(params[name])) if name in TABLES else part
            for name, part in gradient.items()
        }
        updates, state = optimizer.update(spread, state, params)
        return cast(dict, optax.apply_updates(params, updates)), state

    return Optimizer(optimizer.init, update)


def _spread(part: Rows, num_rows: int) -> Array:
    if part.rows is None:
        return part.values
    return jnp.zeros((num_rows, part.values.shape[1])).at[part.rows].add(part.values, mode="drop")


def combine(part: Rows, num_rows: int, mesh: Mesh) -> Rows:
    """Every row once, with the sum of its gradients, in ascending order; all rows if no more than
    were looked up.
    """
    if num_rows <= len(part.values):
        return Rows(None, _sum_of_all_rows(part, num_rows, mesh))
    rows, values = (jax.lax.with_sharding_constraint(x, replicated(mesh)) for x in part)
    unique, slots = jnp.unique(rows, size=len(rows), fill_value=num_rows, return_inverse=True)
    return Rows(unique, jax.ops.segment_sum(values, slots, num_segments=len(rows)))


def _sum_of_all_rows(part: Rows, num_rows: int, mesh: Mesh) -> Float[Array, "rows dim"]:
    """The gradient of a whole table, which lies as the table does."""
    split = is_split(num_rows, mesh)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=SPLIT,
        out_specs=SPLIT if split else EVERYWHERE,
        check_vma=False,
    )
    def total(rows, values):
        own = jnp.zeros((num_rows, values.shape[1]), values.dtype).at[rows].add(values, mode="drop")
        return jax.lax.psum_scatter(own, AXES, tiled=True) if split else sum_over_devices(own, mesh)

    return total(part.rows, part.values)


def update_rows(
    move: Move, table: Float[Array, "rows dim"], state: Any, shared: Any, gradient: Rows, mesh: Mesh
) -> tuple[Float[Array, "rows dim"], Any, Any]:
    """Look up the rows of the gradient, move them, and write them back, on the devices that hold
    them.

    `state` has arrays with one entry for each row, `shared` is what all rows have in common.
    Returns the new table, state and shared.
    """
    split = is_split(len(table), mesh)
    lies: Any = SPLIT if split else EVERYWHERE
    gradient_specs: Any = (
        Rows(None, lies) if gradient.rows is None else Rows(*[cast(Any, EVERYWHERE)] * 2)
    )
    specs: Any = (lies, lies, EVERYWHERE, gradient_specs)

    @partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=specs[:3], check_vma=False)
    def update(table, state, shared, gradient):
        parts = (
            split and gradient.rows is None
        )  # each device moves rows of its own, of which sums are made

        def across(x):
            return jax.lax.psum(x, AXES) if parts else x

        def held(own):
            if gradient.rows is None:
                return own
            found = (
                held_rows(own, gradient.rows)
                if split
                else own.at[gradient.rows].get(mode="fill", fill_value=0)
            )
            return jax.lax.psum(found, AXES) if split else found

        used = jnp.any(gradient.values != 0, axis=-1)

        def written(own, values):
            values = values.astype(own.dtype)
            if gradient.rows is None:
                return jnp.where(used.reshape(-1, *[1] * (own.ndim - 1)), values, own)
            first = jax.lax.axis_index(AXES) * len(own) if split else 0
            place = gradient.rows - first
            place = jnp.where(used & (place >= 0) & (place < len(own)), place, len(own))
            return own.at[place].set(values, mode="drop")

        rows, moments = held(table), jax.tree.map(held, state)
        rows, moments, shared = move(rows, moments, shared, gradient.values, used, across)
        return written(table, rows), jax.tree.map(written, state, moments), shared

    return update(table, state, shared, gradient)


def by_rows(
    backbone: optax.GradientTransformation,
    init_table: Callable[[Array], Any],
    move_table: Callable[[Array, Any, Rows, Array], tuple[Array, Any]],
    clip_norm: float | None,
) -> Optimizer:
    """An optax optimiser for the backbone, and for each table one that moves the rows of a batch.

    `move_table(table, state, gradient, updates made so far) -> (table, state)`. The norm of the
    whole gradient is clipped.
    """

    def init(params: dict) -> ByRowsState:
        tables = {name: init_table(params[name]) for name in TABLES if name in params}
        return ByRowsState(jnp.zeros((), jnp.int32), backbone.init(_without_tables(params)), tables)

    def update(gradient: dict, state: ByRowsState, params: dict) -> tuple[dict, ByRowsState]:
        gradient = gradient if clip_norm is None else _clipped(gradient, clip_norm)
        rest = _without_tables(params)
        updates, others = backbone.update(_without_tables(gradient), state.backbone, rest)
        moved, tables = cast(dict, optax.apply_updates(rest, updates)), {}
        for name, table_state in state.tables.items():
            moved[name], tables[name] = move_table(
                params[name], table_state, gradient[name], state.count
            )
        return moved, ByRowsState(state.count + 1, others, tables)

    return Optimizer(init, update)


def gradient_values(gradient: dict) -> dict:
    """The gradient without the indices of rows."""
    return {
        name: part.values if isinstance(part, Rows) else part for name, part in gradient.items()
    }


def _without_tables(tree: dict) -> dict:
    return {name: part for name, part in tree.items() if name not in TABLES}


def _clipped(gradient: dict, norm: float) -> dict:
    """The gradient, scaled down to a global norm if it is larger."""
    values = cast(
        dict,
        optax.clip_by_global_norm(norm).update(gradient_values(gradient), optax.EmptyState())[0],
    )
    return {
        name: part._replace(values=values[name]) if isinstance(part, Rows) else values[name]
        for name, part in gradient.items()
    }
