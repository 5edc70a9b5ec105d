"""An MLP and a GRU over binned counts, and how several of them are trained side by side.

Trials that differ in rates alone are one vectorised program: they see the same batches with their
own dropout.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt32

from poyo_jax.model.dropout import fold

BATCH = 16  # segments of a step
BODY = 16  # samples of a segment, one bin apart
WARMUP = 50  # steps
SMALLEST_STD = 0.05  # of root counts; rarer units are not blown up

Segments = Float[Array, "segments bins units"]
Body = Float[Array, "segments body channels"]  # read out at bins `past - 1` and following
Seed = UInt32[Array, ""]
State = tuple[dict, Any]  # parameters and optimiser state, [trials ...]


class Rates(NamedTuple):
    """What trials of one program differ in; scalars, or arrays [trials]."""

    learning_rate: Any
    weight_decay: Any  # decoupled, times the learning rate
    dropout: Any  # of hidden features
    unit_dropout: Any  # of whole units, segment by segment


class Shape(NamedTuple):
    """What a program is compiled for."""

    network: str
    hidden: int
    ticks: int  # rows of the grid per bin
    past: int  # bins before a sample
    future: int  # bins after it
    channels: int
    num_steps: int

    @property
    def module(self) -> Any:  # a flax module
        return NETWORKS[self.network](self.hidden, self.past + self.future, self.channels)


class Arrays(NamedTuple):
    """The recording, by rows of the grid."""

    counts: Array  # [rows units], in the bin that ends at each row
    mean: Array  # [units], of the root counts of the train rows
    std: Array  # [units]
    targets: Array  # [rows channels], normalised
    weights: Array  # [rows]; 0 outside the train split
    train_rows: Array  # [samples], rows of positive weight


class Mlp(nn.Module):
    """Two hidden layers over the counts of all bins around a sample."""

    hidden: int
    num_bins: int
    channels: int

    @nn.compact
    def __call__(self, x: Segments, rates: Rates | None = None, seed: Seed | None = None) -> Body:
        x = _drop_units(x, rates, seed)
        body = x.shape[1] - self.num_bins + 1
        x = jnp.concatenate([x[:, first : first + body] for first in range(self.num_bins)], axis=-1)
        for layer in range(2):
            x = _drop(nn.gelu(nn.Dense(self.hidden)(x)), rates, seed, layer)
        return nn.Dense(self.channels)(x)


class Gru(nn.Module):
    """A recurrent layer that runs through the bins, and has seen `num_bins` of them when it is
    first read out.
    """

    hidden: int
    num_bins: int
    channels: int

    @nn.compact
    def __call__(self, x: Segments, rates: Rates | None = None, seed: Seed | None = None) -> Body:
        x = jnp.asarray(nn.RNN(nn.GRUCell(self.hidden))(_drop_units(x, rates, seed)))
        return nn.Dense(self.channels)(_drop(x[:, self.num_bins - 1 :], rates, seed, 0))


NETWORKS = {"mlp": Mlp, "gru": Gru}


def _drop_units(x: Segments, rates: Rates | None, seed: Seed | None) -> Segments:
    """Without some units, segment by segment; all units without rates."""
    return x if rates is None else x * _mask((len(x), 1, x.shape[2]), rates.unit_dropout, seed, 2)


def _drop(x: Array, rates: Rates | None, seed: Seed | None, layer: int) -> Array:
    return x if rates is None else x * _mask(x.shape, rates.dropout, seed, layer)


def _mask(shape: tuple[int, ...], rate: Any, seed: Seed | None, layer: int) -> Array:
    """0 at this rate, which may be traced, and 1 / (1 - rate) elsewhere."""
    numbers = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    kept = fold(fold(jnp.asarray(seed), layer), numbers) >= (rate * 2.0**32).astype(jnp.uint32)
    return kept / (1 - rate)


def segments(arrays: Arrays, shape: Shape, first: Int[Array, " segments"]) -> Segments:
    """Standardised root counts of the bins from these rows on."""
    bins = jnp.arange(shape.past + shape.future - 1 + BODY)
    rows = jnp.clip(first[:, None] + shape.ticks * bins, 0, len(arrays.counts) - 1)
    return (jnp.sqrt(arrays.counts[rows].astype(jnp.float32)) - arrays.mean) / arrays.std


def start(shape: Shape, num_units: int, keys: Array) -> State:
    """Parameters and optimiser state of one trial per key."""
    x = jnp.zeros((1, shape.past + shape.future - 1 + BODY, num_units))
    params = jax.vmap(lambda key: shape.module.init(key, x))(keys)
    return params, jax.vmap(_optimizer().init)(params)


def _optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


@partial(jax.jit, static_argnames=("shape", "num_steps"))
def train(
    shape: Shape,
    arrays: Arrays,
    rates: Rates,
    state: tuple[dict, Any],
    key: Array,
    done: Int[Array, ""],
    num_steps: int,
) -> tuple[dict, Any]:
    """`num_steps` steps of all trials after those `done`; the rates warm up, and fall to 0 at
    `shape.num_steps`.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, 1.0, min(WARMUP, shape.num_steps // 2), shape.num_steps
    )

    def loss(
        params: dict, rates: Rates, seed: Seed, x: Array, targets: Array, weights: Array
    ) -> Array:
        errors = jnp.square(shape.module.apply(params, x, rates, seed) - targets).mean(axis=-1)
        return jnp.sum(weights * errors) / jnp.maximum(weights.sum(), 1e-6)

    def update(
        params: Any, opt_state: Any, rates: Any, seed: Any, factor: Any, *batch: Any
    ) -> tuple:
        updates, opt_state = _optimizer().update(
            jax.grad(loss)(params, rates, seed, *batch), opt_state
        )
        rate = factor * rates.learning_rate
        params = jax.tree.map(
            lambda p, u: p - rate * (u + (rates.weight_decay * p if p.ndim > 1 else 0.0)),
            params,
            updates,
        )
        return params, opt_state

    def step(state: tuple, number: Array) -> tuple[tuple, None]:
        sample_key, drop_key = jax.random.split(jax.random.fold_in(key, number))
        batch = _draw(arrays, shape, sample_key)
        seeds = jax.random.bits(drop_key, (len(rates.dropout),))
        each = jax.vmap(update, (0, 0, 0, 0, None, None, None, None))
        return each(*state, rates, seeds, schedule(number), *batch), None

    return jax.lax.scan(step, state, done + jnp.arange(num_steps))[0]


