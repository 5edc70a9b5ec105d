"""Updates of the unit and session tables that touch only the rows a batch uses, whatever the size of the vocabulary.

A table is a parameter [rows, dim]. Its gradient comes as `Rows`: the rows that the batch looked up and the gradient of
each. Large tables are split over the mesh by rows; every device then looks up and moves the rows it holds.

What travels between devices is the smaller of two things: the rows that all devices look up, or the whole table. So
with few devices the size of the vocabulary does not count, and with many the number of devices does not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32

from poyo_jax.config import OptimConfig
from poyo_jax.train.mesh import AXES, is_split, replicated, sum_over_devices
from poyo_jax.train.optim import (
    TABLES,
    Schedule,
    make_optimizer,
    make_schedules,
    sparse_lamb,
    trust_ratio_of_norms,
)

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


class Rows(NamedTuple):
    """Gradient of a table in some of its rows, or in all of them in order if `rows` is None.

    A row index equal to the number of rows marks a slot without a row.
    """

    rows: Int32[Array, " rows"] | None
    values: Float[Array, "rows dim"]


class Optimizer(NamedTuple):
    """How parameters move. `update(gradient, state, params) -> (params, state)`; gradients of tables are `Rows`."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


def dense(optimizer: optax.GradientTransformation) -> Optimizer:
    """An optax optimiser, for which the gradients of tables are spread out; its cost grows with the vocabulary."""

    def update(gradient: dict, state: Any, params: dict) -> tuple[dict, Any]:
        spread = {name: _spread(part, len(params[name])) if name in TABLES else part for name, part in gradient.items()}
        updates, state = optimizer.update(spread, state, params)
        return cast(dict, optax.apply_updates(params, updates)), state

    return Optimizer(optimizer.init, update)


