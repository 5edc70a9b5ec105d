"""Decode a session while it is recorded: `StreamDecoder`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from poyo_jax.checks import check_choice, check_number, integer
from poyo_jax.data.batches.tokens import ModelSession, SessionOutput
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.decoding.rig_file import file_content
from poyo_jax.decoding.window import choose_output, padded_queries, padded_spikes, values_of
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.files import write_bytes
from poyo_jax.model.attention.online_softmax import Sums
from poyo_jax.model.one_session import Spikes, make_stream_functions
from poyo_jax.native.engine import NativeEngine
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.realtime.stream import CAPACITY, Stream, check_settings

BackEnd = Literal["jax", "native"]

# Spikes are padded to the first of these numbers that holds them; more than the last come in parts.
# So the number of spikes never leads to another program.
ADD_PLACES = (256, 1024)
UPDATE_PLACES = (64, 256)


class StreamDecoder(Stream):
    """Decodes a session while it is recorded, on the time of the recording.

    Its values are those of `WindowDecoder` for the window that ends now, and of `decode` with
    `causal_step`, to round-off.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        session: Session,
        hop: float = 0.05,
        queries: Sequence[float] = (0.0,),
        *,
        output: str | None = None,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
        back_end: BackEnd = "jax",
        threads: int = 1,
        bfloat16: bool = False,
    ):
        """Make a decoder of one session.

        Args:
            pretrained: the model; it knows the session.
            session: the recording; only its units and its readout are used.
            hop: s between two updates, for `prepare`; up to the length of a window.
            queries: s before an update; an update decodes the behaviour at each of these times.
            output: name of what is decoded; None takes the only output of the session.
            capacity: most spikes that the buffer holds.
            clock: returns the time in s, for `Decoded.emitted` and for updates without a time.
            back_end: "jax", or "native", which is compiled on this machine and, with two threads
                and a real-time priority, about twice as fast. It decodes continuous outputs of
                single models: error bars, classes, counts, ensembles, and a processor or a task of
                your own need "jax".
            threads: of the native back end, 1 to 8; no more than there are free cores.
            bfloat16: let the native back end multiply bfloat16 in layers, on CPUs that have such
                instructions: faster, and equal to about 1e-3 of a standard deviation.

        Raises:
            VocabError: the model does not know the session.
            ConfigError: a setting is not allowed.
            DataError: the session has no units, or several outputs of which none is named, or an
                argument is something else.
            MissingDependencyError: the native back end finds no compiler.
            PoyoError: the native back end cannot be compiled, or the CPU has no bfloat16.
        """
        self._pretrained, session = check_model(pretrained, ensemble=True), one_session(session)
        self._source = self._pretrained.source(session, session.domain)
        if not len(self._source.unit_rows):
            raise DataError(
                f"session {session.id} has no units, so no spikes can be decoded. Give another."
            )
        check_settings(self._pretrained.config.model.window_length, hop, queries, capacity)
        check_choice("back_end", back_end, get_args(BackEnd))
        check_number("threads", threads, integer(1, 8))
        for name, value, default in (("threads", threads, 1), ("bfloat16", bfloat16, False)):
            if back_end != "native" and value != default:
                raise ConfigError(
                    f"{name} is {value}, but the back end of JAX has no such setting. Give"
                    f" back_end='native', or leave {name} out."
                )
        self._output = choose_output(self._source, output)
        if back_end == "native":
            content = file_content(self._pretrained, self._source, self._output, hop, queries)
            engine = NativeEngine(content, threads=threads, bfloat16=bfloat16)
        else:
            engine = JaxEngine(self._pretrained, self._source, self._output)
        super().__init__(engine, hop=hop, queries=queries, capacity=capacity, clock=clock)

    def save(self, path: str | Path) -> None:
        """Write a .poyo file, from which `poyo_jax.native.load` and `poyo_run` decode the session.

        It holds the weights, the ids of the units, and the mean and standard deviation of the
        behaviour. Raises ConfigError for a model that the native back end does not compute, or
        after `swap`, and PoyoError when the file cannot be written.
        """
        if self._num_swaps:
            raise ConfigError(
                "this decoder has swapped its engine, so it no longer decodes with the model that"
                " it was made of. Make a decoder of the new model, such as that of"
                " Recalibration.pretrained(), and save that one."
            )
        content = file_content(self._pretrained, self._source, self._output, self.hop, self.queries)
        write_bytes(path, content)


class JaxEngine:
    """Computes windows of a session by JAX; a `poyo_jax.realtime.Engine`."""

    def __init__(self, pretrained: Pretrained, source: ModelSession, output: SessionOutput):
        self.window_length = pretrained.config.model.window_length
        self.num_units = len(source.unit_rows)
        self.unit_ids = tuple(source.session.unit_ids)
        blank = np.zeros((1, output.columns.stop), np.float32)
        self.num_channels = values_of(output, blank).shape[-1]
        self._output, self._num_queries = output, 0
        self.functions = make_stream_functions(
            pretrained.model,
            pretrained.params,
            source.unit_rows,
            source.session_row,
            output.number,
        )

    def begin(self) -> Sums:
        """State of a window without spikes."""
        return self.functions.init()

    def add(self, state: Sums, times: np.ndarray, units: np.ndarray) -> Sums:
        """State with spikes [spikes] at `times` s from the start of the window."""
        for first in range(0, len(times), ADD_PLACES[-1]):
            part = slice(first, first + ADD_PLACES[-1])
            state = self.functions.add(state, _padded(times[part], units[part], ADD_PLACES))
        return state

    def decode(
        self, state: Sums, times: np.ndarray, units: np.ndarray, queries: np.ndarray
    ) -> tuple[Sums, np.ndarray]:
        """State with more spikes, and values [queries, channels] at `queries` s from the start."""
        before = max(0, len(times) - UPDATE_PLACES[-1])
        state = self.add(state, times[:before], units[:before])
        spikes = _padded(times[before:], units[before:], UPDATE_PLACES)
        places = padded_queries(queries, self._num_queries)
        state, outputs = self.functions.update(state, spikes, places)
        return state, values_of(self._output, np.asarray(outputs)[..., : len(queries), :])

    def copy(self, state: Sums) -> Sums:
        """The state itself, which nothing changes."""
        return state

    def warm_up(self, num_queries: int) -> None:
        """Compile for all numbers of spikes, and up to so many queries."""
        self._num_queries = num_queries
        queries, state = np.zeros(num_queries), self.begin()
        for places in ADD_PLACES:
            state = self.add(state, np.zeros(places), np.zeros(places, np.int32))
        for places in UPDATE_PLACES:
            # From a state of each kind: the one that `begin` returns, and one that was computed.
            for before in (self.begin(), state):
                self.decode(before, np.zeros(places), np.zeros(places, np.int32), queries)


def _padded(times: np.ndarray, units: np.ndarray, choices: Sequence[int]) -> Spikes:
    """Spikes, padded to the first of the `choices` that holds them."""
    places = next(choice for choice in choices if len(times) <= choice)
    return Spikes(*padded_spikes(times, units, places))
