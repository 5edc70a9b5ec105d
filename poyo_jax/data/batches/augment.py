"""Changes of training windows: dropout of units and spikes, jitter of times, weights of the end."""

from dataclasses import replace

import numpy as np

from poyo_jax.config import DataConfig, UnitDropoutConfig
from poyo_jax.data.batches.tokens import Window
from poyo_jax.types import SPIKE

END = 0.1  # s at the end of a window, whose samples weigh `DataConfig.end_weight`


def draw_kept_units(
    num_units: int, config: UnitDropoutConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draw the units that a training window keeps, as a boolean mask.

    The number kept follows torch_brain's `UnitDropout` as it is, not as documented: its rejection
    test divides by a fresh uniform draw, so that a count x is accepted with probability c (1 - ln
    c), c = density(x) / 10. With fewer units than `min_units` all stay.
    """
    if num_units < config.min_units:
        return np.ones(num_units, bool)
    drawn = zip(*rng.random((3, 64)).tolist(), strict=True)
    rise = max(config.mode_units - config.min_units, 1e-9)
    fall = max(config.max_units - config.mode_units, 1e-9)
    height = config.peak - 1
    count = num_units
    for proposal, first, second in drawn:
        x = config.min_units + proposal * (config.max_units - config.min_units)
        if x <= config.mode_units:
            density = 1 + height * (x - config.min_units) / rise
        else:
            density = config.peak - height * (x - config.mode_units) / fall
        if 10 * first * second <= density:
            count = int(x)
            break
    kept = np.zeros(num_units, bool)
    kept[rng.permutation(num_units)[:count]] = True
    return kept


def augment(window: Window, length: float, config: DataConfig, number: int) -> Window:
    """Drop, move and weigh spikes and queries of window `number`, of `length` s, as configured."""
    if config.end_weight != 1:
        window = _weigh_end(window, length, config.end_weight)
    changes = (config.spike_dropout, config.spike_jitter, config.query_jitter, config.max_queries)
    if not any(changes):
        return window
    rng = np.random.default_rng([config.seed, 2, number])
    if config.spike_dropout:
        window = _drop_spikes(window, rng.uniform(0, config.spike_dropout), rng)
    if config.spike_jitter:
        window = _move_spikes(window, length, config.spike_jitter, rng)
    if config.query_jitter:
        window = _move_queries(window, config.query_jitter, rng)
    if config.max_queries and len(window.query_times) > config.max_queries:
        window = _draw_queries(window, config.max_queries, rng)
    return window


def _weigh_end(window: Window, length: float, weight: float) -> Window:
    """Multiply the weights of the samples in the last END s."""
    factors = np.where(window.query_times >= length - END, weight, 1.0).astype(np.float32)
    return replace(window, target_weights=window.target_weights * factors)


def _drop_spikes(window: Window, share: float, rng: np.random.Generator) -> Window:
    chances = rng.random(len(window.token_kinds))
    stays = (window.token_kinds != SPIKE) | (chances >= share)
    return replace(
        window,
        token_units=window.token_units[stays],
        token_kinds=window.token_kinds[stays],
        token_times=window.token_times[stays],
    )


def _move_spikes(window: Window, length: float, jitter: float, rng: np.random.Generator) -> Window:
    """Add noise to spike times; a spike that would leave the window stays at its edge."""
    noise = rng.normal(0, jitter, len(window.token_times))
    moved = window.token_times + noise * (window.token_kinds == SPIKE)
    return replace(window, token_times=np.clip(moved, 0, length))


def _move_queries(window: Window, share: float, rng: np.random.Generator) -> Window:
    """Move each query towards the next one of its output, and interpolate a continuous target.

    The weight of a moved query is the smaller weight of the two.
    """
    if len(window.query_times) < 2:
        return window
    times, targets, weights = window.query_times, window.targets, window.target_weights
    numbers = window.query_outputs
    fraction = share * rng.random(len(times) - 1, dtype=np.float32)
    time_steps = times[1:] - times[:-1]
    target_steps = targets[1:] - targets[:-1]
    continuous = np.isin(numbers[:-1], _continuous(window))
    stays = numbers[1:] == numbers[:-1]  # the last query of an output has no next one
    return replace(
        window,
        query_times=(times[:-1] + time_steps * fraction)[stays],
        targets=(targets[:-1] + target_steps * (fraction * continuous)[:, None])[stays],
        target_weights=np.minimum(weights[:-1], weights[1:])[stays],
        query_outputs=numbers[:-1][stays],
    )


def _continuous(window: Window) -> list[int]:
    """Numbers of the outputs whose targets have values between them."""
    outputs = window.session.outputs
    return [output.number for output in outputs if output.readout.kind == "continuous"]


def _draw_queries(window: Window, count: int, rng: np.random.Generator) -> Window:
    """Keep `count` random queries with positive weight, or all of these when they are fewer."""
    (weighted,) = window.target_weights.nonzero()
    drawn = np.sort(rng.permutation(weighted)[:count])
    return replace(
        window,
        query_times=window.query_times[drawn],
        targets=window.targets[drawn],
        target_weights=window.target_weights[drawn],
        query_outputs=window.query_outputs[drawn],
    )
