"""How parameters move: the reference's LAMB with sparse embedding updates and its one-cycle
schedule, or AdamW.

Parameters are told apart by their path, a tuple of names such as ("params", "layers", "attention",
"norm", "scale").
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32, PyTree
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from poyo_jax.config import OptimConfig
from poyo_jax.errors import ConfigError
from poyo_jax.model.params import LOW_RANK, is_stacked, is_table, path_names

Schedule = Callable[
    [ArrayLike], ArrayLike
]  # number of updates made so far -> value for the next one
PathPredicate = Callable[[tuple[str, ...]], bool]

ADAM_BETA1, MUON_RMS = 0.9, 0.2


class SparseLambState(NamedTuple):
    """State of `sparse_lamb`."""

    count: Int32[Array, ""]  # updates made so far
    mu: PyTree[Float[Array, "..."]]  # running means of gradients, shaped like the parameters
    nu: PyTree[Float[Array, "..."]]  # running means of squared gradients


def sparse_lamb(
    learning_rate: float | Schedule,
    *,
    b1: float | Schedule = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 1e-4,
    clamp: float = 10.0,
    is_sparse: PathPredicate = is_table,
    is_stacked: PathPredicate = is_stacked,
) -> optax.GradientTransformation:
    """LAMB as POYO was trained with; equal to `SparseLamb` of torch_brain (examples/poyo/optim.py).

    It differs from `optax.lamb`: moments are not bias-corrected, the parameter norm in the trust
    ratio is at most `clamp`, and every parameter decays. In tables (`is_sparse`), rows without
    gradient do not move and lose their moments, yet their weight decay counts in the norm of the
    table's step. Norms are over whole tensors, or over each layer's part where axis 0 numbers
    layers (`is_stacked`). Moments and arithmetic are float32.
    """

    def init(params: optax.Params) -> SparseLambState:
        zeros = [
            jax.tree.map(lambda x: jnp.zeros_like(x, dtype=jnp.float32), params) for _ in range(2)
        ]
        return SparseLambState(jnp.zeros((), jnp.int32), *zeros)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Any]:
        if params is None:
            raise ValueError(
                "sparse_lamb needs the parameters: call update(gradients, state, params)."
            )
        rate, beta1 = _value(learning_rate, state.count), _value(b1, state.count)

        def move(
            path: tuple, gradient: Array, mu: Array, nu: Array, parameter: Array
        ) -> tuple[Array, Array, Array]:
            names = path_names(path)
            gradient, weights = gradient.astype(jnp.float32), parameter.astype(jnp.float32)
            used = jnp.any(gradient != 0, axis=-1, keepdims=True) if is_sparse(names) else True
            mu = jnp.where(used, beta1 * mu + (1 - beta1) * gradient, 0)
            nu = jnp.where(used, b2 * nu + (1 - b2) * gradient**2, 0)
            step = mu / (jnp.sqrt(nu) + eps) + weight_decay * weights
            change = -rate * trust_ratio(weights, step, clamp, is_stacked(names)) * step
            return jnp.where(used, change, 0).astype(parameter.dtype), mu, nu

        leaves, structure = jax.tree_util.tree_flatten_with_path(updates)
        others = [structure.flatten_up_to(tree) for tree in (state.mu, state.nu, params)]
        moved = [
            move(path, gradient, *rest)
            for (path, gradient), *rest in zip(leaves, *others, strict=True)
        ]
        updates, mu, nu = (structure.unflatten(column) for column in zip(*moved, strict=True))
        return updates, SparseLambState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def trust_ratio(
    weights: Float[Array, "..."], step: Float[Array, "..."], clamp: float, stacked: bool
) -> Float[Array, "..."]:
    """min(|weights|, clamp) / |step|, or 1 where either is zero; for each slice of axis 0 when
    `stacked`.

    All axes are kept with length 1, so that the ratio broadcasts against the step.
    """
    axes = tuple(range(int(stacked), weights.ndim))
    weights_norm, step_norm = (
        jnp.sqrt(jnp.sum(x**2, axis=axes, keepdims=True)) for x in (weights, step)
    )
    return trust_ratio_of_norms(weights_norm, step_norm, clamp)


def trust_ratio_of_norms(
    weights_norm: Float[Array, "..."], step_norm: Float[Array, "..."], clamp: float
) -> Float[Array, "..."]:
    """`trust_ratio` from both norms."""
    defined = (weights_norm > 0) & (step_norm > 0)
    return jnp.where(
        defined, jnp.minimum(weights_norm, clamp) / jnp.where(defined, step_norm, 1), 1
    )


def one_cycle(
    max_value: float, total_steps: int, pct_start: float = 0.5, final_div: float = 1e4
) -> Schedule:
    """`max_value` for the share `pct_start` of the steps, then half a cosine to max_value /
    final_div, which stays.

    Equal to PyTorch's OneCycleLR with div_factor 1. Raises ConfigError unless there is at least one
    step.
    """
    _require_steps(total_steps)
    return lambda step: _one_cycle(
        step, total_steps, pct_start, (max_value, max_value, max_value / final_div)
    )


def one_cycle_beta1(
    total_steps: int, pct_start: float = 0.5, high: float = 0.95, low: float = 0.85
) -> Schedule:
    """Momentum that goes with `one_cycle`: from `high` to `low` at the turn and back, which PyTorch
    does by default.
    """
    _require_steps(total_steps)
    return lambda step: _one_cycle(step, total_steps, pct_start, (high, low, high))


def warmup_cosine(peak: float, total_steps: int, warmup_steps: int, hold: float = 0.0) -> Schedule:
    """From 0 to `peak` in a straight line over `warmup_steps`, then half a cosine to 0 at
    `total_steps`.

    With `hold`, the peak stays for that share of the steps after the warm-up before it decays.

    Raises ConfigError unless the warm-up is shorter than the run.
    """
    _require_steps(total_steps)
    if warmup_steps >= total_steps:
        raise ConfigError(
            f"warmup_steps is {warmup_steps}, but the run makes only {total_steps} updates; the"
            " warm-up must be shorter. Lower OptimConfig.warmup_steps or train for longer."
        )
    turn = warmup_steps + round(hold * (total_steps - warmup_steps))
    rise = (
        optax.linear_schedule(0.0, peak, warmup_steps)
        if warmup_steps
        else optax.constant_schedule(peak)
    )
    fall = optax.cosine_decay_schedule(peak, total_steps - turn)
    return optax.join_schedules([rise, optax.constant_schedule(peak), fall], [warmup_steps, turn])


def adamw(learning_rate: Schedule, weight_decay: float) -> optax.GradientTransformation:
    """AdamW. Only matrices decay: biases, norms and embeddings do not."""
    return optax.adamw(learning_rate, b1=ADAM_BETA1, weight_decay=weight_decay, mask=_matrices)


def muon(
    learning_rate: float | Schedule, weight_decay: float, *, b2: float = 0.999
) -> optax.GradientTransformation:
    """Muon for matrices, which alone decay, and Adam for biases, norms and embeddings, and low-rank
    factors.

    Each layer's part of a stacked matrix is orthogonalised by itself. Steps are scaled so that a
    rate that suits AdamW suits it too (Liu et al. 2025, arXiv:2502.16982).
    """

    def axes(params: optax.Params) -> PyTree:
        return jax.tree.map(lambda x: MuonDimensionNumbers(x.ndim - 2, x.ndim - 1), params)

    def kinds(params: optax.Params) -> PyTree[str]:
        return jax.tree.map(lambda matrix: "matrix" if matrix else "other", _matrices(params))

    of_matrices = optax_muon(
        learning_rate,
        weight_decay=weight_decay,
        consistent_rms=MUON_RMS,
        muon_weight_dimension_numbers=axes,
    )
    return optax.partition(
        {"matrix": of_matrices, "other": optax.adam(learning_rate, b1=ADAM_BETA1, b2=b2)}, kinds
    )


WITH_ADAM = {"adamw": adamw, "muon": muon}  # by name in OptimConfig: what moves embeddings by Adam


def make_optimizer(
    config: OptimConfig, total_steps: int, batch_size: int
) -> tuple[optax.GradientTransformation, Callable[[ArrayLike], dict[str, ArrayLike]]]:
    """The optimiser of a run, and what to log: a function of the update's number to its learning
    rate and beta1.

    `total_steps` counts updates, and `batch_size` the windows whose gradients are averaged in one
    update: with accumulation an update takes `accumulate_steps` steps. Raises ConfigError when the
    schedule does not fit.
    """
    rate, beta1 = make_schedules(config, total_steps, batch_size)
    if config.name == "sparse_lamb":
        optimizer = sparse_lamb(rate, b1=beta1, weight_decay=config.weight_decay)
    else:
        optimizer = WITH_ADAM[config.name](rate, config.weight_decay)
    if config.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.accumulate_steps > 1:
        optimizer = optax.MultiSteps(optimizer, config.accumulate_steps).gradient_transformation()
    return optimizer, lambda step: {"learning_rate": rate(step), "beta1": beta1(step)}


def make_schedules(
    config: OptimConfig, total_steps: int, batch_size: int
) -> tuple[Schedule, Schedule]:
    """Learning rate and beta1 of a run; arguments and errors are those of `make_optimizer`."""
    peak = config.base_learning_rate * batch_size
    if config.name == "sparse_lamb":
        return one_cycle(peak, total_steps, config.pct_start), one_cycle_beta1(
            total_steps, config.pct_start
        )
    return warmup_cosine(
        peak, total_steps, config.warmup_steps, config.hold
    ), optax.constant_schedule(ADAM_BETA1)


def _value(value: float | Schedule, count: Array) -> float | Array:
    """A plain number stays one: 1 - 0.999 is exact enough in Python's floats and not in float32."""
    return jnp.asarray(value(count), jnp.float32) if callable(value) else value


