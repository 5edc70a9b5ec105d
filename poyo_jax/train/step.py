"""The training step: jitted, sharded over the mesh, without host synchronisation."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from poyo_jax.distributed.lookup import EVERYWHERE, SPLIT, look_up, sum_rows
from poyo_jax.distributed.mesh import state_shardings, sum_over_devices
from poyo_jax.model.apply import loss_sum, used_rows
from poyo_jax.model.dropout import fold
from poyo_jax.model.partition import join
from poyo_jax.model.poyo import POYO
from poyo_jax.train.optim.rows import Optimizer, gradient_values
from poyo_jax.train.state import TrainState
from poyo_jax.types import Batch


def make_train_step(
    model: POYO,
    optimizer: Optimizer,
    mesh: Mesh,
    *,
    seed: int,
    microbatch_windows: int | None,
) -> Callable[[TrainState, Batch, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """Make a function (state, batch, frozen) -> (next state, {"loss", "gradient_norm"}).

    The given state is donated. The parameters are those of the state and of `frozen` together
    (`join`). What is frozen costs neither gradient nor optimiser state.

    The loss is the weighted mean over all queries of the loss of the task (poyo_jax/tasks.py).
    Dropout is decided by `seed`, the step, and each window's number in the global batch. Equal
    arguments give the same function, so that a run or a fit of equal shapes compiles nothing.
    Raises ConfigError when the model's attention cannot do this here (model/attention/api.py).
    """
    model.check_back_end(training=True)
    return _train_step(cast(Any, model), optimizer.update, mesh, seed, microbatch_windows)


@lru_cache(maxsize=8)
def _train_step(
    model: POYO,
    update: Callable[[dict, Any, dict], tuple[dict, Any]],
    mesh: Mesh,
    seed: int,
    microbatch_windows: int | None,
) -> Callable[[TrainState, Batch, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """The function of `make_train_step`."""

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(EVERYWHERE, EVERYWHERE, SPLIT, SPLIT, EVERYWHERE),
        out_specs=(EVERYWHERE, EVERYWHERE, SPLIT),
        check_vma=False,
    )
    def loss_and_gradient(learning, frozen, vectors, batch, step):
        """Loss, its gradient in the backbone, and that in the vectors of each device."""
        total_weight = sum_over_devices(batch.target_weights.sum(), mesh)
        dropout_seed = fold(jnp.uint32(seed & 0xFFFFFFFF), step)

        def loss_of_device(learning, vectors):
            backbone, learns = join(learning, frozen)
            loss = loss_sum(
                model, backbone, vectors, batch, dropout_seed, microbatch_windows, learns=learns
            )
            return loss / jnp.maximum(total_weight, 1e-12)

        differentiate = jax.value_and_grad(loss_of_device, argnums=(0, 1))
        loss, (backbone_gradient, vectors_gradient) = differentiate(learning, vectors)
        sum_up = partial(sum_over_devices, mesh=mesh)
        loss, backbone_gradient = jax.tree.map(sum_up, (loss, backbone_gradient))
        return loss, backbone_gradient, vectors_gradient

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, frozen: dict):
        params = state.params
        rows = used_rows(batch)
        learning = dict(params)
        vectors = {}
        for name in rows:
            table = learning.pop(name)
            vectors[name] = look_up(table, rows[name], mesh)

        loss, gradient, vectors_gradient = loss_and_gradient(
            learning, frozen, vectors, batch, state.step
        )
        for name in rows:
            num_rows = len(params[name])
            gradient[name] = sum_rows(rows[name], vectors_gradient[name], num_rows, mesh)
        norm = optax.tree.norm(gradient_values(gradient))
        metrics = {"loss": loss, "gradient_norm": norm}

        params, opt_state = update(gradient, state.opt_state, params)
        following = TrainState(state.step + 1, params, opt_state)
        where = state_shardings(following, mesh)
        return jax.lax.with_sharding_constraint(following, where), metrics

    return train_step
