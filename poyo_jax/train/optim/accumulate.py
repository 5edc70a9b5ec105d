"""Average the gradients of several batches before the parameters move."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, PyTree

from poyo_jax.distributed.lookup import Rows
from poyo_jax.train.optim.rows import Optimizer, add_rows, zeros_like


class AccumulatingState(NamedTuple):
    """State of `accumulate`."""

    batches: Int32[Array, ""]  # since the last update
    sums: PyTree[Float[Array, "..."]]  # of their gradients, shaped like the parameters
    optimizer: Any


def accumulate(optimizer: Optimizer, num_batches: int, mesh: Mesh) -> Optimizer:
    """Move the parameters after every `num_batches` gradients, by the mean of these gradients.

    The update is that of the optimiser for one batch with this gradient. Gradients after the last
    full set wait in the state and move nothing.

    The sums take as much memory as the parameters, and the time of an update grows with the tables.
    """

    def init(params: dict) -> AccumulatingState:
        none = jnp.zeros((), jnp.int32)
        return AccumulatingState(none, zeros_like(params), optimizer.init(params))

    def update(
        gradient: dict, state: AccumulatingState, params: dict
    ) -> tuple[dict, AccumulatingState]:
        sums = {}
        for name, value in gradient.items():
            sums[name] = _add(state.sums[name], value, mesh)

        def move() -> tuple[dict, AccumulatingState]:
            mean = jax.tree.map(lambda x: x / num_batches, sums)
            for name, value in gradient.items():
                if isinstance(value, Rows):
                    numbers = jnp.arange(len(mean[name]))
                    mean[name] = Rows(numbers, mean[name])
            moved, inner = optimizer.update(mean, state.optimizer, params)
            none = jnp.zeros((), jnp.int32)
            return moved, AccumulatingState(none, zeros_like(sums), inner)

        def wait() -> tuple[dict, AccumulatingState]:
            return params, AccumulatingState(state.batches + 1, sums, state.optimizer)

        return jax.lax.cond(state.batches + 1 == num_batches, move, wait)

    return Optimizer(init, update)


def _add(sums: PyTree, gradient: PyTree, mesh: Mesh) -> PyTree:
    if isinstance(gradient, Rows):
        return add_rows(sums, gradient, mesh)
    return jax.tree.map(jnp.add, sums, gradient)
