"""Decode single windows of one session, as fast as can be."""

from bisect import bisect_left

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.model.one_session import make_window_function
from poyo_jax.pretrained import Pretrained

# Windows are padded to so many spikes (at most a third of which is padding from 128 on) and to a
# multiple of queries.
SPIKE_PLACES = sorted(size << doubled for size in (128, 192) for doubled in range(20))
QUERY_MULTIPLE = 8


class WindowDecoder:
    """Decodes windows of one session: spikes in, behaviour out, in the units of the session file.

    >>> decoder = WindowDecoder(pretrained, session)
    >>> decoder.warm_up(num_spikes=2000, num_queries=100)
    >>> values = decoder(spike_times, spike_units, query_times)

    It says what `decode` says of the same window, several times faster: parameters, keys and values
    of the session's units are compiled in. It compiles for a few sizes of windows, each when first
    seen, for seconds; `warm_up` does so beforehand. Raises VocabError for a session that the model
    does not know.
    """

    def __init__(self, pretrained: Pretrained, session: Session):
        source = pretrained.source(session, session.domain)
        self._predict = make_window_function(
            pretrained.model, pretrained.params, source.unit_rows, source.session_row
        )
        self._num_units = len(source.unit_rows)
        self._mean, self._std = (
            np.array(x, np.float32) for x in (source.readout.mean, source.readout.std)
        )

    def __call__(
        self, spike_times: ArrayLike, spike_units: ArrayLike, query_times: ArrayLike
    ) -> Float32[np.ndarray, "queries channels"]:
        """Behaviour at `query_times` [queries].

        Times are float64 seconds from the start of the window; `spike_units` [spikes] are positions
        in the session's `unit_ids`. Raises DataError when a unit does not exist.
        """
        times, units, queries = (
            np.asarray(spike_times, np.float64),
            np.asarray(spike_units),
            np.asarray(query_times),
        )
        self._check(times, units)
        count, size = len(times), SPIKE_PLACES[bisect_left(SPIKE_PLACES, len(times))]
        padded_units, rounded, low = np.zeros(size, np.int32), *np.zeros((2, size), np.float32)
        padded_units[:count] = units
        rounded[:count] = times
        np.subtract(times, rounded[:count], out=low[:count], casting="same_kind")
        asked = np.zeros(max(1, -(-len(queries) // QUERY_MULTIPLE)) * QUERY_MULTIPLE, np.float32)
        asked[: len(queries)] = queries
        values = np.asarray(
            self._predict(padded_units, rounded, low, np.arange(size) < count, asked)
        )
        return values[: len(queries)] * self._std + self._mean

    def warm_up(self, num_spikes: int, num_queries: int) -> None:
        """Compile for all windows with up to so many spikes and that many queries."""
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
