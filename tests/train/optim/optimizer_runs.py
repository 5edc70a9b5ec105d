"""Parameters, gradients and runs of optimisers for the tests of this folder."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from poyo_jax.config import OptimConfig
from poyo_jax.distributed.lookup import Rows, sum_rows
from poyo_jax.model.params import TABLES
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.optim.rows import Optimizer

NUM_STEPS, DIM = 30, 8
NUM_ROWS = dict(zip(TABLES, (64, 16), strict=True))

summed = jax.jit(sum_rows, static_argnums=(2, 3))


def random_tree(seed: int, shapes: dict) -> dict:
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()
    }


def in_rows(gradient: dict) -> dict:
    """The gradient, with those of tables, shaped like the tables, as `Rows` of all rows."""
    return {
        name: Rows(jnp.arange(len(x)), jnp.asarray(x)) if name in TABLES else x
        for name, x in gradient.items()
    }


def choose(config: OptimConfig, total_steps: int, mesh: Mesh) -> tuple[Optimizer, Callable]:
    """The optimiser of a configuration, and a function from an update's number to its values."""
    rule, schedules = choose_optimizer(config, mesh), make_schedules(config, total_steps)

    def values(step: int) -> dict:
        return {name: values[step] for name, values in schedules._asdict().items()}

    return Optimizer(rule.init, rule.follow(*schedules.functions())), values


def run(optimizer, params: dict, gradients: list[dict]) -> list[tuple[dict, object]]:
    """(parameters, state) after each gradient."""
    update, state, steps = jax.jit(optimizer.update), optimizer.init(params), []
    for gradient in gradients:
        params, state = update(gradient, state, params)
        steps.append((params, state))
    return steps


def start(scale: float = 0.3) -> dict:
    """Two tables and a backbone."""
    rng = np.random.default_rng(0)
    params: dict = {name: scale * rng.normal(size=(rows, DIM)) for name, rows in NUM_ROWS.items()}
    params["backbone"] = {"kernel": rng.normal(size=(DIM, 4)), "bias": np.zeros(4)}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def looked_up(count: int) -> list[dict]:
    """Gradients by look-up: `count` rows of each table that repeat, come and go, and a vector each.

    The vectors of every fifth row are zero.
    """
    rng, steps = np.random.default_rng(1), []
    for step in range(NUM_STEPS):
        gradient: dict = {
            "backbone": {"kernel": rng.normal(size=(DIM, 4)), "bias": rng.normal(size=4)}
        }
        for name, num_rows in NUM_ROWS.items():
            rows = rng.integers(0, num_rows // (1 + step % 3), count)
            vectors = rng.normal(size=(count, DIM)) * (rows % 5 > 0)[:, None]
            gradient[name] = rows.astype(np.int32), vectors
        steps.append(jax.tree.map(lambda x: x if x.dtype == np.int32 else np.float32(x), gradient))
    return steps


def summed_gradient(gradient: dict, mesh: Mesh) -> dict:
    """As the training step makes it of a gradient by look-up."""
    tables = {name: summed(*gradient[name], num_rows, mesh) for name, num_rows in NUM_ROWS.items()}
    return gradient | tables


def gradients(mesh: Mesh, count: int = 24) -> list[dict]:
    return [summed_gradient(gradient, mesh) for gradient in looked_up(count)]


def whole_tables(gradient: dict) -> dict[str, np.ndarray]:
    """The gradients of the tables, shaped like them, in float64."""
    whole = {}
    for name, num_rows in NUM_ROWS.items():
        rows, values = (np.asarray(x) for x in gradient[name])
        whole[name] = np.zeros((num_rows + 1, DIM))
        np.add.at(whole[name], rows, values)
        whole[name] = whole[name][:num_rows]
    return whole
