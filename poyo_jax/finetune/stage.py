"""A stage of a fit: which parameters learn, and the compiled step that moves them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poyo_jax.config import OptimConfig
from poyo_jax.distributed.mesh import state_shardings
from poyo_jax.finetune.coordinates import row_coordinates
from poyo_jax.finetune.optimizer import (
    Prior,
    adapting_schedules,
    adapting_state,
    adapting_update,
)
from poyo_jax.finetune.setup import FitSetup
from poyo_jax.fit_config import FitConfig, Stage
from poyo_jax.model.params import LOW_RANK, TABLES, Path, path_names
from poyo_jax.model.partition import join, low_rank_factors, rates_of, take
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.state import TrainState
from poyo_jax.train.step import Fixed, make_train_step
from poyo_jax.types import Batch


class StageStep:
    """The gradient step of one stage. `origin` has the rows to which the prior pulls."""

    def __init__(self, setup: FitSetup, stage: Stage, params: dict, origin: dict):
        self.setup, self.stage = setup, stage
        config = setup.config
        backbone = params["backbone"]
        new_heads = dict.fromkeys(setup.new_heads, config.head_rate or 0.0)
        rates = rates_of(backbone, {**stage.backbone_rates, **new_heads})
        learning, frozen = _split(params, rates, setup)
        self._learning = learning
        num_steps = stage.last - stage.first
        if config.optimizer == "sparse_lamb":
            optim = _published(config)
            schedules = make_schedules(optim, num_steps)
            init, follow = choose_optimizer(optim, setup.mesh)
            self._opt_state = init(learning)
        else:
            schedules = adapting_schedules(num_steps)
            follow = adapting_update(config.weight_decay)
            rate_tree = _rate_tree(learning, rates, config.learning_rate)
            priors = _priors(setup, origin)
            self._opt_state = adapting_state(learning, rate_tree, priors, config.weight_decay)
        self.fixed = Fixed.of(schedules, config.seed, setup.mesh, {"backbone": frozen})
        self._step = make_train_step(
            setup.model,
            follow,
            setup.mesh,
            microbatch_windows=setup.microbatch,
        )

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        """Make one step. The given state is donated."""
        return self._step(state, batch, self.fixed)

    def start(self) -> TrainState:
        """The state before the first step. Its arrays are copies, since steps donate the state."""
        first = jnp.asarray(self.stage.first, jnp.int32)
        state = TrainState(first, self._learning, self._opt_state)
        state = jax.tree.map(jnp.copy, state)
        return jax.device_put(state, state_shardings(state, self.setup.mesh))

    def all_params(self, learning: dict) -> dict:
        """All parameters, learning and frozen, in arrays that the next step does not donate."""
        tables = {name: jnp.copy(learning[name]) for name in TABLES}
        if "backbone" not in learning and LOW_RANK not in learning:
            return {**tables, **self.fixed.frozen}
        backbone, _ = join(learning, self.fixed.frozen)
        return {**tables, "backbone": jax.tree.map(jnp.copy, backbone)}


def _split(params: dict, rates: Mapping, setup: FitSetup) -> tuple[dict[str, Any], dict]:
    """Split the parameters into those that learn, tables included, and the frozen backbone.

    With a rank, only new heads learn as a whole.
    """
    backbone, rank = params["backbone"], setup.config.rank
    learning: dict[str, Any] = {name: params[name] for name in TABLES}
    whole = dict(rates)
    if rank is not None:
        whole = {path: rate for path, rate in rates.items() if _is_new(path, setup)}
        others = {path: rate for path, rate in rates.items() if path not in whole}
        if others:
            key = jax.random.key(setup.config.seed)
            learning[LOW_RANK] = low_rank_factors(backbone, others, rank, key)
    learned, frozen = take(backbone, whole)
    if learned:
        learning["backbone"] = learned
    return learning, frozen


def _is_new(path: Path, setup: FitSetup) -> bool:
    """Tell if a parameter belongs to the head of an output that the model lacked."""
    return "/".join(path[:2]) in setup.new_heads


def _priors(setup: FitSetup, origin: dict) -> dict[str, Prior]:
    """Priors of the rows, by table."""
    weight = setup.config.prior_weight / setup.label_seconds
    priors = {}
    for name in TABLES:
        trained = np.asarray(setup.pretrained.params[name])
        scatter = row_coordinates(trained, setup.config.coordinates)
        priors[name] = Prior.of(jnp.asarray(origin[name]), jnp.asarray(scatter), weight)
    return priors


def _published(config: FitConfig) -> OptimConfig:
    """The authors' LAMB with their schedule, as in pretraining."""
    return OptimConfig(
        name="sparse_lamb",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def _rate_tree(learning: dict, rates: Mapping, row_rate: float) -> dict:
    """A rate for every parameter that learns; low-rank factors have the rate of their matrix."""

    def rate(path: tuple, _: Any) -> float:
        first, *rest = path_names(path)
        if first in TABLES:
            return row_rate
        if first == LOW_RANK:
            rest.pop()  # the name of the factor
        return rates[tuple(rest)]

    return jax.tree_util.tree_map_with_path(rate, learning)