def choose_optimizer(
    config: OptimConfig, total_steps: int, batch_size: int, mesh: Mesh
) -> tuple[Optimizer, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """As `make_optimizer`; LAMB moves only the rows of a batch, unless gradients are accumulated over batches."""
    optimizer, schedule = make_optimizer(config, total_steps, batch_size)
    if config.name != "sparse_lamb" or config.accumulate_steps > 1:
        return dense(optimizer), schedule
    rate, beta1 = make_schedules(config, total_steps, batch_size)
    own = table_lamb(rate, b1=beta1, mesh=mesh, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    return own, schedule


def _spread(part: Rows, num_rows: int) -> Array:
    if part.rows is None:
        return part.values
    return jnp.zeros((num_rows, part.values.shape[1])).at[part.rows].add(part.values, mode="drop")


def combine(part: Rows, num_rows: int, mesh: Mesh) -> Rows:
    """Every row once, with the sum of its gradients, in ascending order; all rows if no more than were looked up."""
    if num_rows <= len(part.values):
        return Rows(None, _sum_of_all_rows(part, num_rows, mesh))
    rows, values = (jax.lax.with_sharding_constraint(x, replicated(mesh)) for x in part)
    unique, slots = jnp.unique(rows, size=len(rows), fill_value=num_rows, return_inverse=True)
    return Rows(unique, jax.ops.segment_sum(values, slots, num_segments=len(rows)))


def _sum_of_all_rows(part: Rows, num_rows: int, mesh: Mesh) -> Float[Array, "rows dim"]:
    """The gradient of a whole table, which lies as the table does."""
    split = is_split(num_rows, mesh)

    @partial(jax.shard_map, mesh=mesh, in_specs=SPLIT, out_specs=SPLIT if split else EVERYWHERE, check_vma=False)
    def total(rows, values):
        own = jnp.zeros((num_rows, values.shape[1]), values.dtype).at[rows].add(values, mode="drop")
        return jax.lax.psum_scatter(own, AXES, tiled=True) if split else sum_over_devices(own, mesh)

    return total(part.rows, part.values)


def look_up(table: Float[Array, "rows dim"], rows: Int32[Array, " used"], mesh: Mesh) -> Float[Array, "used dim"]:
    """The rows of a table, which may be split over the mesh; `rows` and the result are split over it."""
    if not is_split(len(table), mesh):
        return jax.shard_map(lambda x, i: x[i], mesh=mesh, in_specs=(EVERYWHERE, SPLIT), out_specs=SPLIT)(table, rows)

    @partial(jax.shard_map, mesh=mesh, in_specs=(SPLIT, SPLIT), out_specs=SPLIT)
    def gather(own, rows):
        if len(table) <= len(rows) * mesh.size:
            return jax.lax.all_gather(own, AXES, tiled=True)[rows]
        found = _held(own, jax.lax.all_gather(rows, AXES, tiled=True))
        return jax.lax.psum_scatter(found, AXES, tiled=True)

    return gather(table, rows)


# ------------------------------------------------------------------------------------------------------ LAMB


class TableState(NamedTuple):
    """What `table_lamb` keeps of a table: moments as of the last update of each row, and the table's squared norm.

    The norm is a sum of two float32 numbers, so that adding small changes for ever loses nothing.
    """

    mu: Float[Array, "rows dim"]
    nu: Float[Array, "rows dim"]
    moved: Int32[Array, " rows"]  # number of the update that moved the row last; -1 if none did
    square: tuple[Float[Array, ""], Float[Array, ""]]


class TableLambState(NamedTuple):
    """State of `table_lamb`."""

    count: Int32[Array, ""]
    backbone: Any
    tables: dict[str, TableState]


def table_lamb(
    learning_rate: Schedule,
    *,
    b1: Schedule,
    mesh: Mesh,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 1e-4,
    clamp: float = 10.0,
    clip_norm: float | None = None,
) -> Optimizer:
    """`sparse_lamb` at a cost that does not depend on the number of rows in the tables.

    Equal to it: rows without gradient do not move and lose their moments, which here means that moments count only if
    the update before wrote them; their weight decay counts in the norm of the step through the table's squared norm.
    """
    others = sparse_lamb(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, clamp=clamp)

    def init(params: dict) -> TableLambState:
        tables = {name: _init_table(params[name]) for name in TABLES if name in params}
        return TableLambState(jnp.zeros((), jnp.int32), others.init(_without_tables(params)), tables)

    def update(gradient: dict, state: TableLambState, params: dict) -> tuple[dict, TableLambState]:
        if clip_norm is not None:
            clip = optax.clip_by_global_norm(clip_norm)
            clipped = cast(dict, clip.update(gradient_values(gradient), optax.EmptyState())[0])
            gradient = {
                name: part._replace(values=clipped[name]) if isinstance(part, Rows) else clipped[name]
                for name, part in gradient.items()
            }
        rest = _without_tables(params)
        updates, backbone = others.update(_without_tables(gradient), state.backbone, rest)
        moved = cast(dict, optax.apply_updates(rest, updates))
        rate, beta1 = (jnp.asarray(value(state.count), jnp.float32) for value in (learning_rate, b1))
        tables = {}
        for name, table_state in state.tables.items():
            move = partial(_move, rate=rate, b1=beta1, b2=b2, eps=eps, decay=weight_decay, clamp=clamp)
            moved[name], tables[name] = _update_table(
                move, params[name], table_state, gradient[name], state.count, mesh
            )  # fmt: skip
        return moved, TableLambState(state.count + 1, backbone, tables)

    return Optimizer(init, update)


def gradient_values(gradient: dict) -> dict:
    """The gradient without the indices of rows."""
    return {name: part.values if isinstance(part, Rows) else part for name, part in gradient.items()}


def _without_tables(tree: dict) -> dict:
    return {name: part for name, part in tree.items() if name not in TABLES}


def _init_table(table: Float[Array, "rows dim"]) -> TableState:
    zeros = jnp.zeros_like(table, jnp.float32)
    square = jnp.sum(jnp.square(table.astype(jnp.float32)))
    return TableState(zeros, zeros, jnp.full(len(table), -1, jnp.int32), (square, jnp.zeros(())))


def _update_table(
    move: Callable, table: Array, state: TableState, gradient: Rows, count: Array, mesh: Mesh
) -> tuple[Array, TableState]:
    """Look up the rows of the gradient, move them, and write them back, on the devices that hold them."""
    split = is_split(len(table), mesh)
    whole: Any = EVERYWHERE
    lies: Any = SPLIT if split else EVERYWHERE
    state_specs: Any = TableState(lies, lies, lies, (whole, whole))
    gradient_specs: Any = Rows(None, lies) if gradient.rows is None else Rows(whole, whole)
    specs: Any = (lies, state_specs, gradient_specs, whole)

    @partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=specs[:2], check_vma=False)
    def update(table, state, gradient, count):
        parts = split and gradient.rows is None  # each device moves rows of its own, of which sums are made

        def across(x):
            return jax.lax.psum(x, AXES) if parts else x

        def held(own):
            if gradient.rows is None:
                return own
            found = _held(own, gradient.rows) if split else own.at[gradient.rows].get(mode="fill", fill_value=0)
            return jax.lax.psum(found, AXES) if split else found

        def written(own, values, used):
            if gradient.rows is None:
                return jnp.where(used.reshape(-1, *[1] * (own.ndim - 1)), values, own).astype(own.dtype)
            first = jax.lax.axis_index(AXES) * len(own) if split else 0
            place = gradient.rows - first
            place = jnp.where(used & (place >= 0) & (place < len(own)), place, len(own))
            return own.at[place].set(values.astype(own.dtype), mode="drop")

        weights, fresh = held(table), held(state.moved) == count - 1
        moments = held(state.mu), held(state.nu)
        weights, mu, nu, used, change = move(weights, *moments, fresh, gradient.values, state.square, across)
        moments = written(state.mu, mu, used), written(state.nu, nu, used)
        moved = written(state.moved, jnp.full(used.shape, count), used)
        square = _two_sum(state.square[0], state.square[1], change)
        return written(table, weights, used), TableState(*moments, moved, square)

    return update(table, state, gradient, count)


def _held(own: Array, rows: Array) -> Array:
    """What this device holds of these rows of a split table; zeros for all others."""
    place = rows - jax.lax.axis_index(AXES) * len(own)
    mine = (place >= 0) & (place < len(own))
    found = own[jnp.where(mine, place, 0)]
    return jnp.where(mine.reshape(-1, *[1] * (own.ndim - 1)), found, 0)


def _move(
    weights: Array, mu: Array, nu: Array, fresh: Array, gradient: Array, square: tuple[Array, Array],
    across: Callable[[Array], Array], *, rate: Array, b1: Array, b2: float, eps: float, decay: float, clamp: float,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    """Rows, moments, which rows moved, and by how much the squared norm of the table changed.

    `across` adds what devices find, where each has rows of its own.
    """
    used = jnp.any(gradient != 0, axis=-1)
    kept = jnp.where(fresh[:, None], 1.0, 0.0)
    mu = b1 * mu * kept + (1 - b1) * gradient
    nu = b2 * nu * kept + (1 - b2) * gradient**2
    step = mu / (jnp.sqrt(nu) + eps) + decay * weights
    of_rows, steps = (across(jnp.sum(jnp.where(used[:, None], x, 0) ** 2)) for x in (weights, step))
    total = square[0] + square[1]
    step_norm = jnp.sqrt(steps + decay**2 * jnp.maximum(total - of_rows, 0))
    ratio = trust_ratio_of_norms(jnp.sqrt(jnp.maximum(total, 0)), step_norm, clamp)
    moved = weights - rate * ratio * step
    change = across(jnp.sum(jnp.where(used[:, None], (moved - weights) * (moved + weights), 0)))
    return moved, mu, nu, used, change


def _two_sum(high: Array, low: Array, change: Array) -> tuple[Array, Array]:
    """high + low + change as a rounded sum and what rounding left."""
    change = change + low
    total = high + change
    part = total - high
    return total, (high - (total - part)) + (change - part)
