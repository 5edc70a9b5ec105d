"""Batches as a function of their number, prepared ahead by Grain.

There is no iterator state: training step i sees the windows numbered i * batch_size ... (i + 1) *
batch_size - 1 of a seeded plan, so a run resumes at any step, on any number of devices and
processes, with the same global batches.
"""

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import resource_tracker
from typing import Any, cast

import grain
import numpy as np

from poyo_jax.config import DataConfig
from poyo_jax.data.batches.augment import augment, draw_kept_units
from poyo_jax.data.batches.batching import (
    ROW_MULTIPLE,
    arrange,
    base_shape,
    deal,
    growing_shapes,
    round_up,
)
from poyo_jax.data.batches.tokens import BatchShape, ModelSession, Window, cut_window
from poyo_jax.data.batches.windows import RandomWindows
from poyo_jax.errors import ConfigError
from poyo_jax.types import Batch

PROBED_WINDOWS = 64  # windows read at the start to choose shapes
PLANNED_WINDOWS = 4096  # windows whose sessions decide shapes
FEW_STEPS = 1000  # that save less by a smaller shape than its compilation takes


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """Batch of every training step, `source[step]`. Picklable, so that worker processes can make
    batches.

    `num_shards` is the number of devices of this process. A step's windows are dealt over the
    devices of all processes, to each as many windows and about as many tokens, so the same devices
    see the same windows whatever processes they belong to.
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
                f"DataConfig.batch_size is {self.config.batch_size}, which {parts} devices cannot"
                f" share evenly. Use {math.ceil(self.config.batch_size / parts) * parts}, or"
                " another number of devices."
            )

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        numbers = int(step) * self.config.batch_size + np.arange(self.config.batch_size)
        dealt = deal(
            self._expected_tokens[self._plan.at(numbers)[0]], self.num_shards * self.num_processes
        )
        shards = self.process * self.num_shards + np.arange(self.num_shards)
        ids = [np.flatnonzero(dealt == shard) for shard in shards]
        return arrange([self._windows(numbers[part]) for part in ids], ids, self.shapes)

    def sessions_of(self, step: int) -> list[str]:
        """Ids of the sessions that have windows in a step."""
        first = int(step) * self.config.batch_size
        return sorted(
            {
                self.sessions[i].session.id
                for i in self._plan.at(np.arange(first, first + self.config.batch_size))[0]
            }
        )

    @property
    def epoch_size(self) -> int:
        """Windows of one pass through the training intervals."""
        return self._plan.epoch_size

    @cached_property
    def shapes(self) -> tuple[BatchShape, ...]:
        """At most MAX_SHAPES shapes, of growing size; every batch fits the last one.

        A short run does without the smallest, so that nearly all its batches have the same shape.
        """
        devices = self.num_shards * self.num_processes
        shape = base_shape(
            self.sessions, self.window_length, self.config.batch_size // devices, self.config
        )
        shape = replace(shape, queries=min(shape.queries, self.config.max_queries or shape.queries))
        largest = max(
            2 * len(s.unit_rows) + s.session.max_spikes(self.window_length) for s in self.sessions
        )
        shapes = growing_shapes(shape, self._likely_tokens(), largest, devices, self.config.layout)
        return shapes[1:] if len(shapes) > 1 and self.num_steps <= FEW_STEPS else shapes

    def _likely_tokens(self) -> np.ndarray:
        """Tokens of the windows of a plan: what is expected of each one's session, scattered as in
        those that are read.

        A few windows alone say too little of sessions whose numbers of units and rates differ
        tenfold.
        """
        expected = self._expected_tokens[self._plan.at(np.arange(PLANNED_WINDOWS))[0]]
        probed = [len(window.token_kinds) for window in self._windows(np.arange(PROBED_WINDOWS))]
        return expected * np.resize(probed / expected[:PROBED_WINDOWS], PLANNED_WINDOWS)

    @cached_property
    def _plan(self) -> RandomWindows:
        return RandomWindows(
            [source.intervals for source in self.sessions],
            [source.session.domain for source in self.sessions],
            self.window_length,
            self.config.seed,
            widen=self.config.short_intervals == "widen",
        )

    @cached_property
    def _expected_tokens(self) -> np.ndarray:
        """About how many tokens a window of each session has: what windows are dealt by, before any
        is read.
        """
        dropout, expected = self.config.unit_dropout, []
        for source in self.sessions:
            session, units = source.session, len(source.unit_rows)
            spikes = (
                len(session.spike_times)
                / max(session.domain.duration, self.window_length)
                * self.window_length
            )
            limit = (
                units
                if dropout is None
                else (dropout.min_units + dropout.mode_units + dropout.max_units) / 3
            )
            expected.append((2 * units + spikes) * min(1, limit / max(units, 1)))
        return np.array(expected)

    def _windows(self, numbers: np.ndarray) -> list[Window]:
        places, starts = self._plan.at(numbers)
        return [
            self._window(number, self.sessions[place], start)
            for number, place, start in zip(
                numbers.tolist(), places.tolist(), starts.tolist(), strict=True
            )
        ]

    def _window(self, number: int, source: ModelSession, start: float) -> Window:
        kept = None
        if self.config.unit_dropout is not None:
            rng = np.random.default_rng([self.config.seed, 1, number])
            kept = draw_kept_units(len(source.unit_rows), self.config.unit_dropout, rng)
        window = cut_window(source, start, self.window_length, kept)
        return augment(window, self.window_length, self.config, number)

    def __getstate__(self):
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class EvalBatches:
    """Batches that hold given windows of several sessions once each, all of one shape.

    `starts[i]` are the starts (session time, s) of the windows of session i. Batches may have empty
    places. `size` is (number of batches, rows, tokens); processes that evaluate together must use
    the largest of theirs.
    """

    sessions: Sequence[ModelSession]
    starts: Sequence[np.ndarray]
    config: DataConfig
    window_length: float
    num_shards: int = 1
    num_processes: int = 1
    common_size: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return self.size[0]

    def __getitem__(self, number: int) -> Batch:
        sessions, starts = self._table
        ids = self._dealt(number)
        parts = [
            [
                cut_window(self.sessions[int(sessions[i])], float(starts[i]), self.window_length)
                for i in part
            ]
            for part in ids
        ]
        _, rows, tokens = self.size
        return arrange(parts, ids, [replace(self._shape, rows=rows, tokens=tokens)])

    def places(self, number: int) -> list[tuple[int, int, float]]:
        """(position in the batch, session position, start) of every window of a batch."""
        sessions, starts = self._table
        return [
            (shard * self._shape.windows + place, int(sessions[i]), float(starts[i]))
            for shard, part in enumerate(self._dealt(number))
            for place, i in enumerate(part)
        ]

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """(number of batches, rows of a device, tokens of a row)."""
        if self.common_size is not None:
            return self.common_size
        count = math.ceil(len(self._sizes) / self._batch_size)
        shape, tokens = self._shape, self.config.chunk_tokens
        if not shape.packed:
            return count, shape.rows, round_up(max([tokens, *self._sizes.tolist()]), tokens)
        needed = np.maximum(1, -(-self._sizes // tokens))
        batches = [self._order[number::count] for number in range(count)]
        fullest = [
            np.bincount(deal(self._sizes[some], self.num_shards), needed[some]).max()
            for some in batches
        ]
        return count, round_up(max([1, *fullest]), ROW_MULTIPLE), tokens

    @cached_property
    def _shape(self) -> BatchShape:
        return base_shape(
            self.sessions, self.window_length, self._batch_size // self.num_shards, self.config
        )

    @cached_property
    def _batch_size(self) -> int:
        """Windows of this process in a batch."""
        limit = max(1, self.config.batch_size // self.num_processes)
        count = len(self._sizes) if self.num_processes == 1 else limit
        return round_up(max(1, min(limit, count)), self.num_shards)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """(session position, start) of all windows."""
        sessions = np.repeat(np.arange(len(self.starts)), [len(starts) for starts in self.starts])
        return sessions, np.concatenate(self.starts)

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Tokens of all windows."""
        sizes = [
            2 * len(self.sessions[place].unit_rows)
            + self.sessions[place].session.count_spikes(start, start + self.window_length)
            for place, start in zip(*self._table, strict=True)
        ]
        return np.array(sizes, np.int64)

    @cached_property
    def _order(self) -> np.ndarray:
        """Numbers of the windows by size, so that taking every n-th makes batches of like size."""
        return np.argsort(self._sizes, kind="stable")

    def _dealt(self, number: int) -> list[np.ndarray]:
        """Numbers of the windows of a batch by device."""
        numbers = self._order[number :: len(self)]
        dealt = deal(self._sizes[numbers], self.num_shards)
        return [numbers[dealt == shard] for shard in range(self.num_shards)]


def prefetch(
    source: TrainBatches | EvalBatches, first: int = 0, num_workers: int = 0
) -> grain.DatasetIterator[Batch]:
    """Batches from number `first` on, made ahead by a thread, or by `num_workers` processes. Close
    it after use.
    """
    dataset = grain.MapDataset.source(cast(Any, source))[first:]
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    if num_workers:
        _mark_flags_parsed()
        _start_tracker()
        options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_ignore_signals)
    return iter(dataset)


def _ignore_signals(worker: int, num_workers: int) -> None:
    """Terminals and schedulers signal every process of a group; the trainer alone decides what that
    means.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _start_tracker() -> None:
    """Python's helper process for workers ignores the other signals itself; what is blocked here is
    blocked there.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which nobody parses here."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