def _draw(arrays: Arrays, shape: Shape, key: Array) -> tuple[Array, Array, Array]:
    """Segments around train samples drawn at random, which may stand anywhere in them; targets,
    weights.
    """
    sample_key, place_key = jax.random.split(key)
    anchors = jax.random.choice(sample_key, arrays.train_rows, (BATCH,))
    body = anchors - shape.ticks * jax.random.randint(place_key, (BATCH,), 0, BODY)
    rows = jnp.clip(body[:, None] + shape.ticks * jnp.arange(BODY), 0, len(arrays.counts) - 1)
    x = segments(arrays, shape, body - shape.ticks * (shape.past - 1))
    return x, arrays.targets[rows], arrays.weights[rows]


@partial(jax.jit, static_argnames="shape")
def _apply(shape: Shape, arrays: Arrays, params: dict, first: Int[Array, " segments"]) -> Array:
    x = segments(arrays, shape, first)
    return jax.vmap(lambda params: shape.module.apply(params, x))(params)


def predict(
    shape: Shape, arrays: Arrays, params: dict, rows: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, "trials samples channels"]:
    """Normalised predictions of every trial at these rows."""
    phase, tick = rows % shape.ticks, rows // shape.ticks
    found, segment = np.unique(np.stack([phase, tick // BODY]), axis=1, return_inverse=True)
    first = found[0] + shape.ticks * (found[1] * BODY - shape.past + 1)
    padded = np.concatenate([first, np.zeros(-len(first) % BATCH, first.dtype)])
    parts = [np.asarray(_apply(shape, arrays, params, some)) for some in padded.reshape(-1, BATCH)]
    values = np.concatenate(parts, axis=1)  # [trials segments body channels]
    return values[:, segment.ravel(), tick % BODY]
