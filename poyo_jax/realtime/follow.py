"""Decode a source of spikes as time passes: `follow`."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from poyo_jax.realtime.stream import Decoded, Stream

MOST_OVERDUE = 1.0  # s


@dataclass(frozen=True, eq=False)
class Arrived:
    """Spikes that a source has brought."""

    times: np.ndarray  #: [spikes] in s, on the clock of the source
    units: np.ndarray  #: [spikes]; positions among the decoder's units, -1 for those of no unit
    present: float  #: s; the time on that clock, less a delay that the source keeps


@runtime_checkable
class Source(Protocol):
    """Brings spikes, on a clock of its own."""

    def first(self, hop: float) -> float:
        """Time of the first update in s, when updates are `hop` s apart."""
        ...

    def until(self, now: float) -> Arrived | None:
        """Wait until the clock shows `now` s, and return what has arrived; None at the end.

        Raises PoyoError when the source has died.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


@dataclass(frozen=True, eq=False)
class Update:
    """One update of `follow`, as its sinks get it."""

    now: float  #: s; the end of its window, on the clock of the source
    decoded: Decoded  #: its result
    spikes: Arrived  #: what was pushed since the update before it
    seconds: float  #: that it took, from the push to the values
    missed: int  #: updates so far that were left out because they were overdue


Sink = Callable[[Update], None]


def follow(
    stream: Stream,
    source: Source,
    sinks: Sequence[Sink],
    *,
    updates: int | None = None,
) -> int:
    """Decode a source every `stream.hop` s until it ends, or for so many `updates`.

    Returns the number of updates, and each of `sinks` gets every one. Updates that are overdue by
    more than a second are left out and counted, so that the decoder never lags behind for long.
    Raises what the source raises, such as PoyoError for one that has died.
    """
    first, number = source.first(stream.hop), 0
    done = missed = 0
    brought: list[Arrived] = []  # since the last update
    while updates is None or done < updates:
        now = first + number * stream.hop
        arrived = source.until(now)
        if arrived is None:
            break
        brought.append(arrived)
        begin = time.perf_counter()
        stream.push(arrived.times, arrived.units)
        overdue = math.floor((arrived.present - now) / stream.hop + 1e-6)
        if overdue * stream.hop > MOST_OVERDUE:
            number, missed = number + overdue, missed + overdue
            continue
        decoded = stream.predict(now)
        seconds = time.perf_counter() - begin
        update = Update(now, decoded, _joined(brought), seconds, missed)
        brought = []
        for sink in sinks:
            sink(update)
        number, done = number + 1, done + 1
        stream.prepare(first + number * stream.hop)
    return done


def _joined(parts: Sequence[Arrived]) -> Arrived:
    """What several calls of a source have brought, as one."""
    times = np.concatenate([part.times for part in parts])
    units = np.concatenate([part.units for part in parts])
    return Arrived(times, units, parts[-1].present)
