"""Build the model of a configuration, and its initial parameters."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model.poyo import POYO
from poyo_jax.types import PADDING, Batch


def build_model(config: ModelConfig, run: RunConfig, num_units: int, num_sessions: int) -> POYO:
    """The model for tables of `num_units` and `num_sessions` rows, padding included."""
    dtype = jnp.dtype(run.compute_dtype)
    return POYO(
        config, num_units, num_sessions, dtype, run.remat, run.rows_per_group, run.attention
    )


def init_params(model: POYO, seed: int) -> dict:
    """Initial parameters; traceable."""
    batch = jax.tree.map(jnp.asarray, empty_batch(model.config))
    return cast(dict, model.init(jax.random.key(seed), batch)["params"])


def empty_batch(config: ModelConfig) -> Batch:
    """The smallest batch, of padding only, to find the shapes of parameters with."""
    tokens, queries = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    zeros = np.zeros(1, np.int32)
    targets = np.zeros((1, 1, config.num_channels), np.float32)
    return Batch(
        zeros,
        tokens.astype(np.int32),
        np.full((1, 1), PADDING, np.int8),
        tokens,
        tokens,
        None,
        zeros,
        zeros,
        queries,
        targets,
        queries,
        zeros.astype(np.uint32),
    )
