"""A stage of a fit: what of the parameters learns, and the step that moves it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poyo_jax.distributed.mesh import replicated, state_shardings
from poyo_jax.finetune.optimizer import Prior, adapting_optimizer
from poyo_jax.finetune.setup import FitJob
from poyo_jax.finetune.starts import coordinates
from poyo_jax.fit_config import Stage
from poyo_jax.model.params import LOW_RANK, TABLES, path_names
from poyo_jax.model.partition import join, low_rank_factors, rates_of, take
from poyo_jax.train.state import TrainState
from poyo_jax.train.step import make_train_step


class Part:
    """A stage of a fit: what of the parameters learns, and the step that moves it; rows are pulled
    to the origin's.
    """

    def __init__(self, job: FitJob, stage: Stage, params: dict, origin: dict):
        self.job, self.stage = job, stage
        config, backbone = job.config, params["backbone"]
        rates = rates_of(backbone, stage.backbone_rates)
        learning: dict[str, Any] = {name: params[name] for name in TABLES}
        rates_in = {name: config.learning_rate for name in TABLES}
        if rates and config.rank is not None:
            factors = low_rank_factors(backbone, rates, config.rank, jax.random.key(config.seed))
            learning, frozen = learning | {LOW_RANK: factors}, backbone
        else:
            own, frozen = take(backbone, rates)
            learning |= {"backbone": own} if own else {}
        self._learning, self.frozen = (
            learning,
            jax.device_put({"backbone": frozen}, replicated(job.mesh)),
        )
        trained = {name: np.asarray(job.pretrained.params[name]) for name in TABLES}
        self._optimizer = adapting_optimizer(
            _rate_tree(learning, rates, rates_in),
            {
                name: Prior(
                    jnp.asarray(origin[name]), jnp.asarray(coordinates(table)), job.prior_weight
                )
                for name, table in trained.items()
            },
            stage.last - stage.first,
            config.weight_decay,
        )
        self.step = make_train_step(
            job.model,
            self._optimizer,
            job.mesh,
            seed=config.seed,
            microbatch_windows=job.microbatch,
        )

    def start(self) -> TrainState:
        """What learns, copied, since steps donate it, and a fresh optimiser."""
        learning = jax.tree.map(jnp.copy, self._learning)
        state = TrainState(
            jnp.asarray(self.stage.first, jnp.int32), learning, self._optimizer.init(learning)
        )
        return jax.device_put(state, state_shardings(state, self.job.mesh))

    def whole(self, learning: dict) -> dict:
        """All parameters, in arrays that the next step does not donate."""
        tables = {name: jnp.copy(learning[name]) for name in TABLES}
        if "backbone" not in learning and LOW_RANK not in learning:
            return {**tables, **self.frozen}
        return {**tables, "backbone": jax.tree.map(jnp.copy, join(learning, self.frozen)[0])}


def _rate_tree(learning: dict, rates: Mapping, of_tables: Mapping[str, float]) -> dict:
    """A rate for every parameter that learns; factors have the rate of their matrix."""

    def rate(path: tuple, _: Any) -> float:
        first, *rest = path_names(path)
        return (
            of_tables[first]
            if first in of_tables
            else rates[tuple(rest[:-1] if first == LOW_RANK else rest)]
        )

    return jax.tree_util.tree_map_with_path(rate, learning)