def _matrices(params: optax.Params) -> PyTree[bool]:
    """True for matrices: two axes besides the layers', and neither an embedding nor a factor of low
    rank.
    """

    def decays(path: tuple, parameter: Array) -> bool:
        names = path_names(path)
        other = any(name.endswith("embedding") or name == LOW_RANK for name in names)
        return parameter.ndim - is_stacked(names) >= 2 and not other

    return jax.tree_util.tree_map_with_path(decays, params)


def _one_cycle(
    step: ArrayLike, total_steps: int, pct_start: float, values: tuple[float, float, float]
) -> Float[Array, "..."] | np.ndarray:
    """First value to second until the turn, then to the third at the last step; in float64 for
    numpy's steps.
    """
    xp: Any = jnp if isinstance(step, jax.Array) else np
    turn, last = pct_start * total_steps - 1, total_steps - 1
    done = xp.minimum(step, last)
    rise = _half_cosine(xp, turn - done, turn, *values[:2])
    fall = _half_cosine(xp, last - done, last - turn, *values[1:])
    return xp.where(done <= turn, rise, fall)


def _half_cosine(
    xp: Any, remaining: ArrayLike, length: float, first: float, final: float
) -> ArrayLike:
    """`first` while all of the length remains, `final` when nothing does.

    sin(x / 2)^2 stands for (1 - cos x) / 2, which loses its digits in float32 where it is small.
    """
    share = remaining / max(length, 1e-9)
    return final + (first - final) * xp.sin(0.5 * math.pi * share) ** 2


def _require_steps(total_steps: int) -> None:
    if total_steps < 1:
        raise ConfigError(
            f"The schedule has {total_steps} steps; it needs at least 1. Raise RunConfig.num_steps."
        )
