"""A local server that speaks as much of DANDI and Zenodo as their clients ask for, with faults on
demand.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 2  # assets per page of a list


@dataclass(frozen=True)
class Fault:
    """How one answer differs from what it should be."""

    status: int = 0  # answer with this status and nothing else
    retry_after: str = ""
    cut: int | None = None  # hang up after so many bytes
    change: Callable[[bytes], bytes] = bytes  # of the whole file
    ranges: bool = True  # serve the part that was asked for
    shift: int = 0  # start the part so many bytes later
    announce: int = 0  # bytes more than there are, in Content-Length
    before: Callable[[], object] = bool  # called before anything is sent
    then: Callable[[], object] = (
        bool  # called after the bytes of a file were sent, before the connection ends
    )


class Archive:
    """The contents by name, the faults to come by the end of a path, and what was asked: (path,
    Range) of each request.

    Every request takes the next fault of its path; when none are left the answers are right.
    """

    def __init__(self, url: str):
        self.url, self.dandi_api, self.zenodo_api = url, f"{url}/api", f"{url}/zenodo"
        self.contents: dict[str, bytes] = {}
        self.lists_metadata = True
        self.faults: dict[str, Iterator[Fault]] = {}
        self.asked: list[tuple[str, str | None]] = []

    def ranges(self, name: str) -> list[str | None]:
        """The Range of every request for the content of a file."""
        return [part for path, part in self.asked if path.endswith(f"/content/{name}")]

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def answer_json(self, path: str, query: dict[str, list[str]]) -> object:
        """What the server says about its files; None where it knows nothing."""
        if path == "/api/info/":
            services = {"api": {"url": self.dandi_api}}
            return {
                "version": "1",
                "services": services,
                "cli-minimal-version": "0.1.0",
                "cli-bad-versions": [],
            }
        if re.fullmatch(r"/api/dandisets/\d{6}/versions/0\.1\.2/assets/", path):
            return self._assets(path, int(query.get("page", ["1"])[0]), "metadata" in query)
        if match := re.fullmatch(r"/api/dandisets/\d{6}/versions/0\.1\.2/assets/(.+)/", path):
            return self._metadata(match[1])
        if path == "/zenodo/records/77":
            return {"files": [self._zenodo_file(name) for name in self.contents]}
        return None

    def _assets(self, path: str, page: int, metadata: bool) -> object:
        names = sorted(self.contents)[(page - 1) * PAGE : page * PAGE]
        left = page * PAGE < len(self.contents)
        following = (
            f"{self.url}{path}?{'metadata=true&' if metadata else ''}page={page + 1}"
            if left
            else None
        )
        results = [self._asset(name, metadata) for name in names]
        return {
            "count": len(self.contents),
            "next": following,
            "previous": None,
            "results": results,
        }

    def _asset(self, name: str, metadata: bool) -> dict[str, object]:
        asset = {
            "asset_id": name,
            "blob": "b",
            "zarr": None,
            "path": name,
            "size": len(self.contents[name]),
        }
        times = dict.fromkeys(("created", "modified"), "2025-01-22T17:35:00Z")
        return (
            asset
            | times
            | ({"metadata": self._metadata(name)} if metadata and self.lists_metadata else {})
        )

    def _metadata(self, name: str) -> dict[str, object]:
        return {"digest": {"dandi:sha2-256": hashlib.sha256(self.contents[name]).hexdigest()}}

    def _zenodo_file(self, name: str) -> dict[str, object]:
        content = self.contents[name]
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        links = {"self": f"{self.url}/zenodo/content/{name}"}
        return {"key": name, "size": len(content), "checksum": checksum, "links": links}


class Handler(BaseHTTPRequestHandler):
    archive: Archive

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.archive.asked.append((self.path, self.headers["Range"]))
        waiting = [faults for end, faults in self.archive.faults.items() if url.path.endswith(end)]
        fault = next(waiting[0], Fault()) if waiting else Fault()
        fault.before()
        if fault.status:
            self.answer(
                fault.status, {"Retry-After": fault.retry_after} if fault.retry_after else {}
            )
        elif match := re.fullmatch("/api/assets/(.*)/download/", url.path):
            self.answer(302, {"Location": f"/api/content/{match[1]}"})
        elif match := re.fullmatch("/[a-z]+/content/(.*)", url.path):
            self.send_content(self.archive.contents[match[1]], fault)
        elif (said := self.archive.answer_json(url.path, parse_qs(url.query))) is not None:
            self.answer(200, {}, fault.change(json.dumps(said).encode()))
        else:
            self.answer(404, {})

    def send_content(self, content: bytes, fault: Fault) -> None:
        content, headers, status = fault.change(content), {}, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and fault.ranges:
            start, size = int(asked[1]) + fault.shift, len(content)
            content, status = content[start:], 206
            headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        headers["Content-Length"] = str(len(content) + fault.announce)
        self.answer(status, headers, content[: fault.cut])
        fault.then()

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is part of the tests."""


@contextlib.contextmanager
def serving() -> Iterator[Archive]:
    """An archive that answers until the context ends."""
    handler = type("ThisHandler", (Handler,), {})
    with Server(("127.0.0.1", 0), handler) as server:
        handler.archive = Archive(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield handler.archive
        finally:
            server.shutdown()
            thread.join()
