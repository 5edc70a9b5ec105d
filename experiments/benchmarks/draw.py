"""Simulated windows for the benchmark, drawn from a seed: every contender gets the same ones.

Imports nothing but numpy.
"""

from dataclasses import dataclass

import numpy as np

NUM_SESSIONS = 60
NUM_QUERIES = 100
UNITS, SPIKES = 100, 1300  # of a single window: with start and stop tokens 1500 tokens


@dataclass(frozen=True)
class SimulatedWindow:
    """One window of 1 s: times in s from its start."""

    session: int
    num_units: int  # of the session, all kept
    spike_units: np.ndarray
    spike_times: np.ndarray
    query_times: np.ndarray
    targets: np.ndarray


def session_units() -> np.ndarray:
    """Units of the sessions: triangular between 30 and 300 with the mode at 100."""
    return np.random.default_rng(0).triangular(30, 100, 300, NUM_SESSIONS).astype(int)


def draw_windows(
    batch_size: int, seed: int, fixed_tokens: int | None = None
) -> list[SimulatedWindow]:
    """Draw windows of random sessions.

    Their token counts are log-normal (median 1600, mean about 2300), clipped to 500 ... 8000.

    `fixed_tokens` gives every window so many tokens instead, from sessions with fewer units than
    half of that.
    """
    rng, units = np.random.default_rng([1, seed]), session_units()
    windows = []
    for _ in range(batch_size):
        session = int(rng.integers(NUM_SESSIONS))
        tokens = fixed_tokens or int(np.clip(np.exp(rng.normal(np.log(1600), 0.85)), 500, 8000))
        spikes = max(tokens - 2 * units[session], 0)
        windows.append(
            SimulatedWindow(
                session=session,
                num_units=int(units[session]),
                spike_units=rng.integers(0, units[session], spikes),
                spike_times=np.sort(rng.random(spikes)),
                query_times=(np.arange(NUM_QUERIES) / NUM_QUERIES).astype(np.float32),
                targets=rng.standard_normal((NUM_QUERIES, 2)).astype(np.float32),
            )
        )
    return windows


def draw_window(number: int) -> SimulatedWindow:
    """One window of a session with UNITS units."""
    rng = np.random.default_rng([2, number])
    return SimulatedWindow(
        session=0,
        num_units=UNITS,
        spike_units=rng.integers(0, UNITS, SPIKES),
        spike_times=np.sort(rng.random(SPIKES)),
        query_times=(np.arange(NUM_QUERIES) / NUM_QUERIES).astype(np.float32),
        targets=np.zeros((NUM_QUERIES, 2), np.float32),
    )
