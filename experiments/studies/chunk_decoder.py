"""Training of the model of chunks on one recording, and its stream."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.chunk_model import (
    ChunkModel,
    Chunks,
    Queries,
    first_states,
    make_update,
)
from experiments.studies.table2 import CAUSAL_STEP
from poyo_jax import Session
from poyo_jax.baselines.samples import Samples
from poyo_jax.config import ModelConfig
from poyo_jax.data.batches.augment import draw_kept_units
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout
from poyo_jax.errors import DataError
from poyo_jax.model.rotary import frequencies_between
from poyo_jax.presets import few_sessions, poyo_small, with_steps
from poyo_jax.train.optim.muon import muon
from poyo_jax.train.optim.schedules import warmup_cosine

CHUNK = CAUSAL_STEP  # s
SEQUENCE = 4.0  # s that a training sequence lasts
PLACES = 64  # spikes of chunks are padded to this number times a power of two


def model_config(num_channels: int) -> ModelConfig:
    """Sizes of the model of chunks: those of poyo_small, with windows of one chunk."""
    small = poyo_small().model
    return ModelConfig(
        dim=small.dim,
        head_dim=small.head_dim,
        cross_heads=small.cross_heads,
        num_latents=4,
        latent_step=CHUNK,
        window_length=CHUNK,
        num_channels=num_channels,
        frequencies=frequencies_between(5e-3, 4 * CHUNK, small.head_dim),
        feedforward_dropout=small.feedforward_dropout,
        residual_dropout=small.residual_dropout,
    )


class Recording(NamedTuple):
    """A session in arrays: its spikes, and the samples of its behaviour."""

    samples: Samples
    times: np.ndarray  # s, of the spikes
    units: np.ndarray
    targets: np.ndarray  # [samples channels] in normalised units; 0 where not measured
    weights: np.ndarray  # [samples] in training

    @classmethod
    def read(cls, session: Session) -> "Recording":
        """Read a session with its default readout. Raises what `Samples.read` raises."""
        samples = Samples.read(session, default_readout(session))
        weights = np.zeros(len(samples.times))
        weights[samples.masks["train"]] = samples.weights()
        readout = samples.readout
        targets = np.nan_to_num((samples.targets - np.array(readout.mean)) / np.array(readout.std))
        spikes = np.asarray(session.spike_times), np.asarray(session.spike_units)
        return cls(samples, *spikes, targets, weights)

    @property
    def session(self) -> Session:
        return self.samples.session

    def chunks(self, starts: np.ndarray, kept: Sequence[np.ndarray] | None = None) -> Chunks:
        """Spikes of chunks that start at `starts` [sequences chunks], only of the `kept` units."""
        begins = np.searchsorted(self.times, starts.ravel())
        ends = np.searchsorted(self.times, starts.ravel() + CHUNK)
        places = begins[:, None] + np.arange(max(int(np.max(ends - begins)), 1))
        inside = places < ends[:, None]
        places = np.minimum(places, len(self.times) - 1)
        units, times = self.units[places], self.times[places] - starts.reshape(-1, 1)
        if kept is not None:
            of_chunks = np.repeat(np.stack(kept), starts.shape[1], axis=0)  # [N, U]
            inside &= np.take_along_axis(of_chunks, units, axis=1)
        order = np.argsort(~inside, axis=1, kind="stable")  # spikes first, then padding
        count = padded(int(inside.sum(axis=1).max()))
        arrays = [np.take_along_axis(x, order, axis=1) for x in (units, times, inside)]
        width = arrays[0].shape[1]
        fit = [np.pad(x, ((0, 0), (0, max(0, count - width))))[:, :count] for x in arrays]
        shape = (*starts.shape, count)
        return Chunks(
            fit[0].astype(np.int32).reshape(shape),
            fit[1].astype(np.float32).reshape(shape),
            fit[2].reshape(shape),
        )


def padded(count: int) -> int:
    """The smallest size of padded chunks that holds so many spikes."""
    size = PLACES
    while size < count:
        size *= 2
    return size


class Batch(NamedTuple):
    """Sequences to learn from."""

    chunks: Chunks
    queries: Queries
    targets: np.ndarray  # [sequences queries channels]
    weights: np.ndarray  # [sequences queries]
    seeds: np.ndarray  # [sequences] of dropout


def draw_batch(recording: Recording, size: int, rng: np.random.Generator) -> Batch:
    """Draw sequences of the train split at random, each with some of the units."""
    length = round(SEQUENCE / CHUNK)
    sampled = recording.samples.times
    begins = draw_starts(recording.session.split("train"), size, rng)
    dropout = poyo_small().data.unit_dropout
    assert dropout is not None
    num_units = len(recording.session.unit_ids)
    kept = [draw_kept_units(num_units, dropout, rng) for _ in range(size)]
    chunks = recording.chunks(begins[:, None] + CHUNK * np.arange(length), kept)
    most = int(np.ceil(SEQUENCE / recording.samples.interval)) + 1
    places = np.searchsorted(sampled, begins)[:, None] + np.arange(most)
    places = np.minimum(places, len(sampled) - 1)
    since = sampled[places] - begins[:, None]
    inside = since < length * CHUNK
    of_chunks = np.clip((since / CHUNK).astype(np.int32), 0, length - 1)
    times = (since - of_chunks * CHUNK).astype(np.float32)
    return Batch(
        chunks,
        Queries(of_chunks, times),
        recording.targets[places].astype(np.float32),
        (recording.weights[places] * inside).astype(np.float32),
        rng.integers(2**32, size=size, dtype=np.uint32),
    )


def draw_starts(train: Intervals, size: int, rng: np.random.Generator) -> np.ndarray:
    """Starts (s) of sequences [size] that lie in the intervals, all equally likely.

    Raises DataError when no interval is longer than a sequence.
    """
    room = np.maximum(train.ends - train.starts - SEQUENCE, 0)
    if not room.sum() > 0:
        raise DataError(
            f"no interval of the train split is longer than a sequence of {SEQUENCE:g} s. Take a"
            " longer recording, or a train split in larger pieces."
        )
    chosen = rng.choice(len(train), size, p=room / room.sum())
    return train.starts[chosen] + rng.uniform(0, room[chosen])


class ChunkDecoder:
    """A trained model of chunks and the recording that it decodes."""

    def __init__(self, recording: Recording, model: ChunkModel, params: Any):
        self.recording, self.model, self.params = recording, model, params
        self.update = make_update(model, params)

    @classmethod
    def train(cls, session: Session, num_steps: int, seed: int) -> "ChunkDecoder":
        """Train on the train split, with the optimiser and the rates of poyo_small."""
        config = with_steps(few_sessions(poyo_small()), num_steps, seed)
        recording = Recording.read(session)
        model = ChunkModel(model_config(recording.targets.shape[1]), len(session.unit_ids))
        size = round(config.data.batch_size * config.model.window_length / SEQUENCE)
        rng = np.random.default_rng(seed)
        batch = draw_batch(recording, size, rng)
        params = jax.jit(model.init)(jax.random.key(seed), batch.chunks, batch.queries)["params"]
        schedule = warmup_cosine(config.optim.learning_rate, num_steps, config.optim.warmup_steps)
        assert config.optim.clip_norm is not None
        clip = optax.clip_by_global_norm(config.optim.clip_norm)
        optimizer = optax.chain(clip, muon(schedule, config.optim.weight_decay))
        state = optimizer.init(params)

        @jax.jit
        def step(params: Any, state: Any, batch: Batch) -> tuple[Any, Any]:
            gradient = jax.grad(lambda params: loss(model, params, batch))(params)
            changes, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, changes), state

        for _ in range(num_steps):
            params, state = step(params, state, draw_batch(recording, size, rng))
        return cls(recording, model, params)

    def stream(self, start: float, stop: float) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Decode from `start` to `stop` s, chunk by chunk.

        Yields the positions of the samples, their normalised values [samples, channels], and the
        seconds that the update took, from the spikes of the chunk to the values.
        """
        recording, states = self.recording, first_states(self.model)
        sampled = recording.samples.times
        starts = start + CHUNK * np.arange(int(np.ceil((stop - start) / CHUNK)))
        edges = np.searchsorted(sampled, [*starts, np.inf])
        most = max(int(np.diff(edges).max()), 1)
        for number, begin in enumerate(starts):
            places = np.arange(edges[number], edges[number + 1])
            times = np.zeros(most, np.float32)
            times[: len(places)] = sampled[places] - begin
            began = time.perf_counter()
            chunk = recording.chunks(np.array([[begin]]))
            states, values = self.update(states, chunk, times)
            values = np.asarray(values)
            yield places, values[: len(places)], time.perf_counter() - began

    def scores(self, splits: Sequence[str]) -> dict[str, float]:
        """R2 of the splits, from one stream of the whole recording."""
        samples, domain = self.recording.samples, self.recording.session.domain
        decoded = np.full_like(self.recording.targets, np.nan)
        for places, values, _ in self.stream(domain.starts[0], domain.ends[-1]):
            decoded[places] = values
        decoded = decoded * samples.readout.std + samples.readout.mean
        return {
            split: samples.prediction(split, decoded[samples.masks[split]]).r2 for split in splits
        }


def loss(model: ChunkModel, params: Any, batch: Batch) -> jax.Array:
    """Weighted mean squared error."""
    decoded = model.apply({"params": params}, batch.chunks, batch.queries, batch.seeds)
    errors = jnp.mean((decoded - batch.targets) ** 2, axis=-1)
    return jnp.sum(errors * batch.weights) / jnp.sum(batch.weights)
