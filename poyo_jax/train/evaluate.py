"""Decode sessions with sliding windows and average what overlaps."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from poyo_jax.config import DataConfig
from poyo_jax.data.pipeline import EvalBatches, prefetch
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.windows import sequential_windows
from poyo_jax.train.mesh import put_batch
from poyo_jax.types import Batch, Prediction


def predict_sessions(
    predict_step: Callable[[dict, Batch], jax.Array],
    params: dict,
    sources: Sequence[ModelSession],
    config: DataConfig,
    window_length: float,
    mesh: Mesh,
) -> list[Prediction]:
    """Predictions at every behaviour sample inside the intervals of each session.

    Windows follow each other by half their length; a sample seen by several gets the mean of what they say, matched by
    its index in the series, not by its time.
    """
    starts = [sequential_windows(source.intervals, window_length, window_length / 2) for source in sources]
    batches = EvalBatches(sources, starts, config, window_length, num_shards=jax.local_device_count())
    stitchers = [_Stitcher(source, window_length) for source in sources]
    with contextlib.closing(prefetch(batches)) as prepared:
        for number, batch in enumerate(prepared):
            values = np.asarray(predict_step(params, put_batch(batch, mesh)))
            for place, session, start in batches.places(number):
                stitchers[session].add(start, values[place])
    return [stitcher.finish() for stitcher in stitchers]


class _Stitcher:
    """Sums predictions of one session per sample."""

    def __init__(self, source: ModelSession, window_length: float):
        self._source = source
        self._window_length = window_length
        self._behaviour = source.session.behaviour(source.readout.value_key)
        self._sums = np.zeros((self._behaviour.count, len(source.readout.mean)))
        self._counts = np.zeros(self._behaviour.count, np.int64)

    def add(self, start: float, values: np.ndarray) -> None:
        first, last = self._behaviour.range(start, start + self._window_length)
        self._sums[first:last] += values[: last - first]
        self._counts[first:last] += 1

    def finish(self) -> Prediction:
        source, readout = self._source, self._source.readout
        samples = np.flatnonzero(self._counts)
        times = self._behaviour.times_at(samples)
        inside = source.intervals.contains(times)
        samples, times = samples[inside], times[inside]
        values = self._sums[samples] / self._counts[samples, None] * np.array(readout.std) + np.array(readout.mean)
        targets = self._behaviour.values(0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(source.session.id, times, values.astype(np.float32), targets, scored)


def score(prediction: Prediction) -> float:
    """R2 of a prediction, or NaN when fewer than two samples count or a channel does not vary."""
    return prediction.r2 if prediction.scored.sum() > 1 else math.nan


def mean_score(scores: Iterable[float]) -> float:
    """Mean of the scores that are not NaN; NaN if none is left."""
    finite = [value for value in scores if not math.isnan(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan
