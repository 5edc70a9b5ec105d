"""Decode single windows of one session with low latency."""

from bisect import bisect_left

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from poyo_jax.checks import check_number, integer
from poyo_jax.data.batches.tokens import ModelSession, SessionOutput
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import one_of
from poyo_jax.errors import DataError
from poyo_jax.model.one_session import make_window_function
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.realtime.spikes import number_array
from poyo_jax.tasks.choose import average

# A window is padded to the next of these numbers of spikes: 128, 192, 256, 384, ... From 128 spikes
# on at most a third is padding.
SPIKE_PLACES = sorted(size << doubled for size in (128, 192) for doubled in range(20))
QUERY_MULTIPLE = 8  # and to a multiple of so many queries
MOST_SPIKES, MOST_QUERIES = SPIKE_PLACES[-1], 2**20
EXPECTED = "seconds from the window's start, and for units positions in the session's unit_ids"
ROUNDING = 1e-6  # s by which a time may miss the window: session times are rounded


class WindowDecoder:
    """Decodes windows of one session: spikes in, behaviour out, in the units of the session file.

    >>> decoder = WindowDecoder(pretrained, session)
    >>> decoder.warm_up(num_spikes=2000, num_queries=100)
    >>> values = decoder(spike_times, spike_units, query_times)

    It returns the same values as `decode` for one window, several times faster: parameters, keys
    and values of the session's units are compiled in. It compiles once for each size of windows,
    which takes seconds; `warm_up` does so beforehand. `output` names what is decoded; None takes
    the only output of the session. Raises VocabError for a session that the model does not know,
    and DataError for several outputs of which none is named, or none of that name.
    """

    def __init__(self, pretrained: Pretrained, session: Session, output: str | None = None):
        pretrained, session = check_model(pretrained, ensemble=True), one_session(session)
        source = pretrained.source(session, session.domain)
        self._output = choose_output(source, output)
        self._predict = make_window_function(
            pretrained.model,
            pretrained.params,
            source.unit_rows,
            source.session_row,
            self._output.number,
        )
        self._window_length = pretrained.config.model.window_length
        self._num_units = len(source.unit_rows)

    def __call__(
        self, spike_times: ArrayLike, spike_units: ArrayLike, query_times: ArrayLike
    ) -> Float64[np.ndarray, "queries channels"]:
        """Decode the behaviour at `query_times` [queries].

        Times are float64 seconds from the start of the window, and lie in it; `spike_units`
        [spikes] are positions in the session's `unit_ids`. Raises DataError when a time lies
        outside the window, a unit does not exist, or an argument is no 1-D array of numbers.
        """
        times = number_array(spike_times, "spike times of the window", EXPECTED)
        units = number_array(spike_units, "spike units of the window", EXPECTED)
        queries = number_array(query_times, "query times of the window", EXPECTED)
        self._check_times(times, "a spike")
        self._check_times(queries, "a query")
        self._check_units(times, units)
        places = SPIKE_PLACES[bisect_left(SPIKE_PLACES, len(times))]
        spikes = padded_spikes(times, units, places)
        outputs = self._predict(*spikes, padded_queries(queries))
        return values_of(self._output, np.asarray(outputs)[..., : len(queries), :])

    def warm_up(self, num_spikes: int, num_queries: int) -> None:
        """Compile for all windows with up to `num_spikes` spikes and that many queries."""
        check_number("num_spikes", num_spikes, integer(0, MOST_SPIKES))
        check_number("num_queries", num_queries, integer(0, MOST_QUERIES))
        for size in SPIKE_PLACES[: bisect_left(SPIKE_PLACES, num_spikes) + 1]:
            self(np.zeros(size), np.zeros(size, int), np.zeros(num_queries))

    def _check_times(self, times: np.ndarray, what: str) -> None:
        """Check that times lie in the window; NaN does not."""
        if not len(times):
            return
        first, last = times.min(), times.max()
        if first >= -ROUNDING and last <= self._window_length + ROUNDING:
            return
        outside = ~((times >= -ROUNDING) & (times <= self._window_length + ROUNDING))
        wrong = times[outside][0]
        raise DataError(
            f"{what} of the window has the time {wrong:g} s, but the window lasts from 0 to"
            f" {self._window_length:g} s. Give times in seconds from the window's start: subtract"
            " it from session times, and leave out what lies outside."
        )

    def _check_units(self, times: np.ndarray, units: np.ndarray) -> None:
        if len(times) != len(units):
            raise DataError(
                f"the window has spike times of shape {times.shape} and spike units of shape"
                f" {units.shape}; pass two 1-D arrays of the same length."
            )
        if len(times) > MOST_SPIKES:
            raise DataError(f"the window has {len(times)} spikes; pass {MOST_SPIKES} at most.")
        if not len(units):
            return
        if units.dtype.kind == "f" and not (units == np.floor(units)).all():
            wrong = units[units != np.floor(units)][0]
            raise DataError(
                f"a spike of the window has the unit {wrong}, but units are whole numbers: pass"
                " positions in the session's unit_ids."
            )
        if not 0 <= units.min() <= units.max() < self._num_units:
            raise DataError(
                f"the window has spikes of units {units.min()} to {units.max()}, but the session"
                f" has units 0 to {self._num_units - 1}; pass positions in its unit_ids."
            )


def choose_output(source: ModelSession, name: str | None) -> SessionOutput:
    """Return the named output of a session, or its only one.

    Raises DataError if there are several and none is named, or none of that name.
    """
    by_name = {output.name: output for output in source.outputs}
    return one_of(by_name, name, "poyo_jax.decode_outputs")


def values_of(
    output: SessionOutput, outputs: Float32[np.ndarray, "*members queries outputs"]
) -> Float64[np.ndarray, "queries channels"]:
    """Convert what the model returns to values of one output, in the units of the session file."""
    members = outputs if outputs.ndim == 3 else outputs[None]
    own = average(output.task, members[..., output.columns])
    return np.asarray(output.task.predict(own, output.readout), np.float64)


def padded_spikes(times: np.ndarray, units: np.ndarray, places: int) -> tuple[np.ndarray, ...]:
    """Units, times, what float32 leaves out of the times, and a mask; each [places]."""
    count = len(times)
    padded_units = np.zeros(places, np.int32)
    padded_units[:count] = units
    rounded = np.zeros(places, np.float32)
    rounded[:count] = times
    low = np.zeros(places, np.float32)
    np.subtract(times, rounded[:count], out=low[:count], casting="same_kind")
    return padded_units, rounded, low, np.arange(places) < count


def padded_queries(times: np.ndarray, at_least: int = 1) -> Float32[np.ndarray, " places"]:
    """Return query times, padded to a multiple of QUERY_MULTIPLE that holds `at_least` so many."""
    multiples = -(-max(len(times), at_least, 1) // QUERY_MULTIPLE)
    padded = np.zeros(multiples * QUERY_MULTIPLE, np.float32)
    padded[: len(times)] = times
    return padded
