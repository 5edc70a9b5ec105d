"""An engine that lists the spikes of its window, for tests of streams."""

import numpy as np

from poyo_jax.realtime import Stream


class Lister:
    """An engine whose value is the number of spikes, and whose state lists them."""

    num_units, window_length = 3, 1.0

    def begin(self):
        return ()

    def add(self, state, times, units):
        return (*state, *zip(times.round(9).tolist(), units.tolist(), strict=True))

    def decode(self, state, times, units, queries):
        state = self.add(state, times, units)
        return state, np.full((len(queries), 1), float(len(state)))

    def copy(self, state):
        return state

    def warm_up(self, num_queries):
        self.warmed = num_queries


def make(**settings) -> Stream:
    return Stream(Lister(), **{"hop": 0.1, "queries": (0.0,), "clock": lambda: 5.0} | settings)
