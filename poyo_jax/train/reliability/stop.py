"""Being asked to stop: Ctrl-C, the scheduler's signals, or the end of the time that was given."""

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
)  # SLURM can be told to send SIGUSR1 ahead of the end


class Stop:
    """While entered, signals set `requested`, and so does the clock after `max_minutes`.

    A second Ctrl-C takes its usual effect at once; schedulers repeat their signals, so theirs never
    do. Python delivers signals to the main thread alone: in another thread only the clock counts.
    jax installs a handler of SIGTERM when processes join, which this one replaces until it is left.
    """

    def __init__(self, max_minutes: float | None = None):
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signalled = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self._signalled or (
            self._deadline is not None and time.monotonic() >= self._deadline
        )

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        if number == signal.SIGINT:
            self._restore(number)

    def __exit__(self, *_: object) -> None:
        for number in [*self._previous]:
            self._restore(number)

    def _restore(self, number: int) -> None:
        with contextlib.suppress(KeyError):
            handler = self._previous.pop(number)
            signal.signal(
                number, signal.SIG_DFL if handler is None else handler
            )  # None: not set by Python
