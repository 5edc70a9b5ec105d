"""Put the predictions of windows together, sample by sample."""

import numpy as np

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.types import Prediction


class Stitcher:
    """Sums predictions of one session per sample."""

    def __init__(self, source: ModelSession, window_length: float, causal_step: float | None):
        self._source = source
        self._window_length = window_length
        # Where the samples that a window decodes begin; twice is better than never for one on the
        # edge of two windows.
        self._skipped = window_length - causal_step - 1e-9 if causal_step else 0.0
        self._behaviour = source.session.behaviour(source.readout.value_key)
        self._sums = np.zeros((self._behaviour.count, len(source.readout.mean)))
        self._counts = np.zeros(self._behaviour.count, np.int64)

    def add(self, start: float, values: np.ndarray) -> None:
        first, last = self._behaviour.range(start, start + self._window_length)
        begin = self._behaviour.range(start + self._skipped, start + self._window_length)[0]
        self._sums[begin:last] += values[begin - first : last - first]
        self._counts[begin:last] += 1

    def finish(self, owned: slice) -> Prediction:
        source, readout = self._source, self._source.readout
        samples = np.arange(len(self._counts))[owned]
        samples = samples[self._counts[samples] > 0]
        times = self._behaviour.times_at(samples)
        inside = source.intervals.contains(times)
        samples, times = samples[inside], times[inside]
        values = self._sums[samples] / self._counts[samples, None] * np.array(
            readout.std
        ) + np.array(readout.mean)
        targets = self._behaviour.values(0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(source.session.id, times, values.astype(np.float32), targets, scored)
