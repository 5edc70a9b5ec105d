"""Play a session as if it were recorded now: `Replay`."""

import time
from collections.abc import Callable

from poyo_jax.checks import check_number, number
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.realtime.follow import Arrived

ROUNDING = 1e-6  # s, by which the last multiple of a hop may pass the end


class Replay:
    """Spikes of a session, at the speed at which they were recorded; a `Source`."""

    def __init__(
        self,
        session: Session,
        *,
        speed: float | None = 1.0,
        start: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """Play a session from `start` s of its time on, by default from its beginning.

        `speed` is a factor; None waits for nothing. `clock` and `sleep` are in s. Raises
        ConfigError for a speed that is not positive, or a start outside of the session, and
        DataError for something that is no session.
        """
        session = one_session(session)
        check_number("speed", speed, number(above=0, or_none=True))
        begin, self._end = float(session.domain.starts[0]), float(session.domain.ends[-1])
        check_number("start", start, number(at_least=begin, at_most=self._end, or_none=True))
        self._session, self._speed = session, speed
        self._done = self._start = begin if start is None else float(start)
        self._clock, self._sleep, self._began = clock, sleep, clock()

    def first(self, hop: float) -> float:
        """Time of the first update in s: one hop after the start."""
        self._began = self._clock()
        return self._start + hop

    def until(self, now: float) -> Arrived | None:
        """Sleep until the clock shows `now` s, and return the spikes since the last call."""
        if now > self._end + ROUNDING:
            return None
        present = now
        if self._speed is not None:
            due = self._began + (now - self._start) / self._speed
            self._sleep(max(0.0, due - self._clock()))
            present = max(now, self._start + (self._clock() - self._began) * self._speed)
        times, units = self._session.spikes_between(self._done, now)
        self._done = now
        return Arrived(times, units, present)

    def close(self) -> None:
        """Do nothing: there is no connection."""
