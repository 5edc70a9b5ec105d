"""Requests to stop or to save: Ctrl-C, signals of the scheduler, and the clock."""

import contextlib
import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

from poyo_jax.signals import heard_at_once

logger = logging.getLogger(__name__)

# SLURM can be told to send SIGUSR1 before the end of the time.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """While entered, signals set `requested`, and so does the clock after `max_minutes`.

    A signal is answered by a line in the log at once, even while XLA compiles.

    A second Ctrl-C takes its usual effect at once; other signals never do, since schedulers repeat
    them. Python delivers signals to the main thread alone: in another thread only the clock counts.
    jax installs a handler of SIGTERM when processes join, which this one replaces until it is left.
    """

    def __init__(self, max_minutes: float | None = None):
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signalled = False
        self._previous: dict[int, Any] = {}
        self._heard = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Tell if a signal has arrived or the time is over."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        return self._signalled

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._heard.enter_context(heard_at_once(_announce))
            self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        if number == signal.SIGINT:
            self._restore(number)

    def __exit__(self, *_: object) -> None:
        for number in [*self._previous]:
            self._restore(number)
        self._heard.close()

    def _restore(self, number: int) -> None:
        with contextlib.suppress(KeyError):
            handler = self._previous.pop(number)
            # None: the handler was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _announce(number: int) -> None:
    """Say that a signal was heard, since what it leads to may take a while."""
    if number in SIGNALS:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        logger.warning(
            "%s: the run saves its state and stops as soon as the present step or compilation is"
            " done",
            name,
        )


class SaveTimer:
    """Tells when a checkpoint is due; never without a limit of `minutes`."""

    def __init__(self, minutes: float | None):
        self._seconds = None if minutes is None else 60 * minutes
        self.restart()

    def due(self) -> bool:
        """Tell if the limit has passed since the last restart."""
        return self._seconds is not None and time.monotonic() - self._since >= self._seconds

    def restart(self) -> None:
        """Count from now on."""
        self._since = time.monotonic()
