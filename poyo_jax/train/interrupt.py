"""Ctrl-C asks training to stop after the step in progress."""

import signal
import threading


class Interruption:
    """While entered, the first SIGINT or SIGTERM sets `requested`; a second one takes its usual effect."""

    def __init__(self):
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def _request(self, number, frame) -> None:
        self.requested = True
        self._restore()

    def __exit__(self, *_) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
