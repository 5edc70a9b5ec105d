"""Bring the batches of a run to the devices, and measure how fast they come."""

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

import jax
import numpy as np

from poyo_jax.data.batches.batching import grow, padding_fraction, shape_index
from poyo_jax.data.batches.pipeline import prefetch
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.distributed.processes import Vote, Votes, gather
from poyo_jax.train.reliability.goodput import Clock
from poyo_jax.train.reliability.stop import SaveTimer, Stop
from poyo_jax.train.setup import TrainSetup
from poyo_jax.types import Batch


class Fed(NamedTuple):
    """A batch on the devices."""

    step: int
    batch: Batch
    save: bool  # whether the processes agreed to save after it


class Feed:
    """Makes, votes on and transfers the next batch while one is used."""

    def __init__(
        self,
        setup: TrainSetup,
        votes: Votes,
        clock: Clock,
        stop: Stop,
        timer: SaveTimer,
    ):
        self._setup = setup
        self._votes = votes
        self._clock = clock
        self._stop = stop
        self._timer = timer
        self.stopped = False  # whether the processes agreed to stop
        self.restart()

    def batches(self, first: int) -> Generator[Fed]:
        """The batches from step `first` to the last, or until a process is asked to stop."""
        run, batches = self._setup.config.run, self._setup.batches
        self.restart()
        ahead = None
        with contextlib.closing(prefetch(batches, first, run.num_workers)) as source:
            for step in range(first, run.num_steps):
                batch = self._next(source)
                shape = shape_index(batch, batches.num_shards, batches.shapes)
                vote = self._votes.cast(self._vote(shape))
                if ahead is not None:
                    yield ahead
                shape, stop, save = vote()
                if stop:
                    self.stopped = True
                    return
                batch = grow(batch, batches.num_shards, batches.shapes[shape])
                ahead = Fed(step, self._place(batch), bool(save))
            if ahead is not None:
                yield ahead

    def _vote(self, shape: int) -> Vote:
        """The vote of this process before a batch: its shape, whether to stop, whether to save."""

        def vote() -> tuple[int, int, int]:
            save = self._timer.due()
            if save:
                self._timer.restart()
            return shape, int(self._stop.requested), int(save)

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
        return put_batch(batch, self._setup.mesh)

    def restart(self) -> None:
        """Measure speeds from now on."""
        self._began = time.monotonic()
        self._waited = 0.0
        self._tokens = 0.0
        self._places = 0.0

    def leave_out(self, seconds: float) -> None:
        """Do not count so many seconds, in which something else was done."""
        self._began += seconds

    def speeds(self, steps: int) -> dict[str, float]:
        """Speeds over all processes in the `steps` steps since the last call.

        With several processes, `slowest_process` is the one that waited longest for data.
        """
        seconds = time.monotonic() - self._began
        own = np.array([self._waited, self._tokens, self._places])
        waited, tokens, places = gather(own).T
        self.restart()
        values = {
            "seconds_per_step": seconds / steps,
            "windows_per_second": steps * self._setup.config.data.batch_size / seconds,
            "tokens_per_second": float(tokens.sum()) / seconds,
            "waiting_for_data": float(waited.max()) / seconds,
            "padding": 1 - float(tokens.sum() / places.sum()),
        }
        if jax.process_count() > 1:
            values["slowest_process"] = int(waited.argmax())
        return values
