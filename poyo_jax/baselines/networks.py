"""An MLP and a GRU over binned spike counts, and the training of several of them side by side.

Trials that differ only in their rates form one vectorised program. They see the same batches, and
each draws its own dropout.
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
    """Rates in which the trials of one program differ: scalars, or arrays [trials]."""

    learning_rate: Any
    weight_decay: Any  # decoupled, times the learning rate
    dropout: Any  # of hidden features
    unit_dropout: Any  # of whole units, segment by segment


class Shape(NamedTuple):
    """Sizes for which a program is compiled."""

    network: str
    hidden: int
    ticks: int  # rows of the grid per bin
    past: int  # bins before a sample
    future: int  # bins after it
    channels: int
    num_steps: int

    @property
    def module(self) -> Any:  # a flax module
        network = NETWORKS[self.network]
        return network(self.hidden, self.past + self.future, self.channels)


class Arrays(NamedTuple):
    """Counts and targets of a recording, by rows of the grid."""

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
        firsts = range(self.num_bins)
        shifted = [x[:, first : first + body] for first in firsts]
        x = jnp.concatenate(shifted, axis=-1)
        for layer in range(2):
            hidden = nn.gelu(nn.Dense(self.hidden)(x))
            x = _drop(hidden, rates, seed, layer)
        return nn.Dense(self.channels)(x)


class Gru(nn.Module):
    """A recurrent layer over the bins, read out after `num_bins` bins and at every later one."""

    hidden: int
    num_bins: int
    channels: int

    @nn.compact
    def __call__(self, x: Segments, rates: Rates | None = None, seed: Seed | None = None) -> Body:
        x = _drop_units(x, rates, seed)
        states = jnp.asarray(nn.RNN(nn.GRUCell(self.hidden))(x))
        states = states[:, self.num_bins - 1 :]
        dropped = _drop(states, rates, seed, 0)
        return nn.Dense(self.channels)(dropped)


NETWORKS = {"mlp": Mlp, "gru": Gru}


def _drop_units(x: Segments, rates: Rates | None, seed: Seed | None) -> Segments:
    """Drop whole units of every segment; without rates, drop none."""
    if rates is None:
        return x
    shape = (len(x), 1, x.shape[2])
    return x * _mask(shape, rates.unit_dropout, seed, 2)


def _drop(x: Array, rates: Rates | None, seed: Seed | None, layer: int) -> Array:
    """Drop hidden features; without rates, drop none."""
    if rates is None:
        return x
    return x * _mask(x.shape, rates.dropout, seed, layer)


def _mask(shape: tuple[int, ...], rate: Any, seed: Seed | None, layer: int) -> Array:
    """Dropout mask: 0 at `rate` (traced or not) and 1 / (1 - rate) elsewhere."""
    numbers = jax.lax.iota(jnp.uint32, math.prod(shape))
    numbers = numbers.reshape(shape)
    bits = fold(fold(jnp.asarray(seed), layer), numbers)
    threshold = (rate * 2.0**32).astype(jnp.uint32)
    return (bits >= threshold) / (1 - rate)


def segments(arrays: Arrays, shape: Shape, first: Int[Array, " segments"]) -> Segments:
    """Standardised square roots of counts, in the bins of segments that begin at rows `first`."""
    bins = jnp.arange(shape.past + shape.future - 1 + BODY)
    rows = first[:, None] + shape.ticks * bins
    rows = jnp.clip(rows, 0, len(arrays.counts) - 1)
    roots = jnp.sqrt(arrays.counts[rows].astype(jnp.float32))
    return (roots - arrays.mean) / arrays.std


def start(shape: Shape, num_units: int, keys: Array) -> State:
    """Initial parameters and optimiser state of one trial per key."""
    num_bins = shape.past + shape.future - 1 + BODY
    x = jnp.zeros((1, num_bins, num_units))
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
    """Train all trials for `num_steps` steps after the first `done` ones.

    The rates warm up and fall to 0 at step `shape.num_steps`.
    """
    warmup = min(WARMUP, shape.num_steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, shape.num_steps)

    def loss(
        params: dict, rates: Rates, seed: Seed, x: Array, targets: Array, weights: Array
    ) -> Array:
        outputs = shape.module.apply(params, x, rates, seed)
        errors = jnp.square(outputs - targets).mean(axis=-1)
        total = jnp.maximum(weights.sum(), 1e-6)
        return jnp.sum(weights * errors) / total

    def update(
        params: Any, opt_state: Any, rates: Any, seed: Any, factor: Any, *batch: Any
    ) -> tuple:
        gradient = jax.grad(loss)(params, rates, seed, *batch)
        updates, opt_state = _optimizer().update(gradient, opt_state)
        rate = factor * rates.learning_rate

        def move(parameter: Array, change: Array) -> Array:
            decay = rates.weight_decay * parameter if parameter.ndim > 1 else 0.0
            return parameter - rate * (change + decay)

        return jax.tree.map(move, params, updates), opt_state

    def step(state: tuple, number: Array) -> tuple[tuple, None]:
        step_key = jax.random.fold_in(key, number)
        sample_key, drop_key = jax.random.split(step_key)
        batch = _draw(arrays, shape, sample_key)
        seeds = jax.random.bits(drop_key, (len(rates.dropout),))
        each = jax.vmap(update, (0, 0, 0, 0, None, None, None, None))
        return each(*state, rates, seeds, schedule(number), *batch), None

    numbers = done + jnp.arange(num_steps)
    state, _ = jax.lax.scan(step, state, numbers)
    return state


def _draw(arrays: Arrays, shape: Shape, key: Array) -> tuple[Array, Array, Array]:
    """Draw segments around random train samples, with their targets and weights.

    The drawn sample stands at a random place of its segment.
    """
    sample_key, place_key = jax.random.split(key)
    anchors = jax.random.choice(sample_key, arrays.train_rows, (BATCH,))
    places = jax.random.randint(place_key, (BATCH,), 0, BODY)
    body = anchors - shape.ticks * places
    rows = body[:, None] + shape.ticks * jnp.arange(BODY)
    rows = jnp.clip(rows, 0, len(arrays.counts) - 1)
    first = body - shape.ticks * (shape.past - 1)
    x = segments(arrays, shape, first)
    return x, arrays.targets[rows], arrays.weights[rows]


@partial(jax.jit, static_argnames="shape")
def _apply(shape: Shape, arrays: Arrays, params: dict, first: Int[Array, " segments"]) -> Array:
    x = segments(arrays, shape, first)
    apply = jax.vmap(lambda params: shape.module.apply(params, x))
    return apply(params)


def predict(
    shape: Shape, arrays: Arrays, params: dict, rows: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, "trials samples channels"]:
    """Normalised predictions of every trial at these rows of the grid."""
    phase, tick = rows % shape.ticks, rows // shape.ticks
    keys = np.stack([phase, tick // BODY])
    unique, segment = np.unique(keys, axis=1, return_inverse=True)
    first_bins = unique[1] * BODY - shape.past + 1
    first = unique[0] + shape.ticks * first_bins
    padding = np.zeros(-len(first) % BATCH, first.dtype)
    batches = np.concatenate([first, padding]).reshape(-1, BATCH)
    outputs = []
    for batch in batches:
        values = _apply(shape, arrays, params, batch)
        outputs.append(np.asarray(values))
    values = np.concatenate(outputs, axis=1)  # [trials segments body channels]
    return values[:, segment.ravel(), tick % BODY]
