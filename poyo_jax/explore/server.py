"""The explorer's page and its answers over HTTP, for this machine alone."""

from collections.abc import Callable

from poyo_jax.explore.explorer import Explorer
from poyo_jax.explore.questions import read_question, read_time
from poyo_jax.page_server import Answer, PageHandler, PageServer
from poyo_jax.pages import assemble

SCRIPTS = ("series.js", "drawing.js", "page.js")


class ExplorerServer(PageServer):
    """Server of an explorer's page on loopback; `port` 0 takes a free one.

    Raises ConfigError when the port cannot be used.
    """

    def __init__(self, explorer: Explorer, port: int = 0):
        self.explorer = explorer
        super().__init__(assemble("poyo_jax.explore", SCRIPTS), _Handler, port)


class _Handler(PageHandler):
    server: ExplorerServer

    def gets(self) -> dict[str, Callable[[], Answer]]:
        return {"/sessions": self._sessions, "/window": self._window, "/progress": self._progress}

    def posts(self) -> dict[str, Callable[[], Answer]]:
        return {"/predict": self._predict}

    def _sessions(self) -> Answer:
        return self.server.explorer.overview()

    def _window(self) -> Answer:
        session = self.argument("session")
        start = read_time(self.argument("start"))
        return self.server.explorer.window(session, start, self.argument("output", ""))

    def _progress(self) -> Answer:
        session, output = self.argument("session"), self.argument("output", "")
        return self.server.explorer.progress(session, output)

    def _predict(self) -> Answer:
        explorer = self.server.explorer
        return explorer.predict(read_question(self.body(), explorer.window_length))
