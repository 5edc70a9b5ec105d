"""Batches of a run on their way to the devices, and how fast they go."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator

import jax
import numpy as np

from poyo_jax.data.batches.batching import grow, padding_fraction, shape_index
from poyo_jax.data.batches.pipeline import prefetch
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.distributed.processes import Votes, gather
from poyo_jax.train.reliability.goodput import Clock
from poyo_jax.train.setup import Job
from poyo_jax.types import Batch


class Feed:
    """While a batch is used, the next one is made, voted on and transferred.

    `asks` tells whether this process wants the run to stop, and to save after the batch. Afterwards
    `stopped` and `saves` tell what all agreed on.
    """

    def __init__(self, job: Job, votes: Votes, clock: Clock, asks: Callable[[], tuple[bool, bool]]):
        self._job, self._votes, self._clock, self._asks = job, votes, clock, asks
        self.stopped, self.saves = False, False
        self.restart()

    def batches(self, first: int) -> Generator[tuple[int, Batch]]:
        """(step, batch on the devices) from step `first` on, until the last or until a process
        asked to stop.
        """
        run, shapes, shards = (
            self._job.config.run,
            self._job.batches.shapes,
            self._job.batches.num_shards,
        )
        self.restart()
        ahead = None
        with contextlib.closing(prefetch(self._job.batches, first, run.num_workers)) as source:
            for step in range(first, run.num_steps):
                batch = self._next(source)
                vote = self._votes.cast(self._vote(shape_index(batch, shards, shapes)))
                if ahead is not None:
                    yield ahead
                shape, stopped, saves = vote()
                self.stopped, self.saves = bool(stopped), bool(saves)
                if stopped:
                    return
                ahead = step, self._place(grow(batch, shards, shapes[shape]))
            if ahead is not None:
                yield ahead

    def _vote(self, shape: int) -> Callable[[], tuple[int, int, int]]:
        """What this process has to say before a batch: the shape it needs, and whether to stop or
        save after it.
        """

        def vote() -> tuple[int, int, int]:
            stop, save = self._asks()
            return shape, int(stop), int(save)

        return vote

    def _next(self, source: Iterator[Batch]) -> Batch:
        began = time.monotonic()
        with self._clock.part("data"):
            batch = next(source)
        self._waited += time.monotonic() - began
        return batch

    def _place(self, batch: Batch) -> Batch:
        places = batch.token_kinds.size
        self._places += places
        self._tokens += (1 - padding_fraction(batch)) * places
        return put_batch(batch, self._job.mesh)

    def restart(self) -> None:
        """Measure speeds from now on."""
        self._began, self._waited, self._tokens, self._places = time.monotonic(), 0.0, 0.0, 0.0

    def leave_out(self, seconds: float) -> None:
        """So much of the time since was spent on something else."""
        self._began += seconds

    def speeds(self, steps: int) -> dict[str, float]:
        """Of the `steps` steps since the last time, over all processes; and which one waited
        longest for data.
        """
        seconds = time.monotonic() - self._began
        waited, tokens, places = gather(np.array([self._waited, self._tokens, self._places])).T
        self.restart()
        values = {
            "seconds_per_step": seconds / steps,
            "windows_per_second": steps * self._job.config.data.batch_size / seconds,
            "tokens_per_second": float(tokens.sum()) / seconds,
            "waiting_for_data": float(waited.max()) / seconds,
            "padding": 1 - float(tokens.sum() / places.sum()),
        }
        return values | (
            {"slowest_process": int(waited.argmax())} if jax.process_count() > 1 else {}
        )
