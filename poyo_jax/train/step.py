"""The training step: jitted, sharded over the mesh, without host synchronisation."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import OutputConfig
from poyo_jax.distributed.lookup import EVERYWHERE, SPLIT, look_up, sum_rows
from poyo_jax.distributed.mesh import (
    put_everywhere,
    replicated,
    state_shardings,
    sum_over_devices,
)
from poyo_jax.model.apply import loss_sum, used_rows
from poyo_jax.model.dropout import fold
from poyo_jax.model.members import member_seeds, over_members
from poyo_jax.model.partition import join
from poyo_jax.model.poyo import POYO
from poyo_jax.train.optim.rows import Follow, gradient_values
from poyo_jax.train.optim.schedules import Schedules
from poyo_jax.train.state import TrainState
from poyo_jax.types import Batch

SCALES = "output_scales"  # ones, in which the gradient of the loss is the part of each output


class Fixed(NamedTuple):
    """Arguments of a compiled step that stay the same in all steps of a run or a fit.

    None of their values is compiled into the step, so that others share it.
    """

    schedules: Schedules
    seed: UInt32[ArrayLike, ""]  # of dropout
    frozen: dict  # parameters that do not learn

    @classmethod
    def of(cls, schedules: Schedules, seed: int, mesh: Mesh, frozen: dict | None = None) -> "Fixed":
        """These values on the devices of the mesh."""
        bits = np.uint32(seed & 0xFFFFFFFF)
        return put_everywhere(cls(schedules, bits, frozen or {}), mesh)


def abstract_fixed(schedules: Schedules, mesh: Mesh) -> Fixed:
    """Shapes, types and places of `Fixed`, for devices that need not be there."""

    def placed(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh))

    return jax.tree.map(placed, Fixed(schedules, np.zeros((), np.uint32), {}))


Step = Callable[[TrainState, Batch, Fixed], tuple[TrainState, dict[str, jax.Array]]]


def balanced(
    batch: Batch, outputs: Sequence[OutputConfig], mesh: Mesh
) -> tuple[Batch, Float[Array, ""]]:
    """The batch with weights such that outputs do not count by their sampling rates, and their sum.

    An output counts by its own weight and by the windows of all devices that have targets of it;
    its queries share this. So the loss is the mean over windows, and over outputs their weighted
    sum. The sum returned is the number of windows with any target.
    """
    asked = jax.nn.one_hot(batch.query_outputs, len(outputs))  # [W, Q, O]
    weights = batch.target_weights[..., None] * asked
    in_window = weights.sum(axis=1) > 0  # [W, O]
    totals = sum_over_devices(weights.sum(axis=(0, 1)), mesh)
    counts = sum_over_devices(in_window.sum(axis=0).astype(jnp.float32), mesh)
    windows = sum_over_devices(in_window.any(axis=1).sum().astype(jnp.float32), mesh)
    own = jnp.array([output.weight for output in outputs])
    factors = own * counts / jnp.maximum(totals, 1e-12)
    scaled = (weights * factors).sum(axis=-1)
    return batch._replace(target_weights=scaled), windows


def make_train_step(
    model: POYO,
    follow: Follow,
    mesh: Mesh,
    *,
    microbatch_windows: int | None,
) -> Step:
    """Make a function (state, batch, fixed) -> (next state, {"loss", "gradient_norm", ...}).

    `follow` makes the update of the optimiser (train/optim/rows.py).

    The given state is donated. The parameters are those of the state and of `fixed.frozen` together
    (`join`). What is frozen costs neither gradient nor optimiser state. The members of an ensemble
    see the same batch, and metrics are their means; nothing of theirs may be frozen.

    The loss is the weighted mean over all queries of the loss of the task (poyo_jax/tasks). With
    several outputs it is that of `balanced`, and "loss_<output>" is the part of each output in it.
    Dropout is decided by the seed, the step, and each window's number in the global batch; members
    have `member_seeds`. Equal arguments give the same function, so that a run or a fit of equal
    shapes compiles nothing.
    Raises ConfigError when the model's attention cannot do this here (model/attention/api.py).
    """
    model.check_back_end(training=True)
    return _train_step(cast(Any, model), follow, mesh, microbatch_windows)


@lru_cache(maxsize=8)
def _train_step(
    model: POYO,
    follow: Follow,
    mesh: Mesh,
    microbatch_windows: int | None,
) -> Step:
    """The function of `make_train_step`."""
    outputs = model.config.all_outputs
    several = len(outputs) > 1
    members = model.config.members

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(EVERYWHERE, EVERYWHERE, SPLIT, SPLIT, EVERYWHERE),
        out_specs=(EVERYWHERE, EVERYWHERE, SPLIT),
        check_vma=False,
    )
    def loss_and_gradient(learning, frozen, vectors, batch, dropout_seed):
        """Loss, its gradient in the backbone, and that in the vectors of each device."""
        if several:
            batch, total_weight = balanced(batch, outputs, mesh)
        else:
            total_weight = sum_over_devices(batch.target_weights.sum(), mesh)

        def loss_of_device(learning, vectors):
            backbone, learns = join(learning, frozen)
            loss = loss_sum(
                model,
                backbone,
                vectors,
                batch,
                dropout_seed,
                microbatch_windows,
                learns=learns,
                scales=learning.get(SCALES),
            )
            return loss / jnp.maximum(total_weight, 1e-12)

        differentiate = jax.value_and_grad(loss_of_device, argnums=(0, 1))
        loss, (backbone_gradient, vectors_gradient) = differentiate(learning, vectors)
        sum_up = partial(sum_over_devices, mesh=mesh)
        loss, backbone_gradient = jax.tree.map(sum_up, (loss, backbone_gradient))
        return loss, backbone_gradient, vectors_gradient

    def move(params, opt_state, batch, fixed, dropout_seed):
        """Parameters and optimiser state of a model after a step, and its metrics."""
        rows = used_rows(batch)
        learning = dict(params)
        vectors = {}
        for name in rows:
            table = learning.pop(name)
            vectors[name] = look_up(table, rows[name], mesh)
        if several:
            learning[SCALES] = jnp.ones(len(outputs))

        loss, gradient, vectors_gradient = loss_and_gradient(
            learning, fixed.frozen, vectors, batch, dropout_seed
        )
        parts = gradient.pop(SCALES, ())
        for name in rows:
            num_rows = len(params[name])
            gradient[name] = sum_rows(rows[name], vectors_gradient[name], num_rows, mesh)
        norm = optax.tree.norm(gradient_values(gradient))
        metrics = {"loss": loss, "gradient_norm": norm}
        for output, part in zip(outputs, parts, strict=several):
            metrics[f"loss_{output.name}"] = part

        update = follow(*fixed.schedules.functions())
        return *update(gradient, opt_state, params), metrics

    move_all = over_members(move, members, in_axes=(0, 0, None, None, 0))

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, fixed: Fixed):
        seeds = fold(member_seeds(fixed.seed, members), state.step)
        params, opt_state, metrics = move_all(state.params, state.opt_state, batch, fixed, seeds)
        metrics = jax.tree.map(jnp.mean, metrics)
        following = TrainState(state.step + 1, params, opt_state)
        where = state_shardings(following, mesh)
        return jax.lax.with_sharding_constraint(following, where), metrics

    return train_step
