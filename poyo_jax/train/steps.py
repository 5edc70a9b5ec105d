"""The training step and the prediction step: jitted, sharded over the mesh, without host synchronisation."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from poyo_jax.model.dropout import fold
from poyo_jax.model.forward import loss_sum, predict
from poyo_jax.model.poyo import POYO
from poyo_jax.train.mesh import DATA
from poyo_jax.train.state import TrainState
from poyo_jax.types import Batch

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(DATA)


def make_train_step(
    model: POYO,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    seed: int,
    microbatch_windows: int | None,
) -> Callable[[TrainState, Batch, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """(state, batch, frozen) -> (next state, {"loss", "gradient_norm"}). The given state is donated.

    The model's parameters are `state.params | frozen`; what is frozen costs neither gradient nor optimiser state.

    The loss is the weighted mean over all queries of the squared error, itself a mean over channels. Dropout is decided
    by `seed`, the step, and each window's number in the global batch.
    """

    specs = (EVERYWHERE, EVERYWHERE, SPLIT, EVERYWHERE)

    @partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=EVERYWHERE, check_vma=False)
    def loss_and_gradient(params, frozen, batch, step):
        weights = jax.lax.psum(batch.target_weights.sum(), DATA)
        dropout_seed = fold(jnp.uint32(seed & 0xFFFFFFFF), step)

        def loss(params):
            learns = "backbone" in params
            total = loss_sum(model, params | frozen, batch, dropout_seed, microbatch_windows, backbone_learns=learns)
            return total / jnp.maximum(weights, 1e-12)

        return jax.lax.psum(jax.value_and_grad(loss)(params), DATA)

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, frozen: dict):
        loss, gradient = loss_and_gradient(state.params, frozen, batch, state.step)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
        params = cast(dict, optax.apply_updates(state.params, updates))
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step


def make_predict_step(model: POYO, mesh: Mesh, *, microbatch_windows: int | None) -> Callable[[dict, Batch], jax.Array]:
    """(parameters, batch) -> predictions [windows, queries, channels] in normalised units, split over the mesh.

    Equal arguments give the same function, so that decoding again compiles nothing.
    """
    return _predict_step(cast(Any, model), mesh, microbatch_windows)


@lru_cache(maxsize=8)
def _predict_step(model: POYO, mesh: Mesh, microbatch_windows: int | None) -> Callable[[dict, Batch], jax.Array]:
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(EVERYWHERE, SPLIT), out_specs=SPLIT, check_vma=False)
    def predict_step(params, batch):
        return predict(model, params, batch, microbatch_windows)

    return predict_step
