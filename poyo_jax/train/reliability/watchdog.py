"""A thread that ends a process which hangs, so that the scheduler can start the run again.

A process that is stuck but alive blocks all others without an error, and no other process can tell
it from a slow one.
"""

import faulthandler
import os
import sys
import threading
import time

from poyo_jax.exit_status import HUNG

PATIENCE = 6  # compiling, saving and restoring may take so many times the limit
FAREWELL = 10  # seconds at most in which other processes, which end with this one, write stacks


class Watchdog:
    """While entered, ends the process with status HUNG when no `beat` comes for too long.

    It writes the stacks of all threads first, and gives other processes the time to do so. Time in
    which the process itself is suspended, as by Ctrl+Z, does not count.
    """

    def __init__(self, minutes: float):
        self._limit = 60 * minutes
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._watch,
            name="watchdog",
            daemon=True,
        )
        self.beat()

    def beat(self, patience: int = 1) -> None:
        """Allow `patience` times the limit until the next beat."""
        self._deadline = time.monotonic() + patience * self._limit

    def expect(self, seconds_per_step: float) -> None:
        """Allow for slow steps: the limit is at least twenty of them."""
        self._limit = max(self._limit, 20 * seconds_per_step)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        woke = time.monotonic()
        while not self._done.wait(pause := min(1.0, self._limit / 4)):
            now = time.monotonic()
            suspended = max(0.0, now - woke - 2 * pause)
            self._deadline += suspended
            woke = now
            if now > self._deadline:
                text = (
                    f"no step was finished in time (watchdog_minutes, {self._limit / 60:g}): the"
                    " process hangs here:"
                )
                print(f"\n{text}", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                time.sleep(min(FAREWELL, self._limit))
                os._exit(HUNG)
