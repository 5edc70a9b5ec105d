"""Score predictions session by session, over all processes."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.distributed.processes import gather
from poyo_jax.types import Prediction


def score_sessions(
    predictions: Sequence[Prediction], sources: Sequence[ModelSession]
) -> dict[str, float]:
    """Return the score of every session by id, in the metric of its task.

    It counts the scored samples of all processes. It is NaN where the metric is not defined: for
    R2, with fewer than two samples or a channel that does not vary.
    """
    sums = []
    for prediction, source in zip(predictions, sources, strict=True):
        scored = prediction.scored
        targets, values = prediction.targets[scored], prediction.values[scored]
        sums.append(source.task.metric.sums(targets, values, source.readout))
    totals = gather(np.stack(sums)).sum(axis=0)
    scores = {}
    for source, total in zip(sources, totals, strict=True):
        scores[source.session.id] = source.task.metric.score(total)
    return scores


def mean_score(scores: Iterable[float]) -> float:
    """Mean of the scores that are not NaN; NaN if none is left."""
    finite = [value for value in scores if not math.isnan(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan
