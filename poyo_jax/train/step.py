"""The training step and the prediction step: jitted, sharded over the mesh, without host
synchronisation.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from poyo_jax.distributed.lookup import look_up
from poyo_jax.distributed.mesh import AXES, state_shardings, sum_over_devices
from poyo_jax.model.apply import loss_sum, used_rows
from poyo_jax.model.dropout import fold
from poyo_jax.model.partition import join
from poyo_jax.model.poyo import POYO
from poyo_jax.train.optim.tables import Optimizer, Rows, combine, gradient_values
from poyo_jax.train.state import TrainState
from poyo_jax.types import Batch

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


def make_train_step(
    model: POYO,
    optimizer: Optimizer,
    mesh: Mesh,
    *,
    seed: int,
    microbatch_windows: int | None,
) -> Callable[[TrainState, Batch, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """(state, batch, frozen) -> (next state, {"loss", "gradient_norm"}). The given state is
    donated.

    The parameters are those of the state and of `frozen` together (`join`). What is frozen costs
    neither gradient nor optimiser state.

    The loss is the weighted mean over all queries of the squared error, itself a mean over
    channels. Dropout is decided by `seed`, the step, and each window's number in the global batch.
    Raises ConfigError when the model's attention cannot do this here (model/attention/api.py).
    """
    model.check_back_end(training=True)
    specs = (EVERYWHERE, EVERYWHERE, SPLIT, SPLIT, EVERYWHERE)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=specs,
        out_specs=(EVERYWHERE, EVERYWHERE, SPLIT),
        check_vma=False,
    )
    def loss_and_gradient(learning, frozen, vectors, batch, step):
        weights = sum_over_devices(batch.target_weights.sum(), mesh)
        dropout_seed = fold(jnp.uint32(seed & 0xFFFFFFFF), step)

        def loss(learning, vectors):
            backbone, learns = join(learning, frozen)
            total = loss_sum(
                model, backbone, vectors, batch, dropout_seed, microbatch_windows, learns=learns
            )
            return total / jnp.maximum(weights, 1e-12)

        value, (of_backbone, of_vectors) = jax.value_and_grad(loss, argnums=(0, 1))(
            learning, vectors
        )
        value, of_backbone = jax.tree.map(lambda x: sum_over_devices(x, mesh), (value, of_backbone))
        return value, of_backbone, of_vectors

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, frozen: dict):
        rows, sizes = used_rows(batch), {name: len(state.params[name]) for name in used_rows(batch)}
        vectors = {name: look_up(state.params[name], used, mesh) for name, used in rows.items()}
        learning = {name: part for name, part in state.params.items() if name not in rows}
        loss, gradient, of_rows = loss_and_gradient(learning, frozen, vectors, batch, state.step)
        gradient |= {
            name: combine(Rows(rows[name], of_rows[name]), sizes[name], mesh) for name in rows
        }
        params, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient_values(gradient))}
        following = TrainState(state.step + 1, params, opt_state)
        return jax.lax.with_sharding_constraint(
            following, state_shardings(following, mesh)
        ), metrics

    return train_step
