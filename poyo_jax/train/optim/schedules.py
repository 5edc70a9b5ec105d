"""Schedules of the learning rate and of the momentum.

A schedule maps the number of updates made so far to the value for the next update.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from poyo_jax.errors import ConfigError

Schedule = Callable[[ArrayLike], ArrayLike]
LEAST_UPDATES = 1024  # in `Schedules`


class Schedules(NamedTuple):
    """The values of two schedules in every update: arguments of a compiled step.

    Their length is a power of two, so that runs of most lengths share a step.
    """

    learning_rate: Float[ArrayLike, " updates"]
    beta1: Float[ArrayLike, " updates"]

    @classmethod
    def of(cls, learning_rate: Schedule, beta1: Schedule, total_steps: int) -> "Schedules":
        """The values of these schedules, on the host. After the last update they go on."""
        least = max(LEAST_UPDATES, total_steps)
        updates = np.arange(2 ** math.ceil(math.log2(least)))

        def values(schedule: Schedule) -> np.ndarray:
            given = np.asarray(schedule(updates), np.float32)
            return np.broadcast_to(given, updates.shape)

        return cls(values(learning_rate), values(beta1))

    def functions(self) -> tuple[Schedule, Schedule]:
        """The schedules of the learning rate and of beta1 inside of a compiled step."""

        def follow(values: ArrayLike) -> Schedule:
            return lambda step: jnp.asarray(values).at[step].get(mode="clip")

        return follow(self.learning_rate), follow(self.beta1)


def one_cycle(
    max_value: float, total_steps: int, pct_start: float = 0.5, final_div: float = 1e4
) -> Schedule:
    """Hold `max_value` for a share `pct_start` of the steps, then decay to max_value / final_div.

    The decay is half a cosine; later steps keep the last value. Equal to PyTorch's OneCycleLR with
    div_factor 1. Raises ConfigError unless there is at least one step.
    """
    _require_steps(total_steps)
    values = (max_value, max_value, max_value / final_div)
    return lambda step: _one_cycle(step, total_steps, pct_start, values)


def one_cycle_beta1(
    total_steps: int,
    pct_start: float = 0.5,
    high: float = 0.95,
    low: float = 0.85,
) -> Schedule:
    """Momentum beside `one_cycle`: from `high` to `low` at the turn, and back, as in PyTorch."""
    _require_steps(total_steps)
    return lambda step: _one_cycle(step, total_steps, pct_start, (high, low, high))


def warmup_cosine(
    peak: float,
    total_steps: int,
    warmup_steps: int,
    hold: float = 0.0,
) -> Schedule:
    """Rise linearly from 0 to `peak`, then decay by half a cosine to 0 at `total_steps`.

    With `hold`, the peak stays for that share of the steps after the warm-up before it decays.
    Raises ConfigError unless the warm-up is shorter than the run.
    """
    _require_steps(total_steps)
    if warmup_steps >= total_steps:
        raise ConfigError(
            f"warmup_steps is {warmup_steps}, but the run makes only {total_steps} updates; the"
            " warm-up must be shorter. Lower OptimConfig.warmup_steps or train for longer."
        )
    turn = min(warmup_steps + round(hold * (total_steps - warmup_steps)), total_steps - 1)
    constant = optax.constant_schedule(peak)
    rise = optax.linear_schedule(0.0, peak, warmup_steps) if warmup_steps else constant
    fall = optax.cosine_decay_schedule(peak, total_steps - turn)
    return optax.join_schedules([rise, constant, fall], [warmup_steps, turn])


def value_at(value: float | Schedule, count: Array) -> float | Array:
    """The value of a schedule in float32, or the number itself.

    A plain number stays one: 1 - 0.999 is exact enough in Python's floats, and not in float32.
    """
    if callable(value):
        return jnp.asarray(value(count), jnp.float32)
    return value


def _one_cycle(
    step: ArrayLike,
    total_steps: int,
    pct_start: float,
    values: tuple[float, float, float],
) -> Float[Array, "..."] | np.ndarray:
    """First value to second until the turn, then to the third at the last step.

    Steps in numpy are computed in float64.
    """
    xp: Any = jnp if isinstance(step, jax.Array) else np
    first, middle, final = values
    turn = pct_start * total_steps - 1
    last = total_steps - 1
    done = xp.minimum(step, last)
    rise = _half_cosine(xp, turn - done, turn, first, middle)
    fall = _half_cosine(xp, last - done, last - turn, middle, final)
    return xp.where(done <= turn, rise, fall)


def _half_cosine(
    xp: Any, remaining: ArrayLike, length: float, first: float, final: float
) -> ArrayLike:
    """`first` while all of the length remains, `final` when nothing does.

    sin(x / 2)^2 stands for (1 - cos x) / 2, which loses its digits in float32 where it is small.
    """
    share = remaining / max(length, 1e-9)
    weight = xp.sin(0.5 * math.pi * share) ** 2
    return final + (first - final) * weight


def _require_steps(total_steps: int) -> None:
    if total_steps < 1:
        raise ConfigError(
            f"The schedule has {total_steps} steps; it needs at least 1. Raise RunConfig.num_steps."
        )
