"""Show the progress of a run or of a fit."""

import logging
import time

from tqdm import tqdm

from poyo_jax.words import counted

logger = logging.getLogger(__name__)


def compiling(num_devices: int) -> str:
    """Say that a training step is being compiled."""
    return f"compiling the training step for {counted(num_devices, 'device')}, which takes a while"


class Progress:
    """A progress bar on a terminal; elsewhere a log line every 30 s. Close it, or enter it.

    `unit` is the noun of what is counted. The first step is not timed, since it is compiled before.
    """

    def __init__(self, what: str, first: int, total: int, show: bool = True, unit: str = "step"):
        self._what = what
        self._first = first
        self._total = total
        self._show = show
        self._unit = unit
        self._bar: tqdm | None = None
        self._start: tuple[int, float] | None = None  # step after which time counts, and when
        self._logged = time.monotonic()
        self._note = ""

    def begin(self, first: int) -> None:
        """Say that steps before `first` were made earlier."""
        self._first = first

    def advance(self, done: int) -> None:
        """Show that so many steps are done."""
        self._start = self._start or (done, time.monotonic())
        if self._bar is None:
            self._bar = tqdm(
                desc=self._what,
                initial=self._first,
                total=self._total,
                unit=self._unit,
                disable=None if self._show else True,
            )
            self._bar.set_postfix_str(self._note)
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif self._show and done > self._start[0] and time.monotonic() - self._logged > 30:
            self._log(done, *self._start)

    def _log(self, done: int, first: int, began: float) -> None:
        self._logged = time.monotonic()
        pace = (self._logged - began) / (done - first)
        left = pace * (self._total - done)
        note = f", {self._note}" if self._note else ""
        text = "%s: %s %d of %d, %.3g s per %s, %.0f s left%s"
        unit = self._unit
        logger.info(text, self._what, unit, done, self._total, pace, unit, left, note)

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
