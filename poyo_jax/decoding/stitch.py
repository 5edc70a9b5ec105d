"""Average the outputs of overlapping windows, sample by sample."""

import numpy as np

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.types import Prediction

EDGE = 1e-9  # s; a sample on the edge between two causal windows is decoded by both, not by none


class Stitcher:
    """Sums of the outputs of one session, by sample."""

    def __init__(self, source: ModelSession, window_length: float, causal_step: float | None):
        self._source = source
        self._window_length = window_length
        # A window decodes the samples from here on, in s from its start.
        self._decoded_from = 0.0 if causal_step is None else window_length - causal_step - EDGE
        self._behaviour = source.session.behaviour(source.readout.value_key)
        num_outputs = source.task.output_size(self._behaviour.num_channels)
        self._sums = np.zeros((self._behaviour.count, num_outputs))
        self._counts = np.zeros(self._behaviour.count, np.int64)

    def add(self, start: float, outputs: np.ndarray) -> None:
        """Add the outputs [queries, outputs] of the window that starts at `start` s."""
        end = start + self._window_length
        first, last = self._behaviour.range(start, end)
        begin, _ = self._behaviour.range(start + self._decoded_from, end)
        self._sums[begin:last] += outputs[begin - first : last - first]
        self._counts[begin:last] += 1

    def finish(self, owned: slice) -> Prediction:
        """Return the prediction of the decoded samples among those of this process, `owned`."""
        source, readout = self._source, self._source.readout
        samples = np.arange(len(self._counts))[owned]
        samples = samples[self._counts[samples] > 0]
        times = self._behaviour.times_at(samples)
        inside = source.intervals.contains(times)
        samples, times = samples[inside], times[inside]

        outputs = self._sums[samples] / self._counts[samples, None]
        values = source.task.predict(outputs, readout)
        targets = self._behaviour.values(0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(source.session.id, times, values, targets, scored)
