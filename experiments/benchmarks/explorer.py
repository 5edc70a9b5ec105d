"""Time from a click in the explorer to its answer: spikes and query times over HTTP.

    $ python -m experiments.benchmarks.explorer

A model of the size of poyo_single with random weights, a simulated session of 100 units. Every
question is a window of its own with one spike more than was recorded, and is sent as the page sends
it.
"""

import http.client
import json
import time
from threading import Thread
from urllib.parse import urlsplit

import numpy as np

from experiments.benchmarks.one_window import untrained
from poyo_jax.data.simulate import simulate_session
from poyo_jax.explore.explorer import Explorer
from poyo_jax.explore.server import ExplorerServer
from poyo_jax.presets import poyo_single

UNITS, DURATION, CLICKS = 100, 120.0, 500


def main() -> None:
    session = simulate_session(0, num_units=UNITS, duration=DURATION)
    explorer = Explorer(untrained(poyo_single(), session), [session])
    with ExplorerServer(explorer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        connection = http.client.HTTPConnection(urlsplit(server.address).netloc)
        starts = np.random.default_rng(0).uniform(0.0, DURATION - explorer.window_length, CLICKS)
        bodies = [question(explorer, session.id, start) for start in starts.tolist()]
        began = time.perf_counter()
        click(connection, bodies[0])
        first = time.perf_counter() - began
        while (progress := explorer.progress(session.id))["ready"] < progress["sizes"]:
            time.sleep(0.1)
        prepared = time.perf_counter() - began
        times = 1000 * np.array([click(connection, body) for body in bodies])  # ms
        connection.close()
        server.shutdown()
        thread.join()
    explorer.close()
    median, p95, p99 = np.percentile(times, [50, 95, 99])
    print(
        f"first answer after {first:.1f} s, all {progress['sizes']} sizes of windows compiled after"
        f" {prepared:.1f} s"
    )
    print(
        f"{CLICKS} clicks: median {median:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, longest"
        f" {times.max():.1f} ms"
    )


def question(explorer: Explorer, session_id: str, start: float) -> bytes:
    """A window with one spike more."""
    window = explorer.window(session_id, start)
    spikes = {
        "spike_times": [*window["spike_times"], 0.5],
        "spike_units": [*window["spike_units"], 0],
    }
    return json.dumps(
        {"session": session_id, "query_times": window["query_times"], **spikes}
    ).encode()


def click(connection: http.client.HTTPConnection, body: bytes) -> float:
    """Seconds until the answer is read."""
    began = time.perf_counter()
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    took = time.perf_counter() - began
    if reply.status != 200:
        raise RuntimeError(answer["error"])
    return took


if __name__ == "__main__":
    main()
