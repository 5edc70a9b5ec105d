"""The page of a stream and its answers over HTTP, for this machine alone."""

from collections.abc import Callable

from poyo_jax.errors import DataError
from poyo_jax.page_server import Answer, PageHandler, PageServer
from poyo_jax.pages import assemble
from poyo_jax.watch.monitor import Monitor


class WatchServer(PageServer):
    """Server of the page of a monitor on loopback; `port` 0 takes a free one.

    Raises ConfigError when the port cannot be used.
    """

    def __init__(self, monitor: Monitor, port: int = 0):
        self.monitor = monitor
        super().__init__(assemble("poyo_jax.watch", ["watch.js"]), _Handler, port)


class _Handler(PageHandler):
    server: WatchServer

    def gets(self) -> dict[str, Callable[[], Answer]]:
        return {"/about": self.server.monitor.about, "/since": self._since}

    def _since(self) -> Answer:
        number = self.argument("number")
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            raise DataError(f"number is {number[:20]!r}; give that of an update, 0 or more.")
        return self.server.monitor.since(int(number))
