"""A page and its answers over HTTP, for this machine alone.

The standard library is enough: a handful of addresses, one reader, nothing to install. What any web
page or program on this machine might try is refused: the server listens on loopback, answers only
requests that name it as such (so that no foreign name can be pointed at it) and that come from no
other page, and serves no files.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import SHUT_WR
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from poyo_jax.errors import ConfigError, DataError, PoyoError

Answer = dict[str, Any]  # what JSON can hold
LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")
MAX_BODY = 1 << 20  # bytes; a window of 10,000 spikes takes a quarter of it
# Bytes still taken in after a refusal, so that whoever is sending them hears why.
MAX_DISCARDED = 1 << 28
LINGER = 2  # s without a byte, after which they are no longer waited for
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)


class Refused(PoyoError):
    """A request that is not answered, and with which status."""

    def __init__(self, status: HTTPStatus, text: str):
        super().__init__(text)
        self.status = status


class PageServer(ThreadingTCPServer):
    """Server of a page on loopback, whose handler gives the answers; `port` 0 takes a free one.

    Raises ConfigError when the port cannot be used.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # connections that wait to be accepted: a page opens several at once

    def __init__(self, page: str, handler: type["PageHandler"], port: int = 0):
        self.page = page.encode()
        try:
            super().__init__((LOOPBACK, port), handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "ports are 0 to 65535"
            raise ConfigError(
                f"port {port} cannot be opened: {reason}. Give another, or none to take a free one."
            ) from None

    @property
    def address(self) -> str:
        """Address to type into a browser."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def shutdown_request(self, request: Any) -> None:
        """End a connection once its sender has ended it.

        Closing on unread bytes would take the answer from the sender.
        """
        left = MAX_DISCARDED
        with suppress(OSError):
            request.shutdown(SHUT_WR)
            request.settimeout(LINGER)
            while left > 0 and (piece := request.recv(1 << 16)):
                left -= len(piece)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off: of no interest, because whoever asked is gone."""
        logger.debug("the connection with %s broke off", client_address, exc_info=True)


class PageHandler(BaseHTTPRequestHandler):
    """Answers requests to a page: a subclass names the methods by address in `gets` and `posts`."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # s without a word, after which a connection is closed
    wbufsize = -1  # an answer leaves in one piece ...
    disable_nagle_algorithm = True  # ... and at once

    def gets(self) -> dict[str, Callable[[], Answer]]:
        """Answers to GET, by address; the page itself is at /."""
        return {}

    def posts(self) -> dict[str, Callable[[], Answer]]:
        """Answers to POST, by address."""
        return {}

    def do_GET(self) -> None:
        self._answer({"/": lambda: self.server.page, **self.gets()})

    def do_POST(self) -> None:
        self._answer(dict(self.posts()))

    def _answer(self, answers: dict[str, Callable[[], Answer | bytes]]) -> None:
        try:
            self._check_sender()
            path = self._address().path
            if path not in answers:
                raise Refused(
                    HTTPStatus.NOT_FOUND,
                    f"there is no {self.command} {path[:60]!r} here; open the page at /.",
                )
            self._send(HTTPStatus.OK, answers[path]())
        except Refused as error:
            self._refuse(error.status, str(error))
        except PoyoError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError:  # of the connection
            raise
        except Exception:
            logger.exception("a request to a page failed")
            self._refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "the program failed at this; its terminal tells more.",
            )

    def _check_sender(self) -> None:
        """Refuse requests that do not name this server on loopback, and those of another page."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].rsplit(":", 1)[0] not in NAMES:
            text = (
                f"this page is served as {' or '.join(NAMES)}; open the address that the terminal"
                " shows."
            )
            raise Refused(HTTPStatus.FORBIDDEN, text)
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        followed_link = self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if origin not in (None, f"http://{hosts[0]}") or not (
            site in ("same-origin", "none") or followed_link
        ):
            raise Refused(
                HTTPStatus.FORBIDDEN, "this server answers its own page only, not those of others."
            )

    def _address(self) -> SplitResult:
        """The address that is asked for; Refused for one that is none, such as http://[bad/."""
        try:
            return urlsplit(self.path)
        except ValueError as error:
            text = f"{self.path[:60]!r} is no address ({error}); open the page at /."
            raise Refused(HTTPStatus.BAD_REQUEST, text) from None

    def argument(self, name: str, default: str | None = None) -> str:
        """A value that the address names, or the default.

        Raises DataError when it names several, or none without a default.
        """
        try:
            given = parse_qs(self._address().query, max_num_fields=10).get(name, [])
        except ValueError:
            given = []
        if default is not None and not given:
            return default
        if len(given) != 1:
            raise DataError(f"the address has {len(given)} values for {name!r}; give one.")
        return given[0]

    def body(self) -> bytes:
        """JSON that was sent; raises DataError when it is marked or measured otherwise."""
        if self.headers.get_content_type() != "application/json":
            raise DataError(
                "the question is not marked as application/json; send JSON, and say so in"
                " Content-Type."
            )
        length = self.headers.get("Content-Length", "")
        if (
            not (length.isascii() and length.isdigit() and len(length) < 16)
            or "Transfer-Encoding" in self.headers
        ):
            raise DataError(
                f"Content-Length is {length[:20]!r}; say how many bytes the question has."
            )
        if int(length) > MAX_BODY:
            raise DataError(f"the question has {int(length)} bytes; send {MAX_BODY} at most.")
        return self.rfile.read(int(length))

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True  # what follows may be the rest of what was refused
        self._send(status, {"error": text})

    def _send(self, status: int, answer: Answer | bytes) -> None:
        page = isinstance(answer, bytes)
        content = answer if page else json.dumps(answer, allow_nan=False).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", f"{'text/html' if page else 'application/json'}; charset=utf-8"
        )
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not understood, such as another method, as all others are."""
        self.close_connection = True
        self.request_version = self.protocol_version  # a status even for nonsense
        self._send(
            code,
            {
                "error": (
                    f"{message or HTTPStatus(code).phrase}: this server answers GET and POST of its"
                    " page."
                )
            },
        )

    def version_string(self) -> str:
        return "poyo_jax"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""
