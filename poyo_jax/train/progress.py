"""Show the progress of a run or of a fit."""

import logging
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """A progress bar on a terminal; elsewhere a log line every 30 s. `show=False` is silent. Close
    it, or enter it.
    """

    def __init__(self, what: str, first: int, total: int, show: bool = True):
        self._what, self._total, self._show = what, total, show
        self._bar = tqdm(
            desc=what, initial=first, total=total, unit="step", disable=None if show else True
        )
        self._start: tuple[int, float] | None = (
            None  # first step that was done and when; it is compiled before
        )
        self._logged = time.monotonic()
        self._note = ""

    def advance(self, done: int) -> None:
        self._start = self._start or (done, time.monotonic())
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif self._show and done > self._start[0] and time.monotonic() - self._logged > 30:
            self._logged = time.monotonic()
            pace = (self._logged - self._start[1]) / (done - self._start[0])
            left = pace * (self._total - done)
            text = "%s: step %d of %d, %.3g s per step, %.0f s left%s"
            logger.info(text, self._what, done, self._total, pace, left, self._note)

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._note = f", {text}"
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
