"""Score predictions session by session, over all processes."""

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.distributed.processes import gather
from poyo_jax.errors import DataError
from poyo_jax.types import Prediction

logger = logging.getLogger(__name__)


def score_sessions(
    predictions: Sequence[Prediction], sources: Sequence[ModelSession]
) -> dict[str, float]:
    """Return the score of every session by id, in the metric of its task.

    It counts the scored samples of all processes. It is NaN where the metric is not defined: for
    R2, with fewer than two samples or without a channel that varies. Raises DataError when a
    decoded value is not finite.
    """
    check_finite(predictions)
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


def check_finite(predictions: Sequence[Prediction]) -> None:
    """Raise DataError, in all processes, if a decoded value of one of them is not finite."""
    broken = []
    for prediction in predictions:
        broken.append(int(np.size(prediction.values) - np.isfinite(prediction.values).sum()))
    totals = gather(np.array(broken, np.int64)).sum(axis=0)
    for prediction, total in zip(predictions, totals.tolist(), strict=True):
        if total:
            raise DataError(
                f"the model decodes {total} values of session {prediction.session_id} that are not"
                " finite: its parameters are damaged, or its training diverged. Load another"
                " checkpoint, or train with a lower learning rate."
            )


def warn_without_score(score: float, name: str) -> None:
    """Say in the log that there is no validation score, so that nothing is chosen by it."""
    if math.isnan(score):
        logger.warning(
            "no session has a %s: its valid split has fewer than two measured samples, or none of"
            " its channels varies there. The last parameters are kept; give other valid splits to"
            " keep the best",
            name,
        )


def mean_score(scores: Iterable[float]) -> float:
    """Mean of the scores that are not NaN; NaN if none is left."""
    finite = [value for value in scores if not math.isnan(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan
