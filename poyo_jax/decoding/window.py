"""Decode single windows of one session with low latency."""

from bisect import bisect_left

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.model.one_session import make_window_function
from poyo_jax.pretrained import Pretrained

# A window is padded to the next of these numbers of spikes: 128, 192, 256, 384, ... From 128 spikes
# on at most a third is padding.
SPIKE_PLACES = sorted(size << doubled for size in (128, 192) for doubled in range(20))
QUERY_MULTIPLE = 8  # and to a multiple of so many queries


class WindowDecoder:
    """Decodes windows of one session: spikes in, behaviour out, in the units of the session file.

    >>> decoder = WindowDecoder(pretrained, session)
    >>> decoder.warm_up(num_spikes=2000, num_queries=100)
    >>> values = decoder(spike_times, spike_units, query_times)

    It returns the same values as `decode` for one window, several times faster: parameters, keys
    and values of the session's units are compiled in. It compiles once for each size of windows,
    which takes seconds; `warm_up` does so beforehand. Raises VocabError for a session that the
    model does not know.
    """

    def __init__(self, pretrained: Pretrained, session: Session):
        source = pretrained.source(session, session.domain)
        self._predict = make_window_function(
            pretrained.model, pretrained.params, source.unit_rows, source.session_row
        )
        self._num_units = len(source.unit_rows)
        self._task, self._readout = source.task, source.readout

    def __call__(
        self, spike_times: ArrayLike, spike_units: ArrayLike, query_times: ArrayLike
    ) -> Float64[np.ndarray, "queries channels"]:
        """Decode the behaviour at `query_times` [queries].

        Times are float64 seconds from the start of the window; `spike_units` [spikes] are positions
        in the session's `unit_ids`. Raises DataError when a unit does not exist.
        """
        times, units = np.asarray(spike_times, np.float64), np.asarray(spike_units)
        queries = np.asarray(query_times)
        self._check(times, units)
        spikes = _padded_spikes(times, units)
        outputs = np.asarray(self._predict(*spikes, _padded_queries(queries)))[: len(queries)]
        return np.asarray(self._task.predict(outputs, self._readout), np.float64)

    def warm_up(self, num_spikes: int, num_queries: int) -> None:
        """Compile for all windows with up to `num_spikes` spikes and that many queries."""
        for size in SPIKE_PLACES[: bisect_left(SPIKE_PLACES, num_spikes) + 1]:
            self(np.zeros(size), np.zeros(size, int), np.zeros(num_queries))

    def _check(self, times: np.ndarray, units: np.ndarray) -> None:
        if times.shape != units.shape or times.ndim != 1:
            raise DataError(
                f"the window has spike times of shape {times.shape} and spike units of shape"
                f" {units.shape}; pass two 1-D arrays of the same length."
            )
        if len(units) and not 0 <= units.min() <= units.max() < self._num_units:
            raise DataError(
                f"the window has spikes of units {units.min()} to {units.max()}, but the session"
                f" has units 0 to {self._num_units - 1}; pass positions in its unit_ids."
            )


def _padded_spikes(times: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, ...]:
    """Units, times, what float32 leaves out of the times, and a mask; each [places]."""
    count = len(times)
    size = SPIKE_PLACES[bisect_left(SPIKE_PLACES, count)]
    padded_units = np.zeros(size, np.int32)
    padded_units[:count] = units
    rounded = np.zeros(size, np.float32)
    rounded[:count] = times
    low = np.zeros(size, np.float32)
    np.subtract(times, rounded[:count], out=low[:count], casting="same_kind")
    return padded_units, rounded, low, np.arange(size) < count


def _padded_queries(times: np.ndarray) -> Float32[np.ndarray, " places"]:
    multiples = max(1, -(-len(times) // QUERY_MULTIPLE))
    padded = np.zeros(multiples * QUERY_MULTIPLE, np.float32)
    padded[: len(times)] = times
    return padded
