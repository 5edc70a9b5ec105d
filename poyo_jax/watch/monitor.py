"""What has happened in a stream lately, for a page: `Monitor`."""

import math
from collections import deque
from dataclasses import asdict
from threading import Lock
from typing import Any

import numpy as np

from poyo_jax.pages import short_names
from poyo_jax.realtime.follow import Update

SHOWN = 10.0  # s that are kept
MOST_SPIKES = 2000  # of an update that are shown; a page cannot show more in its time
EDGES = np.geomspace(0.1, 1000.0, 61)  # ms, of the bins of latencies


class Monitor:
    """Keeps the last updates of `follow` for a page, and counts all; a sink.

    Its memory does not grow. Other threads may ask it.
    """

    def __init__(
        self, name: str, unit_ids: tuple[str, ...], hop: float, queries: tuple[float, ...]
    ):
        """Take the name of what is decoded, the ids of its units, and the stream's times in s."""
        self._about = {
            "name": name,
            "unit_labels": short_names(unit_ids),
            "hop": hop,
            "queries": list(queries),
            "shown": SHOWN,
            "edges": EDGES.tolist(),
        }
        self._updates: deque[dict[str, Any]] = deque(maxlen=math.ceil(SHOWN / hop))
        self._latencies = np.zeros(len(EDGES) + 1, np.int64)
        self._totals: dict[str, Any] = {"updates": 0, "missed": 0, "worst": 0.0, "waiting": 0}
        self._counts: dict[str, int] = {}
        self._lock, self._ended = Lock(), ""

    def __call__(self, update: Update) -> None:
        """Take in an update."""
        decoded, spikes = update.decoded, update.spikes
        milliseconds = 1000 * update.seconds
        taken = slice(MOST_SPIKES)
        entry = {
            "number": self._totals["updates"] + 1,
            "now": update.now,
            "milliseconds": milliseconds,
            "values": [[_finite(value) for value in row] for row in decoded.values.tolist()],
            "times": [_finite(time) for time in spikes.times[taken].tolist()],
            "units": [_finite(unit) for unit in spikes.units[taken].tolist()],
        }
        with self._lock:
            self._updates.append(entry)
            self._latencies[np.searchsorted(EDGES, milliseconds)] += 1
            self._totals |= {
                "updates": entry["number"],
                "missed": update.missed,
                "worst": max(self._totals["worst"], milliseconds),
                "waiting": decoded.num_waiting,
            }
            self._counts = asdict(decoded.counts) | {"dropped": decoded.counts.dropped}

    def end(self, reason: str) -> None:
        """Say why no further update comes."""
        with self._lock:
            self._ended = reason

    def about(self) -> dict[str, Any]:
        """What does not change, as JSON can hold it."""
        return self._about

    def since(self, number: int) -> dict[str, Any]:
        """The updates after this number, and all counts, as JSON can hold them."""
        with self._lock:
            return {
                "updates": [entry for entry in self._updates if entry["number"] > number],
                "latencies": self._latencies.tolist(),
                "totals": dict(self._totals),
                "counts": dict(self._counts),
                "ended": self._ended,
            }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
