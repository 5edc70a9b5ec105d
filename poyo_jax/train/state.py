"""The state of training: step, parameters and optimiser state."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.typing import ArrayLike
from jaxtyping import Array, Int32

from poyo_jax.distributed.mesh import state_shardings, with_padding
from poyo_jax.model.build import init_params
from poyo_jax.model.members import over_members
from poyo_jax.model.poyo import POYO
from poyo_jax.train.optim.rows import Rule


class TrainState(NamedTuple):
    """Parameters and optimiser state after `step` steps; those of members are stacked."""

    step: Int32[Array, ""]
    params: dict
    opt_state: Any


def init_state(model: POYO, rule: Rule, seed: int, mesh: Mesh) -> TrainState:
    """Create the state before the first step on the devices of the mesh."""
    return _jitted_init(cast(Any, model), rule, mesh)(np.uint32(seed))


@lru_cache(maxsize=8)
def _jitted_init(model: POYO, rule: Rule, mesh: Mesh) -> Callable[[ArrayLike], TrainState]:
    """The function of `init_state`; equal arguments give the same one."""
    init = partial(_init, model, rule)
    shardings = state_shardings(jax.eval_shape(init, np.uint32(0)), mesh)
    return jax.jit(init, out_shardings=shardings)


def abstract_state(model: POYO, rule: Rule, mesh: Mesh) -> TrainState:
    """Shapes, types and places of the arrays of the state, for devices that need not be there."""
    state = jax.eval_shape(partial(_init, model, rule), 0)

    def placed(x: jax.ShapeDtypeStruct, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    return jax.tree.map(placed, state, state_shardings(state, mesh))


def _init(model: POYO, rule: Rule, seed: ArrayLike) -> TrainState:
    return begin(model, rule, with_padding(init_params(model, seed)))


def begin(model: POYO, rule: Rule, params: dict) -> TrainState:
    """The state before the first step with these parameters; traceable."""
    init = over_members(rule.init, model.config.members)
    return TrainState(jnp.zeros((), jnp.int32), params, init(params))
