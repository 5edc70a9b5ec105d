"""Choose the optimiser of a run by its configuration.

An optimiser is a class that is made by `Class(config=OptimConfig, total_steps=int)` and has

- `learning_rate` and `beta1`: schedules (schedules.py), whose values are logged;
- `backbone`: an optax transformation, which moves all parameters but the tables;
- `rows`: a `RowRule` (rows.py), which moves the rows of the tables.

`OptimConfig.name` is a name in `BUILT_IN`, or "module:Class" for a class of your own; a program
imports its module first (import_path.py).
"""

from collections.abc import Callable
from functools import lru_cache

from jax.sharding import Mesh
from jax.typing import ArrayLike

from poyo_jax.config import OptimConfig
from poyo_jax.import_path import resolve_with
from poyo_jax.train.optim.accumulate import accumulate
from poyo_jax.train.optim.adam import AdamW
from poyo_jax.train.optim.lamb import SparseLamb
from poyo_jax.train.optim.muon import Muon
from poyo_jax.train.optim.rows import Optimizer, with_tables

BUILT_IN: dict[str, type] = {
    "sparse_lamb": SparseLamb,
    "adamw": AdamW,
    "muon": Muon,
}
_MEMBERS = ("learning_rate", "beta1", "backbone", "rows")


def choose_optimizer(
    config: OptimConfig, total_steps: int, mesh: Mesh
) -> tuple[Optimizer, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """Make the optimiser of a run, and a function from an update's number to what is logged of it.

    `total_steps` counts updates; with accumulation an update takes `accumulate_steps` batches. What
    is logged are the learning rate and beta1. Raises ConfigError when the schedule does not fit, or
    when `config.name` names no optimiser. Equal arguments give the same functions.
    """
    return _make(_class_of(config), config, total_steps, mesh)


@lru_cache(maxsize=8)
def _make(
    kind: type, config: OptimConfig, total_steps: int, mesh: Mesh
) -> tuple[Optimizer, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """Make the optimiser from its class, which a notebook may define again."""
    chosen = kind(config=config, total_steps=total_steps)
    optimizer = with_tables(chosen.backbone, chosen.rows, mesh, config.clip_norm)
    if config.accumulate_steps > 1:
        optimizer = accumulate(optimizer, config.accumulate_steps, mesh)
    learning_rate = chosen.learning_rate
    beta1 = chosen.beta1

    def logged(step: ArrayLike) -> dict[str, ArrayLike]:
        return {"learning_rate": learning_rate(step), "beta1": beta1(step)}

    return optimizer, logged


def _class_of(config: OptimConfig) -> type:
    """The class that `config.name` names; raises ConfigError if it is no optimiser."""
    if config.name in BUILT_IN:
        return BUILT_IN[config.name]
    advice = "poyo_jax.train.optim.adam.AdamW, which has all of them"
    return resolve_with(config.name, "OptimConfig.name", _MEMBERS, "an optimiser", advice)
