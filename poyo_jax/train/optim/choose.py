"""Choose the optimiser of a run by its configuration."""

from collections.abc import Callable

import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from poyo_jax.config import OptimConfig
from poyo_jax.train.optim.accumulate import accumulate
from poyo_jax.train.optim.adam import BETA1, adam_rows, adamw
from poyo_jax.train.optim.lamb import LambSettings, lamb, lamb_rows
from poyo_jax.train.optim.muon import muon
from poyo_jax.train.optim.rows import Optimizer, with_tables
from poyo_jax.train.optim.schedules import one_cycle, one_cycle_beta1, warmup_cosine


def choose_optimizer(
    config: OptimConfig, total_steps: int, mesh: Mesh
) -> tuple[Optimizer, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """Make the optimiser of a run, and a function from an update's number to what is logged of it.

    `total_steps` counts updates; with accumulation an update takes `accumulate_steps` batches. What
    is logged are the learning rate and beta1. Raises ConfigError when the schedule does not fit.
    """
    peak = config.learning_rate
    if config.name == "sparse_lamb":
        rate = one_cycle(peak, total_steps, config.pct_start)
        beta1 = one_cycle_beta1(total_steps, config.pct_start)
        settings = LambSettings(learning_rate=rate, b1=beta1, weight_decay=config.weight_decay)
        backbone, rows = lamb(settings), lamb_rows(settings)
    else:
        rate = warmup_cosine(peak, total_steps, config.warmup_steps, config.hold)
        beta1 = optax.constant_schedule(BETA1)
        make_backbone = {"adamw": adamw, "muon": muon}[config.name]
        backbone, rows = make_backbone(rate, config.weight_decay), adam_rows(rate)

    optimizer = with_tables(backbone, rows, mesh, config.clip_norm)
    if config.accumulate_steps > 1:
        optimizer = accumulate(optimizer, config.accumulate_steps, mesh)
    return optimizer, lambda step: {"learning_rate": rate(step), "beta1": beta1(step)}
