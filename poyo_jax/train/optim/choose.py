"""Choose the optimiser of a run by its configuration.

An optimiser is a class that is made by `Class(config=OptimConfig)` and has the methods

- `schedules(total_steps)`: schedules of the learning rate and of beta1 (schedules.py), which are
  computed before the first step and logged;
- `backbone(learning_rate, beta1)`: an optax transformation that follows two such schedules and
  moves all parameters but the tables;
- `rows(learning_rate, beta1)`: a `RowRule` (rows.py), which moves the rows of the tables.

`OptimConfig.name` is a name in `BUILT_IN`, or "module:Class" for a class of your own; a program
imports its module first (import_path.py).
"""

from functools import lru_cache

import optax
from jax.sharding import Mesh

from poyo_jax.config import OptimConfig
from poyo_jax.import_path import resolve_with
from poyo_jax.train.optim.accumulate import accumulate
from poyo_jax.train.optim.adam import AdamW
from poyo_jax.train.optim.lamb import SparseLamb
from poyo_jax.train.optim.muon import Muon
from poyo_jax.train.optim.rows import Optimizer, Rule, Update, with_tables
from poyo_jax.train.optim.schedules import Schedule, Schedules

BUILT_IN: dict[str, type] = {
    "sparse_lamb": SparseLamb,
    "adamw": AdamW,
    "muon": Muon,
}
_MEMBERS = ("schedules", "backbone", "rows")


def choose_optimizer(config: OptimConfig, mesh: Mesh) -> Rule:
    """Make the rule of a run's optimiser.

    Raises ConfigError when `config.name` names no optimiser. Equal arguments give the same rule, so
    that runs of all lengths share one compiled step.
    """
    return _make(_class_of(config), config, mesh)


def make_schedules(config: OptimConfig, total_steps: int) -> Schedules:
    """The learning rate and beta1 of every update of a run.

    With accumulation an update takes `accumulate_steps` batches. Raises ConfigError when the
    schedule does not fit, or when `config.name` names no optimiser.
    """
    chosen = _class_of(config)(config=config)
    learning_rate, beta1 = chosen.schedules(total_steps)
    return Schedules.of(learning_rate, beta1, total_steps)


@lru_cache(maxsize=8)
def _make(kind: type, config: OptimConfig, mesh: Mesh) -> Rule:
    """Make the rule from its class, which a notebook may define again."""
    chosen = kind(config=config)

    def make(learning_rate: Schedule, beta1: Schedule) -> Optimizer:
        backbone = chosen.backbone(learning_rate, beta1)
        rows = chosen.rows(learning_rate, beta1)
        optimizer = with_tables(backbone, rows, mesh, config.clip_norm)
        if config.accumulate_steps > 1:
            optimizer = accumulate(optimizer, config.accumulate_steps, mesh)
        return optimizer

    def follow(learning_rate: Schedule, beta1: Schedule) -> Update:
        return make(learning_rate, beta1).update

    none = optax.constant_schedule(0.0)
    return Rule(make(none, none).init, follow)


def _class_of(config: OptimConfig) -> type:
    """The class that `config.name` names; raises ConfigError if it is no optimiser."""
    if config.name in BUILT_IN:
        return BUILT_IN[config.name]
    advice = "poyo_jax.train.optim.adam.AdamW, which has all of them"
    return resolve_with(config.name, "OptimConfig.name", _MEMBERS, "an optimiser", advice)
