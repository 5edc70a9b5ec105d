"""Build the model of a configuration, and its initial parameters."""

from functools import lru_cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model.choose_processor import make_processor
from poyo_jax.model.compute import Compute
from poyo_jax.model.members import member_seeds, over_members
from poyo_jax.model.params import SESSIONS, UNITS
from poyo_jax.model.poyo import POYO
from poyo_jax.tasks import choose_task
from poyo_jax.types import PADDING, Batch


def build_model(
    config: ModelConfig,
    run: RunConfig,
    num_units: int,
    num_sessions: int,
    platform: str | None = None,
) -> POYO:
    """Build the model for tables of `num_units` and `num_sessions` rows, padding included.

    `platform` is that of the devices that compute (model/hardware.py), by default this process's.

    Equal arguments give equal models, and equal models share compiled steps.

    Raises ConfigError when `config` names no processor (model/choose_processor.py) or no task.
    """
    compute = Compute.of_run(run, platform)
    tasks = [type(choose_task(output)) for output in config.all_outputs]
    classes = (type(make_processor(config, compute)), *tasks)
    return POYO(config, num_units, num_sessions, compute, classes)


def without_vocab(model: POYO) -> Any:
    """The model with the smallest tables: equal for models that differ in their tables alone."""
    return model.clone(num_units=1, num_sessions=1)


def init_params(model: POYO, seed: ArrayLike) -> dict:
    """Initial parameters; traceable. Members of an ensemble have `member_seeds`."""
    batch = jax.tree.map(jnp.asarray, empty_batch(model.config))

    def init(seed: ArrayLike) -> dict:
        return cast(dict, model.init(jax.random.key(seed), batch)["params"])

    members = model.config.members
    return over_members(init, members)(member_seeds(seed, members))


def shapes_of_params(model: POYO) -> dict:
    """The tree of the parameters with their shapes and types in place of arrays."""
    tree = _shapes_of_params(without_vocab(model))
    shapes = jax.tree.map(lambda shape: shape, tree)  # nobody changes the tree that others get
    for name, num_rows in ((UNITS, model.num_units), (SESSIONS, model.num_sessions)):
        *members, _, dim = shapes[name].shape
        shapes[name] = jax.ShapeDtypeStruct((*members, num_rows, dim), shapes[name].dtype)
    return shapes


@lru_cache(maxsize=32)
def _shapes_of_params(model: POYO) -> dict:
    """Trace the shapes of the parameters, once for each configuration."""
    return jax.eval_shape(lambda: init_params(model, 0))


def empty_batch(config: ModelConfig) -> Batch:
    """The smallest batch, of padding only, from which the shapes of parameters are found."""
    tokens = np.zeros((1, 1), np.float32)
    queries = np.zeros((1, 1), np.float32)
    outputs = config.all_outputs
    targets = np.zeros((1, 1, max(output.num_channels for output in outputs)), np.float32)
    rows = np.zeros(1, np.int32)
    return Batch(
        unit_rows=rows,
        token_units=tokens.astype(np.int32),
        token_kinds=np.full((1, 1), PADDING, np.int8),
        token_times=tokens,
        token_times_low=tokens,
        token_windows=None,
        token_offsets=rows,
        session_rows=rows,
        query_times=queries,
        targets=targets,
        target_weights=queries,
        window_ids=rows.astype(np.uint32),
        query_outputs=None if len(outputs) == 1 else queries.astype(np.int8),
    )
