"""What training changes from step to step."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int32

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model.poyo import POYO
from poyo_jax.train.mesh import padded_rows, state_shardings
from poyo_jax.train.tables import TABLES, Optimizer
from poyo_jax.types import PADDING, Batch


class TrainState(NamedTuple):
    """Parameters and optimiser state after `step` steps."""

    step: Int32[Array, ""]
    params: dict
    opt_state: Any


def build_model(config: ModelConfig, run: RunConfig, num_units: int, num_sessions: int) -> POYO:
    """The model for tables of `num_units` and `num_sessions` rows, padding included."""
    dtype = jnp.dtype(run.compute_dtype)
    return POYO(config, num_units, num_sessions, dtype, run.remat, run.rows_per_group, run.attention)


def init_params(model: POYO, seed: int) -> dict:
    """Initial parameters, with rows of zeros behind those of large tables (`padded_rows`); traceable."""
    batch = jax.tree.map(jnp.asarray, empty_batch(model.config))
    return with_padding(cast(dict, model.init(jax.random.key(seed), batch)["params"]))


def with_padding(params: dict) -> dict:
    """Parameters with rows of zeros behind those of large tables (`padded_rows`), as checkpoints have them."""
    missing = {name: padded_rows(len(params[name])) - len(params[name]) for name in TABLES}
    return params | {name: jnp.pad(params[name], ((0, rows), (0, 0))) for name, rows in missing.items()}


def init_state(model: POYO, optimizer: Optimizer, seed: int, mesh: Mesh) -> TrainState:
    """State before the first step, created on the devices of the mesh."""

    def init():
        params = init_params(model, seed)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(init, out_shardings=state_shardings(jax.eval_shape(init), mesh))()


def empty_batch(config: ModelConfig) -> Batch:
    """The smallest batch, of padding only, to find the shapes of parameters with."""
    tokens, queries = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    zeros = np.zeros(1, np.int32)
    targets = np.zeros((1, 1, config.num_channels), np.float32)
    return Batch(
        zeros, tokens.astype(np.int32), np.full((1, 1), PADDING, np.int8), tokens, tokens, None, zeros, zeros,
        queries, targets, queries, zeros.astype(np.uint32),
    )  # fmt: skip
