"""Decode sessions with sliding windows, average what overlaps, and score it; several processes share the work."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from poyo_jax.config import DataConfig
from poyo_jax.data.pipeline import EvalBatches, prefetch
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.windows import causal_windows, overlapping_windows, sequential_windows
from poyo_jax.metrics import r2_of_sums, r2_sums
from poyo_jax.train.distributed import gather
from poyo_jax.train.mesh import own_part, put_batch
from poyo_jax.types import Batch, Prediction


def predict_sessions(
    predict_step: Callable[[dict, Batch], jax.Array],
    params: dict,
    sources: Sequence[ModelSession],
    config: DataConfig,
    window_length: float,
    mesh: Mesh,
    *,
    overlap: int = 2,
    causal_step: float | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> list[Prediction]:
    """Predictions at every behaviour sample inside the intervals of each session.

    Every moment lies in `overlap` windows (`window_starts`), and a sample gets the mean of what they say, matched by
    its index in the series, not by its time. With `causal_step`, windows follow each other by that instead, and a
    sample is decoded by the one in whose last `causal_step` seconds it lies. With several processes each gets the
    predictions of its own share of the samples: together they are what one process would get.
    """

    if causal_step:
        starts = [causal_windows(source.intervals, window_length, causal_step) for source in sources]
    else:
        starts = [window_starts(source, window_length, overlap) for source in sources]
    shares = _shares(sources, starts, window_length)
    own = EvalBatches(
        sources, [share.starts for share in shares], config, window_length, jax.local_device_count(),
        jax.process_count(),
    )  # fmt: skip
    largest = gather(np.array(own.size)).max(axis=0)  # all processes make as many batches, of one shape
    batches = replace(own, common_size=tuple(largest.tolist()))
    stitchers = [_Stitcher(source, window_length, causal_step) for source in sources]
    with contextlib.closing(prefetch(batches)) as prepared:
        for number, batch in enumerate(prepared):
            values = own_part(predict_step(params, put_batch(batch, mesh)))
            for place, session, start in batches.places(number):
                stitchers[session].add(start, values[place])
            after_batch()
    return [stitcher.finish(share.owned) for stitcher, share in zip(stitchers, shares, strict=True)]


def window_starts(source: ModelSession, window_length: float, overlap: int) -> np.ndarray:
    """Starts in s of the windows of which `overlap` hold every moment of the intervals.

    Up to two stay inside the intervals, as in torch_brain, where moments near the ends lie in fewer; more reach over.
    """
    step = window_length / overlap
    if overlap <= 2:
        return sequential_windows(source.intervals, window_length, step)
    return overlapping_windows(source.intervals, source.session.domain, window_length, step)


class _Share(NamedTuple):
    """What this process has of a session."""

    starts: np.ndarray  # of the windows to decode
    owned: slice  # of the behaviour's samples, of which it decodes all windows


def _shares(sources: Sequence[ModelSession], starts: Sequence[np.ndarray], window_length: float) -> list[_Share]:
    """This process's share of every session's windows: about as many for each process, in one piece.

    Where two processes meet inside a session, a sample belongs to the later one from the first sample of its first
    window on; that one then also decodes the windows before which reach over.
    """
    ends = np.cumsum([len(some) for some in starts])
    process, count = jax.process_index(), jax.process_count()
    low, high = process * ends[-1] // count, (process + 1) * ends[-1] // count
    shares = []
    for source, some, end in zip(sources, starts, ends, strict=True):
        first, last = np.clip(np.array([low, high]) - (end - len(some)), 0, len(some)).tolist()
        behaviour = source.session.behaviour(source.readout.value_key)

        def sample(place: int, some=some, behaviour=behaviour) -> int | None:
            inside = 0 < place < len(some)
            return behaviour.range(some[place], some[place] + window_length)[0] if inside else None

        owned = slice(sample(first), sample(last)) if first < last else slice(0, 0)
        before = int(np.searchsorted(some, some[first] - window_length, "right")) if first < last else first
        shares.append(_Share(some[before:last], owned))
    return shares


class _Stitcher:
    """Sums predictions of one session per sample."""

    def __init__(self, source: ModelSession, window_length: float, causal_step: float | None):
        self._source = source
        self._window_length = window_length
        # Where the samples that a window decodes begin; twice is better than never for one on the edge of two windows.
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
        values = self._sums[samples] / self._counts[samples, None] * np.array(readout.std) + np.array(readout.mean)
        targets = self._behaviour.values(0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(source.session.id, times, values.astype(np.float32), targets, scored)


def score_sessions(predictions: Sequence[Prediction], sources: Sequence[ModelSession]) -> dict[str, float]:
    """R2 of every session, by id, from the scored samples of all processes.

    NaN when fewer than two samples count or a channel does not vary.
    """
    sums = [
        r2_sums(prediction.targets[prediction.scored], prediction.values[prediction.scored], source.readout.mean)
        for prediction, source in zip(predictions, sources, strict=True)
    ]
    totals = gather(np.stack(sums)).sum(axis=0)
    return {source.session.id: r2_of_sums(total) for source, total in zip(sources, totals, strict=True)}


def mean_score(scores: Iterable[float]) -> float:
    """Mean of the scores that are not NaN; NaN if none is left."""
    finite = [value for value in scores if not math.isnan(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan
