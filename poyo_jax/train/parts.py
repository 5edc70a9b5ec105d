"""The model, the optimiser and the training step of a run on the devices of a mesh."""

from typing import NamedTuple

from jax.sharding import Mesh

from poyo_jax.config import Config
from poyo_jax.model.build import build_model
from poyo_jax.model.hardware import choose_microbatch, hardware_of
from poyo_jax.model.poyo import POYO
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.optim.rows import Rule
from poyo_jax.train.optim.schedules import Schedules
from poyo_jax.train.step import Step, make_train_step


class Parts(NamedTuple):
    """What a run computes with; nothing is compiled yet."""

    model: POYO
    rule: Rule  # of the optimiser
    schedules: Schedules
    step: Step
    microbatch_windows: int | None  # None: all


def make_parts(config: Config, num_units: int, num_sessions: int, mesh: Mesh) -> Parts:
    """Make them for tables of so many rows, padding included.

    The devices of the mesh may be those of a topology that is not there. Raises ConfigError when
    the settings do not fit each other or the devices.
    """
    hardware = hardware_of(mesh)
    model = build_model(config.model, config.run, num_units, num_sessions, hardware.platform)
    updates = config.run.num_steps // config.optim.accumulate_steps
    schedules = make_schedules(config.optim, updates)
    rule = choose_optimizer(config.optim, mesh)
    micro = choose_microbatch(config.model, config.run, hardware)
    step = make_train_step(model, rule.follow, mesh, microbatch_windows=micro)
    return Parts(model, rule, schedules, step, micro)
