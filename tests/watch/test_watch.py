"""The monitor of a stream, its server, and its page in a real browser."""

import http.client
import json
from threading import Thread

import numpy as np
import pytest

from poyo_jax.realtime import Arrived, Counts, Update
from poyo_jax.realtime.stream import Decoded
from poyo_jax.watch.monitor import EDGES, MOST_SPIKES, SHOWN, Monitor
from poyo_jax.watch.server import WatchServer

HOP = 0.05


def update(number: int, value: float = 1.0, milliseconds: float = 2.0, spikes: int = 3) -> Update:
    now = number * HOP
    counts = Counts(received=3 * number, unknown=2, late=1)
    decoded = Decoded(np.array([[value, -number]]), np.array([now]), now, 10, 4, counts)
    arrived = Arrived(np.linspace(now - HOP, now, spikes), np.arange(spikes) % 5 - 1, now)
    return Update(now, decoded, arrived, milliseconds / 1000, 7)


def monitor(count: int = 250) -> Monitor:
    made = Monitor("monday", tuple(f"unit_{unit}" for unit in range(4)), HOP, (0.0,))
    for number in range(1, count + 1):
        made(update(number, milliseconds=50.0 if number == 9 else 2.0))
    return made


def test_the_last_seconds_are_kept_and_everything_is_counted():
    made = monitor(1000)
    answer = made.since(0)
    assert len(answer["updates"]) == SHOWN / HOP and answer["updates"][0]["number"] == 801
    assert [entry["number"] for entry in made.since(998)["updates"]] == [999, 1000]
    totals = {"updates": 1000, "missed": 7, "worst": 50.0, "waiting": 4}
    assert answer["totals"] == totals and answer["counts"]["dropped"] == 2
    assert sum(answer["latencies"]) == 1000
    assert answer["latencies"][int(np.searchsorted(EDGES, 50.0))] == 1
    made.end("The source has ended.")
    assert made.since(1000) == answer | {"updates": [], "ended": "The source has ended."}


def test_a_burst_and_values_that_are_not_finite_are_json():
    made = monitor(0)
    made(update(1, value=np.nan, spikes=10_000))
    [entry] = json.loads(json.dumps(made.since(0), allow_nan=False))["updates"]
    assert entry["values"] == [[None, -1.0]] and len(entry["times"]) == MOST_SPIKES


@pytest.fixture
def serve():
    """Serve the page of a monitor."""
    running = []

    def serve(made: Monitor) -> WatchServer:
        server = WatchServer(made)
        running.append((server, Thread(target=server.serve_forever)))
        running[-1][1].start()
        return server

    yield serve
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server: WatchServer, path: str, headers: dict | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, content


def test_the_server_answers_its_own_page_alone(serve):
    server = serve(monitor())
    status, page = ask(server, "/")
    assert status == 200 and page.startswith("<!doctype html>") and "://" not in page
    assert json.loads(ask(server, "/about")[1])["unit_labels"] == ["0", "1", "2", "3"]
    status, answer = ask(server, "/since?number=249")
    assert status == 200 and len(json.loads(answer)["updates"]) == 1
    for wrong in ("-1", "x", "9" * 20, "1&number=2"):
        status, answer = ask(server, f"/since?number={wrong}")
        assert status == 400 and "give" in json.loads(answer)["error"]
    assert ask(server, "/about", {"Host": "evil.example"})[0] == 403
    assert ask(server, "/nothing")[0] == 404


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_shows_what_goes_on(browser, serve, width):
    expect = pytest.importorskip("playwright.sync_api").expect
    made, said = monitor(), []
    server = serve(made)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server.address)
    expect(page.locator("#updates")).to_have_text("250")
    expect(page.locator("#worst")).to_have_text("50.0 ms")
    expect(page.locator("#dropped")).to_have_text("2")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    for name in ("raster", "trace", "path", "histogram"):
        painted = f"""() => {{
            const canvas = document.getElementById("{name}"), pen = canvas.getContext("2d");
            return pen.getImageData(0, 0, canvas.width, canvas.height).data.some((x) => x);
        }}"""
        assert page.evaluate(painted), name
    made(update(251))
    expect(page.locator("#updates")).to_have_text("251")
    made.end("The source has ended.")
    expect(page.locator("#status")).to_have_text("The source has ended.")
    page.close()
    assert not said
