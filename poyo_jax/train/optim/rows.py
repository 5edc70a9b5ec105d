"""Optimisers that move only the rows of a table that a batch uses, for tables of any size.

A table is a parameter [rows, dim]. Its gradient comes as `Rows`. `with_tables` makes an optimiser
of an optax rule for the backbone and a `RowRule` for the rows of the tables.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, PyTree

from poyo_jax.distributed.lookup import EVERYWHERE, Rows, first_row, table_spec
from poyo_jax.distributed.mesh import AXES
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.schedules import Schedule

Update = Callable[[dict, Any, dict], tuple[dict, Any]]
Follow = Callable[[Schedule, Schedule], Update]


class Optimizer(NamedTuple):
    """An optimiser. `update(gradient, state, params) -> (params, state)`.

    The gradients of tables are `Rows`; those of other parameters are shaped like them.
    """

    init: Callable[[dict], Any]
    update: Update


class Rule(NamedTuple):
    """An optimiser that lacks its schedules. All schedules have the same first state.

    `follow(learning_rate, beta1)` makes the update that follows such schedules.
    """

    init: Callable[[dict], Any]
    follow: Follow


class TableState(NamedTuple):
    """State that a `RowRule` keeps of a table."""

    rows: Any  # arrays with an entry for each row
    shared: Any  # numbers of the whole table


Moved = tuple[Array, TableState]  # new weights and state of rows


class RowRule(NamedTuple):
    """An update rule for the rows of a table.

    `init(table)` makes the state. `move(weights, gradient, state, count, total)` returns the new
    weights and state of the rows with a gradient: all of its arrays have an entry for each of these
    rows, [entries, dim]. `count` is the number of updates made so far, and `total(x)` the sum of an
    array [entries, dim] over these rows on all devices.
    """

    init: Callable[[Array], TableState]
    move: Callable[[Array, Array, TableState, Array, Callable], Moved]


def zeros_like(tree: PyTree) -> PyTree:
    """Zeros in float32 for every array of a tree."""

    def zeros(x: Array) -> Array:
        return jnp.zeros_like(x, jnp.float32)

    return jax.tree.map(zeros, tree)


class TablesState(NamedTuple):
    """State of `with_tables`."""

    count: Int32[Array, ""]  # updates made so far
    backbone: Any
    tables: dict[str, TableState]


def with_tables(
    backbone: optax.GradientTransformation,
    rule: RowRule,
    mesh: Mesh,
    clip_norm: float | None = None,
) -> Optimizer:
    """Move tables by `rule` and all other parameters by `backbone`.

    With `clip_norm`, the whole gradient is scaled down to this global norm if its norm is larger.
    """

    def init(params: dict) -> TablesState:
        tables = {}
        for name in TABLES:
            if name in params:
                tables[name] = rule.init(params[name])
        count = jnp.zeros((), jnp.int32)
        return TablesState(count, backbone.init(_others(params)), tables)

    def update(
        gradient: dict,
        state: TablesState,
        params: dict,
    ) -> tuple[dict, TablesState]:
        if clip_norm is not None:
            gradient = _clipped(gradient, clip_norm)
        others = _others(params)
        updates, backbone_state = backbone.update(_others(gradient), state.backbone, others)
        moved = cast(dict, optax.apply_updates(others, updates))
        tables = {}
        for name, table_state in state.tables.items():
            moved[name], tables[name] = _move_rows(
                rule, params[name], gradient[name], table_state, state.count, mesh
            )
        return moved, TablesState(state.count + 1, backbone_state, tables)

    return Optimizer(init, update)


def add_rows(
    table: Float[Array, "rows dim"],
    added: Rows,
    mesh: Mesh,
) -> Float[Array, "rows dim"]:
    """Add vectors to rows of a table."""
    num_rows = len(table)
    spec = table_spec(num_rows, mesh)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(spec, spec),
        out_specs=spec,
        check_vma=False,
    )
    def add(table: Array, added: Rows) -> Array:
        places = added.rows - first_row(len(table), num_rows)
        return table.at[places].add(added.values, mode="drop")

    return add(table, added)


def gradient_values(gradient: dict) -> dict:
    """Return the gradient without the indices of rows."""
    values = dict(gradient)
    for name, value in gradient.items():
        if isinstance(value, Rows):
            values[name] = value.values
    return values


def _move_rows(
    rule: RowRule,
    table: Array,
    gradient: Rows,
    state: TableState,
    count: Array,
    mesh: Mesh,
) -> Moved:
    """Move the rows that have a gradient, each on the device that has it.

    Returns the new table and state.
    """
    num_rows = len(table)
    spec = table_spec(num_rows, mesh)
    state_specs: Any = TableState(spec, EVERYWHERE)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(spec, state_specs, spec, EVERYWHERE),
        out_specs=(spec, state_specs),
        check_vma=False,
    )
    def move(table: Array, state: TableState, gradient: Rows, count: Array):
        used = jnp.any(gradient.values != 0, axis=-1)
        nowhere = len(table)
        places = gradient.rows - first_row(len(table), num_rows)
        places = jnp.where(used, places, nowhere)

        def read(x: Array) -> Array:
            return x.at[places].get(mode="fill", fill_value=0)

        def write(x: Array, values: Array) -> Array:
            values = values.astype(x.dtype)
            return x.at[places].set(values, mode="drop")

        def total(x: Array) -> Array:
            x = jnp.where(used[:, None], x, 0)
            of_device = jnp.sum(x)
            if spec == EVERYWHERE:
                return of_device
            return jax.lax.psum(of_device, AXES)

        weights = read(table)
        rows = jax.tree.map(read, state.rows)
        entries = TableState(rows, state.shared)
        weights, moved = rule.move(weights, gradient.values, entries, count, total)
        rows = jax.tree.map(write, state.rows, moved.rows)
        return write(table, weights), TableState(rows, moved.shared)

    return move(table, state, gradient, count)


def _others(tree: dict) -> dict:
    """All but the tables."""
    return {name: value for name, value in tree.items() if name not in TABLES}


def _clipped(gradient: dict, norm: float) -> dict:
    clip = optax.clip_by_global_norm(norm)
    updates, _ = clip.update(gradient_values(gradient), optax.EmptyState())
    clipped = dict(cast(dict, updates))
    for name, value in gradient.items():
        if isinstance(value, Rows):
            clipped[name] = Rows(value.rows, clipped[name])
    return clipped
