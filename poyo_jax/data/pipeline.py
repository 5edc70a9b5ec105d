"""Batches as a function of their number, prepared ahead by Grain.

There is no iterator state: training step i sees the windows numbered i * batch_size ... (i + 1) * batch_size - 1 of a
seeded plan, so a run resumes at any step, on any number of devices and processes, with the same global batches.
"""

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import grain
import numpy as np

from poyo_jax.config import DataConfig
from poyo_jax.data.tokens import BatchShape, ModelSession, Window, assemble, cut_window, draw_kept_units
from poyo_jax.data.windows import RandomWindows
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.types import PADDING, Batch

MAX_SHAPES = 3  # shapes of a training run, hence compilations of its step
PROBED_WINDOWS = 64  # windows read at the start to choose shapes
ROW_MULTIPLE = 8


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """Batch of every training step, `source[step]`. Picklable, so that worker processes can make batches.

    `num_shards` is the number of devices of this process. Of a step's windows this process takes every
    `num_processes`-th, and deals them over its devices: to each as many windows and about as many tokens.
    """

    sessions: Sequence[ModelSession]
    config: DataConfig
    window_length: float
    num_steps: int
    num_shards: int = 1
    process: int = 0
    num_processes: int = 1

    def __post_init__(self):
        parts = self.num_shards * self.num_processes
        if self.config.batch_size % parts:
            raise ConfigError(
                f"DataConfig.batch_size is {self.config.batch_size}, which {parts} devices cannot share evenly. Use "
                f"{math.ceil(self.config.batch_size / parts) * parts}, or another number of devices."
            )

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        first = int(step) * self.config.batch_size
        numbers = np.arange(first + self.process, first + self.config.batch_size, self.num_processes)
        return assemble_shards(self._windows(numbers), numbers - first, self.num_shards, self.shapes)

    def sessions_of(self, step: int) -> list[str]:
        """Ids of the sessions that have windows in a step."""
        first = int(step) * self.config.batch_size
        return sorted(
            {self.sessions[i].session.id for i in self._plan.at(np.arange(first, first + self.config.batch_size))[0]}
        )

    @property
    def epoch_size(self) -> int:
        """Windows of one pass through the training intervals."""
        return self._plan.epoch_size

    @cached_property
    def shapes(self) -> tuple[BatchShape, ...]:
        """At most MAX_SHAPES shapes, of growing size; every batch fits the last one."""
        windows = self.config.batch_size // (self.num_shards * self.num_processes)
        probe = self._windows(np.arange(PROBED_WINDOWS))
        largest = max(2 * len(s.unit_rows) + s.session.max_spikes(self.window_length) for s in self.sessions)
        counts = np.array([len(window.token_kinds) for window in probe])
        shape = _base_shape(self.sessions, self.window_length, windows, self.config)
        tokens = self.config.chunk_tokens
        if self.config.layout == "padded":
            guesses = counts.max() * np.array([0.85, 1.2])
            sizes = np.minimum(-(-guesses // tokens), -(-largest // tokens)).astype(int) * tokens
            sizes = {*sizes.tolist(), -(-largest // tokens) * tokens}
            rungs = [replace(shape, tokens=size) for size in sorted(sizes)]
        else:
            rows = np.ceil(counts / tokens)
            spread = np.array([1.0, 4.0]) * (rows.std() * math.sqrt(windows))
            limit = windows * max(1, -(-largest // tokens))
            sizes = {round_up(min(size, limit), ROW_MULTIPLE) for size in (rows.mean() * windows + spread).tolist()}
            rungs = [replace(shape, rows=size) for size in sorted(sizes | {round_up(limit, ROW_MULTIPLE)})]
        if self.num_processes > 1:  # processes must agree on the shape without talking to each other
            rungs = rungs[-1:]
        return tuple(rungs)

    @cached_property
    def _plan(self) -> RandomWindows:
        return RandomWindows(
            [source.intervals for source in self.sessions],
            [source.session.domain for source in self.sessions],
            self.window_length,
            self.config.seed,
            widen=self.config.short_intervals == "widen",
        )

    def _windows(self, numbers: np.ndarray) -> list[Window]:
        return [
            self._window(int(number), self.sessions[place], float(start))
            for number, place, start in zip(numbers, *self._plan.at(numbers), strict=True)
        ]

    def _window(self, number: int, source: ModelSession, start: float) -> Window:
        kept = None
        if self.config.unit_dropout is not None:
            rng = np.random.default_rng([self.config.seed, 1, number])
            kept = draw_kept_units(len(source.unit_rows), self.config.unit_dropout, rng)
        return cut_window(source, start, self.window_length, kept)

    def __getstate__(self):
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class EvalBatches:
    """Batches that hold given windows of several sessions once each, all of one shape.

    `starts[i]` are the starts (session time, s) of the windows of session i. The last batch may have empty places.
    """

    sessions: Sequence[ModelSession]
    starts: Sequence[np.ndarray]
    config: DataConfig
    window_length: float
    num_shards: int = 1

    def __len__(self) -> int:
        return math.ceil(len(self._table[0]) / self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        numbers = self._numbers(number)
        return assemble_shards(self._windows(numbers), np.arange(len(numbers)), self.num_shards, [self.shape])

    def places(self, number: int) -> list[tuple[int, int, float]]:
        """(position in the batch, session position, start) of every window of a batch."""
        sessions, starts = self._table
        numbers = self._numbers(number)
        parts = _deal([self._sizes[i] for i in numbers], self.num_shards)
        return [
            (shard * self.shape.windows + place, int(sessions[numbers[i]]), float(starts[numbers[i]]))
            for shard, part in enumerate(parts)
            for place, i in enumerate(part)
        ]

    @cached_property
    def shape(self) -> BatchShape:
        shape = _base_shape(self.sessions, self.window_length, self._batch_size // self.num_shards, self.config)
        tokens = self.config.chunk_tokens
        if self.config.layout == "padded":
            return replace(shape, tokens=round_up(max(self._sizes), tokens))
        rows = 1
        for number in range(len(self)):
            sizes = [self._sizes[i] for i in self._numbers(number)]
            for part in _deal(sizes, self.num_shards):
                rows = max(rows, sum(rows_of(sizes[i], tokens) for i in part))
        return replace(shape, rows=round_up(rows, ROW_MULTIPLE))

    @property
    def _batch_size(self) -> int:
        count = len(self._table[0])
        return round_up(min(self.config.batch_size, count), self.num_shards)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """(session position, start) of all windows."""
        sessions = np.repeat(np.arange(len(self.starts)), [len(starts) for starts in self.starts])
        return sessions, np.concatenate(self.starts)

    @cached_property
    def _sizes(self) -> list[int]:
        """Tokens of all windows."""
        return [
            2 * len(self.sessions[place].unit_rows)
            + self.sessions[place].session.count_spikes(start, start + self.window_length)
            for place, start in zip(*self._table, strict=True)
        ]

    @cached_property
    def _order(self) -> np.ndarray:
        """Numbers of the windows by size, so that taking every n-th makes batches of like size."""
        return np.argsort(self._sizes, kind="stable")

    def _numbers(self, number: int) -> np.ndarray:
        return self._order[number :: len(self)]

    def _windows(self, numbers: np.ndarray) -> list[Window]:
        sessions, starts = self._table
        return [cut_window(self.sessions[int(sessions[i])], float(starts[i]), self.window_length) for i in numbers]


def prefetch(source: TrainBatches | EvalBatches, first: int = 0, num_workers: int = 0) -> grain.DatasetIterator[Batch]:
    """Batches from number `first` on, made ahead by a thread, or by `num_workers` processes. Close it after use."""
    dataset = grain.MapDataset.source(cast(Any, source))[first:]
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    if num_workers:
        _mark_flags_parsed()
        options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_ignore_interrupts)
    return iter(dataset)


def padding_fraction(batch: Batch) -> float:
    """Share of the token places that hold no token."""
    return float(np.mean(batch.token_kinds == PADDING))


def _ignore_interrupts(worker: int, num_workers: int) -> None:
    """Ctrl-C reaches every process of a terminal; the trainer alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which nobody parses here."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _base_shape(sessions: Sequence[ModelSession], window_length: float, windows: int, config: DataConfig) -> BatchShape:
    channels = {len(source.readout.mean) for source in sessions}
    if len(channels) != 1:
        listed = "; ".join(f"{s.session.id}: {len(s.readout.mean)}" for s in sessions)
        raise DataError(
            f"the sessions' behaviours differ in their number of channels ({listed}). A model decodes one number of "
            "channels: choose readouts with equally many, or train two models."
        )
    units = sorted((len(source.unit_rows) for source in sessions), reverse=True)[:windows]
    queries = max(s.session.behaviour(s.readout.value_key).max_samples(window_length) for s in sessions)
    return BatchShape(
        windows=windows,
        units=round_up(1 + sum(units), ROW_MULTIPLE),
        rows=windows,
        tokens=config.chunk_tokens,
        queries=max(1, queries),
        channels=channels.pop(),
        packed=config.layout == "packed",
    )


def assemble_shards(windows: list[Window], ids: np.ndarray, num_shards: int, shapes: Sequence[BatchShape]) -> Batch:
    """Deal windows over devices and arrange each part in the smallest shape that fits all."""
    sizes = [len(window.token_kinds) for window in windows]
    parts = _deal(sizes, num_shards)
    if shapes[0].packed:
        needed = max(sum(rows_of(sizes[i], shapes[0].tokens) for i in part) for part in parts)
        shape = next(shape for shape in shapes if shape.rows >= needed)
    else:
        shape = next(shape for shape in shapes if shape.tokens >= max(sizes))
    shards = [assemble([windows[i] for i in part], [int(ids[i]) for i in part], shape) for part in parts]
    if num_shards == 1:
        return shards[0]
    return Batch(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*shards, strict=True)))


def _deal(sizes: Sequence[int], num_shards: int) -> list[list[int]]:
    """Positions of equally many windows for every shard, largest first in alternating direction."""
    order = np.argsort(-np.asarray(sizes), kind="stable")
    parts: list[list[int]] = [[] for _ in range(num_shards)]
    for place, position in enumerate(order.tolist()):
        turn, shard = divmod(place, num_shards)
        parts[shard if turn % 2 == 0 else num_shards - 1 - shard].append(position)
    return [sorted(part) for part in parts]


def rows_of(tokens: int, row_tokens: int) -> int:
    """Chunks that a window fills; a window without tokens takes one."""
    return max(1, -(-tokens // row_tokens))


def round_up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
