"""Decode a stream of spikes, update by update."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from poyo_jax.checks import check_number, check_numbers, integer, number
from poyo_jax.errors import DataError
from poyo_jax.realtime.spikes import Counts, SpikeBuffer, number_array

CAPACITY = 65_536  # spikes
SAME = 1e-6  # s; an update within this time of the prepared one is that one
LARGEST_CAPACITY = 2**26
EXPECTED = "seconds on the clock of the recording, and positions in the session's unit_ids"


@runtime_checkable
class Engine(Protocol):
    """Computes one window: spikes come in parts, and their sums are the state between these."""

    num_units: int  #: units of the session
    window_length: float  #: s

    def begin(self) -> Any:
        """State of a window without spikes."""
        ...

    def add(self, state: Any, times: np.ndarray, units: np.ndarray) -> Any:
        """State with spikes [spikes] at `times` s from the start of the window."""
        ...

    def decode(
        self, state: Any, times: np.ndarray, units: np.ndarray, queries: np.ndarray
    ) -> tuple[Any, np.ndarray]:
        """State with more spikes, and values [queries, channels] at `queries` s from the start.

        Values are in the units of the session file.
        """
        ...

    def copy(self, state: Any) -> Any:
        """A state that later calls leave as it is."""
        ...

    def warm_up(self, num_queries: int) -> None:
        """Compile all that updates with so many queries need."""
        ...


@dataclass(frozen=True, eq=False)
class Decoded:
    """Result of one update."""

    values: Float64[np.ndarray, "queries channels"]  #: in the units of the session file
    times: Float64[np.ndarray, " queries"]  #: s; the spike time that each value stands for
    emitted: float  #: s on the decoder's own clock, when the values were ready
    num_spikes: int  #: in the window
    num_waiting: int  #: in the buffer with times after the window: later windows hold them
    counts: Counts  #: since the start: what was late or dropped


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything that the next updates depend on; `Stream.reset` takes it back."""

    times: np.ndarray  #: s, of the spikes in the buffer
    units: np.ndarray  #: of these spikes
    counts: Counts  #: so far
    last: float  #: s; end of the last window, minus infinity before the first
    end: float  #: s; end of the window that is prepared, NaN if none is
    num_encoded: int  #: spikes at the front of the buffer that the prepared window has taken in
    num_spikes: int  #: spikes in the prepared window
    window: Any  #: of the engine: what the prepared window has gathered
    num_swaps: int  #: swaps of engines before


def check_settings(
    window_length: float, hop: float, queries: Sequence[float], capacity: int
) -> None:
    """Raise ConfigError for settings that no stream can have."""
    check_number("hop", hop, number(above=0, at_most=window_length))
    check_numbers("queries", queries, number(at_least=0, at_most=window_length))
    check_number("capacity", capacity, integer(1, LARGEST_CAPACITY))


