"""Make batches as a function of their number, and prefetch them with Grain.

There is no iterator state: training step i sees the windows numbered i * batch_size ... (i + 1) *
batch_size - 1 of a seeded plan, so a run resumes at any step, on any number of devices and
processes, with the same global batches.
"""

import logging
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
    arrange,
    base_shape,
    check_batch_size,
    common_size,
    deal,
    growing_shapes,
    round_up,
)
from poyo_jax.data.batches.tokens import BatchShape, ModelSession, Window, cut_window
from poyo_jax.data.batches.windows import RandomWindows
from poyo_jax.types import Batch
from poyo_jax.words import counted, some_of

logger = logging.getLogger(__name__)

PROBED_WINDOWS = 64  # windows read at the start to choose shapes
PLANNED_WINDOWS = 4096  # windows whose sessions decide shapes
FEW_STEPS = 1000  # that save less by a smaller shape than its compilation takes


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """Batch of every training step, `source[step]`; picklable for worker processes.

    `num_shards` is the number of devices of this process. A step's windows are dealt over the
    devices of all processes: each gets equally many windows and about equally many tokens. So a
    device sees the same windows whatever process it belongs to.
    """

    sessions: Sequence[ModelSession]
    config: DataConfig
    window_length: float
    num_steps: int
    num_shards: int = 1
    process: int = 0
    num_processes: int = 1

    def __post_init__(self):
        check_batch_size(self.config.batch_size, self.num_shards * self.num_processes)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        batch_size = self.config.batch_size
        numbers = int(step) * batch_size + np.arange(batch_size)
        sessions, _ = self._plan.at(numbers)
        dealt = deal(self._expected_tokens[sessions], self.num_shards * self.num_processes)
        shards = self.process * self.num_shards + np.arange(self.num_shards)
        ids = [np.flatnonzero(dealt == shard) for shard in shards]
        windows = [self.windows(numbers[of_shard]) for of_shard in ids]
        return arrange(windows, ids, self.shapes)

    def sessions_of(self, step: int) -> list[str]:
        """List the ids of the sessions that have windows in a step."""
        first = int(step) * self.config.batch_size
        numbers = np.arange(first, first + self.config.batch_size)
        sessions, _ = self._plan.at(numbers)
        return sorted({self.sessions[place].session.id for place in sessions})

    def windows(self, numbers: np.ndarray) -> list[Window]:
        """Windows of the plan, by number: step s has those from s times the batch size on."""
        places, starts = self._plan.at(numbers)
        windows = []
        columns = (numbers.tolist(), places.tolist(), starts.tolist())
        for number, place, start in zip(*columns, strict=True):
            windows.append(self._window(number, self.sessions[place], start))
        return windows

    @property
    def epoch_size(self) -> int:
        """Number of windows of one pass through the training intervals."""
        return self._plan.epoch_size

    @property
    def mean_tokens(self) -> float:
        """Estimated mean number of tokens of a window."""
        _, likely = self._planned_tokens()
        return float(likely.mean())

    @cached_property
    def shapes(self) -> tuple[BatchShape, ...]:
        """At most MAX_SHAPES shapes of growing size; every batch fits the last one.

        A short run omits the smallest, so that nearly all its batches have the same shape.
        """
        devices = self.num_shards * self.num_processes
        shape = base_shape(
            self.sessions, self.window_length, self.config.batch_size // devices, self.config
        )
        if self.config.max_queries:
            shape = replace(shape, queries=min(shape.queries, self.config.max_queries))
        largest = 0
        for source in self.sessions:
            spikes = source.session.max_spikes(self.window_length)
            largest = max(largest, 2 * len(source.unit_rows) + spikes)
        expected, likely = self._planned_tokens()
        shapes = growing_shapes(shape, likely, expected, largest, devices, self.config.layout)
        short_run = self.num_steps <= FEW_STEPS
        return shapes[1:] if short_run and len(shapes) > 1 else shapes

    def _planned_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of tokens of the first windows of the plan: expected, and likely ones.

        A likely number is the mean of the window's session times the scatter of a few windows that
        are read. These windows alone are too few for sessions whose units and rates differ tenfold.
        """
        sessions, _ = self._plan.at(np.arange(PLANNED_WINDOWS))
        expected = self._expected_tokens[sessions]
        windows = self.windows(np.arange(PROBED_WINDOWS))
        probed = [len(window.token_kinds) for window in windows]
        scatter = probed / expected[:PROBED_WINDOWS]
        return expected, expected * np.resize(scatter, PLANNED_WINDOWS)

    @cached_property
    def _plan(self) -> RandomWindows:
        plan = RandomWindows(
            [source.intervals for source in self.sessions],
            [source.session.domain for source in self.sessions],
            self.window_length,
            self.config.seed,
            widen=self.config.short_intervals == "widen",
        )
        if plan.left_out:
            logger.warning(
                "nothing is learned of %s of %d, whose intervals are all shorter than a window of"
                " %g s: %s. Set data.short_intervals to 'widen', or leave them out.",
                counted(len(plan.left_out), "session"),
                len(self.sessions),
                self.window_length,
                some_of([self.sessions[place].session.id for place in plan.left_out]),
            )
        return plan

    @cached_property
    def _expected_tokens(self) -> np.ndarray:
        """Expected tokens of a window of each session; windows are dealt by it unread."""
        dropout, expected = self.config.unit_dropout, []
        for source in self.sessions:
            session, units = source.session, len(source.unit_rows)
            seconds = max(session.domain.duration, self.window_length)
            spikes = len(session.spike_times) / seconds * self.window_length
            limit = units
            if dropout is not None:
                limit = (dropout.min_units + dropout.mode_units + dropout.max_units) / 3
            share = min(1, limit / max(units, 1))
            expected.append((2 * units + spikes) * share)
        return np.array(expected)

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
    """Batches of one shape, of a few (`common_size`), that hold every given window once.

    `starts[i]` are the starts (session time, s) of the windows of session i. Batches may have empty
    places. `size` is (number of batches, rows, tokens); processes that evaluate together pass the
    largest of their sizes as `common_size`.
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
        ids = self._dealt(number)
        shards = [[self._window(int(i)) for i in of_shard] for of_shard in ids]
        _, rows, tokens = self.size
        shape = replace(self._shape, rows=rows, tokens=tokens)
        return arrange(shards, ids, [shape])

    def _window(self, number: int) -> Window:
        sessions, starts = self._table
        source = self.sessions[int(sessions[number])]
        return cut_window(source, float(starts[number]), self.window_length)

    def places(self, number: int) -> list[tuple[int, int, float]]:
        """List (position in the batch, session position, start) of every window of a batch."""
        sessions, starts = self._table
        places = []
        for shard, of_shard in enumerate(self._dealt(number)):
            first = shard * self._shape.windows
            for place, i in enumerate(of_shard):
                places.append((first + place, int(sessions[i]), float(starts[i])))
        return places

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """Number of batches, rows of a device, and tokens of a row."""
        if self.common_size is not None:
            return self.common_size
        count = math.ceil(len(self._sizes) / self._batch_size)
        shape, tokens = self._shape, self.config.chunk_tokens
        if not shape.packed:
            longest = max([tokens, *self._sizes.tolist()])
            return count, shape.rows, round_up(longest, tokens)
        needed = np.maximum(1, -(-self._sizes // tokens))
        fullest = []  # rows of the fullest device of every batch
        for number in range(count):
            windows = self._order[number::count]
            shards = deal(self._sizes[windows], self.num_shards)
            fullest.append(np.bincount(shards, needed[windows]).max())
        return count, common_size(max([1, *fullest])), tokens

    @cached_property
    def _shape(self) -> BatchShape:
        shape = base_shape(
            self.sessions, self.window_length, self._batch_size // self.num_shards, self.config
        )
        units, queries = common_size(shape.units), common_size(shape.queries)
        return replace(shape, units=units, queries=queries)

    @cached_property
    def _batch_size(self) -> int:
        """Number of windows of this process in a batch."""
        limit = max(1, self.config.batch_size // self.num_processes)
        count = len(self._sizes) if self.num_processes == 1 else limit
        return round_up(min(limit, common_size(count)), self.num_shards)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Session positions and starts of all windows."""
        counts = [len(starts) for starts in self.starts]
        sessions = np.repeat(np.arange(len(counts)), counts)
        return sessions, np.concatenate(self.starts)

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Numbers of tokens of all windows."""
        sizes = []
        for place, start in zip(*self._table, strict=True):
            source = self.sessions[place]
            spikes = source.session.count_spikes(start, start + self.window_length)
            sizes.append(2 * len(source.unit_rows) + spikes)
        return np.array(sizes, np.int64)

    @cached_property
    def _order(self) -> np.ndarray:
        """Numbers of the windows by size; every n-th of them make batches of similar size."""
        return np.argsort(self._sizes, kind="stable")

    def _dealt(self, number: int) -> list[np.ndarray]:
        """List the numbers of a batch's windows for every device."""
        numbers = self._order[number :: len(self)]
        dealt = deal(self._sizes[numbers], self.num_shards)
        return [numbers[dealt == shard] for shard in range(self.num_shards)]


def prefetch(
    source: TrainBatches | EvalBatches, first: int = 0, num_workers: int = 0
) -> grain.DatasetIterator[Batch]:
    """Iterate over batches from number `first` on, made ahead by a thread or worker processes.

    Close the iterator after use.
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
    """Ignore signals in a worker: schedulers signal all processes, and the trainer decides."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _start_tracker() -> None:
    """Start Python's helper process for workers with SIGUSR1 blocked.

    It inherits blocked signals, and ignores the other signals itself.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def _mark_flags_parsed() -> None:
    """Mark the absl flags as parsed, because Grain's workers read them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
