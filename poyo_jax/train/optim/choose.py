"""Which optimiser a configuration means."""

from collections.abc import Callable

from jax.sharding import Mesh
from jax.typing import ArrayLike

from poyo_jax.config import OptimConfig
from poyo_jax.train.optim.optax_rules import ADAM_BETA1, WITH_ADAM, make_optimizer, make_schedules
from poyo_jax.train.optim.table_adam import table_adam
from poyo_jax.train.optim.table_lamb import table_lamb
from poyo_jax.train.optim.tables import Optimizer, dense


def choose_optimizer(
    config: OptimConfig, total_steps: int, batch_size: int, mesh: Mesh
) -> tuple[Optimizer, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """As `make_optimizer`; tables move by the rows of a batch, unless gradients are accumulated
    over batches.
    """
    whole, schedule = make_optimizer(config, total_steps, batch_size)
    if config.accumulate_steps > 1:
        return dense(whole), schedule
    rate, beta1 = make_schedules(config, total_steps, batch_size)
    clip_norm, decay = config.clip_norm, config.weight_decay
    if config.name == "sparse_lamb":
        return table_lamb(
            rate, b1=beta1, mesh=mesh, weight_decay=decay, clip_norm=clip_norm
        ), schedule
    backbone = WITH_ADAM[config.name](rate, decay)
    return table_adam(backbone, rate, b1=ADAM_BETA1, mesh=mesh, clip_norm=clip_norm), schedule