class Stream:
    """Decodes windows that end now, from spikes that were pushed as they arrived.

    >>> stream.warm_up()
    >>> stream.push(spike_times, spike_units)  # whenever spikes arrive
    >>> decoded = stream.predict(now)          # at every update
    >>> stream.prepare()                       # in the idle time after it

    An update at `now` decodes the window [now - window_length, now). `prepare` encodes the spikes
    that are already there into the next window, which is exact: the encoder sums over spikes. Then
    the next `predict` has only the spikes since then left to encode.

    Spikes may arrive in any order. A spike that arrives after its first window counts as late and
    takes part in the later ones; one before the start of the last window is stale and ignored.
    Spikes after `now` wait for their window. A spike that is pushed twice counts twice, as two
    spikes of a file do. Spikes without a finite time or of unknown units are counted and ignored. A
    full buffer drops what arrived first. `Decoded.counts` tells all of this.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        hop: float,
        queries: Sequence[float],
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Take an engine and the settings of `StreamDecoder`.

        Raises ConfigError when one of them is not allowed.
        """
        check_settings(engine.window_length, hop, queries, capacity)
        self.engine, self.hop, self.clock = engine, float(hop), clock
        self.queries = tuple(float(query) for query in queries)
        self._lags = np.array(self.queries)
        self._buffer = SpikeBuffer(capacity)
        self._num_swaps = 0
        self.reset()

    def push(self, spike_times: ArrayLike, spike_units: ArrayLike) -> None:
        """Take in spikes [spikes]: times in s on one clock, and positions in the unit ids.

        Raises DataError for arrays that are no numbers or differ in length.
        """
        times = number_array(spike_times, "spike times", EXPECTED)
        units = number_array(spike_units, "spike units", EXPECTED)
        if len(times) != len(units):
            raise DataError(
                f"{len(times)} spike times and {len(units)} spike units were pushed; pass one unit"
                " for each time."
            )
        finite = np.isfinite(times)
        known = (units >= 0) & (units < self.engine.num_units) & (units == np.floor(units))
        fresh = times >= self._last - self.engine.window_length
        taken = finite & known & fresh
        times, units = times[taken], units[taken]
        lost = self._make_room(times, units)
        counts = self._counts
        self._counts = replace(
            counts,
            received=counts.received + len(finite),
            not_finite=counts.not_finite + int(np.sum(~finite)),
            unknown=counts.unknown + int(np.sum(finite & ~known)),
            stale=counts.stale + int(np.sum(finite & known & ~fresh)),
            late=counts.late + int(np.sum(times < self._last)),
            overflow=counts.overflow + lost,
        )

    def prepare(self, next: float | None = None) -> None:
        """Encode the spikes that are there into the window that ends at `next` s.

        Without `next` it ends one hop after the last one. `predict` at any other time begins anew.
        Raises DataError when `next` is not finite or lies before the last update.
        """
        self._begin(self._last + self.hop if next is None else next)
        times, units = self._new_spikes()
        if len(times):
            self._window = self.engine.add(self._window, times, units)

    def predict(self, now: float | None = None, times: ArrayLike | None = None) -> Decoded:
        """Decode the window that ends at `now` s on the clock of the spikes.

        Values stand for `now` less each of `queries`, or for `times` [queries] in s in the window,
        at most as many. Without `now` it is the time of the decoder's clock. Raises DataError when
        `now` is not finite or lies before the last update, or when `times` cannot be decoded.
        """
        self._begin(self.clock() if now is None else now)
        start = self._end - self.engine.window_length
        asked = self._end - self._lags if times is None else self._checked(times)
        queries = self.engine.window_length - self._lags if times is None else asked - start
        new_times, new_units = self._new_spikes()
        self._window, values = self.engine.decode(self._window, new_times, new_units, queries)
        self._last = self._end
        held, _ = self._buffer.since(0)
        waiting = int(np.count_nonzero(held >= self._end))
        return Decoded(values, asked, self.clock(), self._num_spikes, waiting, self._counts)

    def warm_up(self) -> None:
        """Compile everything, so that no update does; takes seconds with the back end of JAX."""
        self.engine.warm_up(len(self.queries))

    def swap(self, engine: Engine) -> None:
        """Decode the next updates with another engine of the same units; spikes and counts stay.

        Call it in the idle time after an update, with an engine that is warm: it prepares the next
        window anew. Raises DataError for an engine of other units, units in another order, another
        length of windows (s), or other channels.
        """
        _check_alike(self.engine, engine)
        self._num_swaps += 1
        self.engine, self._end, self._window = engine, np.nan, None
        if np.isfinite(self._last):
            self.prepare()

    @property
    def state(self) -> StreamState:
        """A copy of everything that the next updates depend on."""
        times, units = self._buffer.since(0)
        window = None if self._window is None else self.engine.copy(self._window)
        return StreamState(
            times.copy(),
            units.copy(),
            self._counts,
            self._last,
            self._end,
            self._num_encoded,
            self._num_spikes,
            window,
            self._num_swaps,
        )

    def reset(self, state: StreamState | None = None) -> None:
        """Forget all spikes and counts, or continue from a `state` of before, bit for bit.

        With a state from before a swap of engines, the next update encodes its window anew. Raises
        DataError when the state holds more spikes than the buffer.
        """
        self._buffer.count = 0
        self._counts, self._last, self._end = Counts(), -np.inf, np.nan
        self._num_encoded = self._num_spikes = 0
        self._window: Any = None
        if state is None:
            return
        if len(state.times) > self._buffer.capacity:
            raise DataError(
                f"the state holds {len(state.times)} spikes, and the buffer {self._buffer.capacity}"
                " at most; make the decoder with a larger `capacity`."
            )
        self._buffer.add(state.times, state.units)
        self._counts, self._last = state.counts, state.last
        if state.num_swaps == self._num_swaps and state.window is not None:
            self._end, self._window = state.end, self.engine.copy(state.window)
            self._num_encoded, self._num_spikes = state.num_encoded, state.num_spikes

    def _begin(self, end: float) -> None:
        """Begin the window that ends at `end` s, if it is not the one that is prepared."""
        if not isinstance(end, Real) or not np.isfinite(end):
            raise DataError(
                f"the update at {end!r} s cannot be decoded: give `now` as one finite time in s,"
                " and predict once before you prepare without a time."
            )
        if abs(end - self._end) <= SAME:
            return
        if end < self._last:
            raise DataError(
                f"the update at {end:.6f} s lies before the last one, at {self._last:.6f} s: time"
                " runs forward. If the clock was set anew, call reset() first."
            )
        self._end = float(end)
        self._window, self._num_encoded, self._num_spikes = self.engine.begin(), 0, 0
        self._forget()

    def _forget(self) -> None:
        """Remove the spikes that no window from the last one on holds."""
        oldest = self._last - self.engine.window_length
        self._num_encoded = self._buffer.forget_before(oldest, self._num_encoded)

    def _make_room(self, times: np.ndarray, units: np.ndarray) -> int:
        """Append spikes to the buffer, and return how many were lost."""
        if self._buffer.count + len(times) > self._buffer.capacity:
            self._forget()
        lost = self._buffer.add(times, units)
        self._num_encoded = max(0, self._num_encoded - lost)
        return lost

    def _new_spikes(self) -> tuple[np.ndarray, np.ndarray]:
        """Spikes that the window has not taken in yet; times in s from its start."""
        length = self.engine.window_length
        start = self._end - length
        times, units = self._buffer.since(self._num_encoded)
        inside = (times >= start) & (times < start + length)
        self._num_encoded = self._buffer.count
        self._num_spikes += int(np.count_nonzero(inside))
        return times[inside] - start, units[inside]

    def _checked(self, times: ArrayLike) -> np.ndarray:
        """Times to decode, in s on the clock of the spikes."""
        asked = number_array(times, "times to decode", "seconds on the clock of the spikes")
        first, last = self._end - self.engine.window_length, self._end
        if len(asked) > len(self.queries):
            raise DataError(
                f"{len(asked)} times are to be decoded, but the decoder was made for"
                f" {len(self.queries)}; give it as many `queries`."
            )
        if not np.all((asked >= first - SAME) & (asked <= last + SAME)):
            raise DataError(
                f"times from {np.min(asked):.6f} to {np.max(asked):.6f} s are to be decoded, but"
                f" the window lasts from {first:.6f} to {last:.6f} s; give times in it."
            )
        return asked.astype(np.float64)


def _check_alike(old: Engine, new: Engine) -> None:
    """Raise DataError unless one engine can take the place of the other.

    Ids of units and the number of channels count where both engines tell them.
    """
    if (old.num_units, old.window_length) != (new.num_units, new.window_length):
        raise DataError(
            f"the new engine has {new.num_units} units and windows of {new.window_length:g} s,"
            f" the old one {old.num_units} and {old.window_length:g} s; make it from the same"
            " session and a model of the same windows."
        )
    for name, noun in (
        ("unit_ids", "units, or the same in another order"),
        ("num_channels", "channels"),
    ):
        before, after = getattr(old, name, None), getattr(new, name, None)
        if before is not None and after is not None and before != after:
            raise DataError(
                f"the new engine has other {noun}: {before!r} before, {after!r} now. Make it from"
                " the same session and for the same output."
            )
