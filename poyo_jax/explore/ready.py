"""A decoder of one session that is compiled before it is needed."""

from bisect import bisect_left
from concurrent.futures import Executor

import numpy as np
from jaxtyping import Float64

from poyo_jax.data.behaviour import count_before
from poyo_jax.data.session import Session
from poyo_jax.decoding.window import SPIKE_PLACES, WindowDecoder
from poyo_jax.explore.questions import MAX_QUERIES, Question
from poyo_jax.pretrained import Pretrained


class ReadyDecoder:
    """Decodes windows of one session, for any number of queries up to MAX_QUERIES at the same cost.

    `output` names one of several outputs. Making a decoder takes seconds. Then `executor` compiles
    for every size of window that the session has, and for one more, so that spikes can be added; a
    window that comes earlier compiles for itself. Raises what WindowDecoder raises.

    Attributes:
        max_spikes: most spikes that a window may have.
    """

    def __init__(self, pretrained: Pretrained, session: Session, output: str, executor: Executor):
        self._decoder = WindowDecoder(pretrained, session, output or None)
        sizes = window_sizes(session, pretrained.config.model.window_length)
        self.max_spikes = sizes[-1]
        self._compiling = [executor.submit(self._compile, size) for size in sizes]

    def __call__(self, question: Question) -> Float64[np.ndarray, "queries channels"]:
        """Decode behaviour at the query times, in the units of the session file.

        Raises DataError for an unknown unit.
        """
        asked = np.zeros(MAX_QUERIES)
        asked[: len(question.query_times)] = question.query_times
        values = self._decoder(question.spike_times, question.spike_units, asked)
        return values[: len(question.query_times)]

    @property
    def progress(self) -> tuple[int, int]:
        """Number of compiled window sizes, and of all sizes."""
        return sum(size.done() for size in self._compiling), len(self._compiling)

    def cancel(self) -> None:
        """Compile no further size."""
        for size in self._compiling:
            size.cancel()

    def _compile(self, size: int) -> None:
        self._decoder(np.zeros(size), np.zeros(size, int), np.zeros(MAX_QUERIES))


def window_sizes(session: Session, window_length: float) -> list[int]:
    """Padded numbers of spikes of all windows of a session, and one size more; ascending."""
    edges = np.arange(
        session.domain.starts[0], session.domain.ends[-1] + window_length, window_length
    )
    counts = np.diff(count_before(session.spike_times, edges))
    largest = bisect_left(SPIKE_PLACES, session.max_spikes(window_length))
    sizes = {bisect_left(SPIKE_PLACES, count) for count in counts.tolist()} | {largest, largest + 1}
    return [SPIKE_PLACES[size] for size in sorted(sizes)]
