"""Score predictions session by session and output by output, over all processes."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poyo_jax.config import ModelConfig
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.distributed.processes import gather
from poyo_jax.errors import DataError
from poyo_jax.tasks import SHORTFALL, Metric
from poyo_jax.types import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputScores:
    """Scores of one output of a model in one metric."""

    metric: Metric
    output: str  # its name
    is_only: bool  # whether it is the only output of the model
    by_session: dict[str, float]  # for the sessions that have the output

    def key(self, split: str) -> str:
        """Key in files, such as "valid_r2" or "valid_direction_accuracy"."""
        return self.metric.key(split if self.is_only else f"{split}_{self.output}")

    @property
    def mean(self) -> float:
        """Mean over the sessions that have a score; NaN if none has."""
        return mean_score(self.by_session.values())


def score_outputs(
    predictions: Sequence[Sequence[Prediction]], sources: Sequence[ModelSession]
) -> list[OutputScores]:
    """Return the scores of every output that a session has, in each metric of its task.

    The first metric of an output is that by which models are chosen. Scores count the scored
    samples of all processes. They are NaN where the metric is not defined: for R2, with fewer than
    two samples or without a channel that varies. Raises DataError when a decoded value is not
    finite.
    """
    check_finite([prediction for of_session in predictions for prediction in of_session])
    scores = []
    outputs = sources[0].model.all_outputs
    for number, output in enumerate(outputs):
        having = _having(number, predictions, sources)
        for metric in _metrics(having):
            of_sessions = _score(metric, having)
            scores.append(OutputScores(metric, output.name, len(outputs) == 1, of_sessions))
    return scores


def _having(number: int, predictions, sources) -> list[tuple]:
    """(output of a session, prediction) of the sessions that have the output of this number."""
    pairs = []
    for source, of_session in zip(sources, predictions, strict=True):
        for output, prediction in zip(source.outputs, of_session, strict=True):
            if output.number == number:
                pairs.append((output, prediction))
    return pairs


def _metrics(having: list[tuple]) -> list[Metric]:
    if not having:
        return []
    task = having[0][0].task
    return [task.metric, *task.other_metrics]


def _score(metric: Metric, having: list[tuple]) -> dict[str, float]:
    sums = []
    for output, prediction in having:
        scored = prediction.scored
        targets, values = prediction.targets[scored], prediction.values[scored]
        sums.append(metric.sums(targets, values, output.readout))
    totals = gather(np.stack(sums)).sum(axis=0)
    scores = {}
    for (_, prediction), total in zip(having, totals, strict=True):
        scores[prediction.session_id] = metric.score(total)
    return scores


def mean_scores(
    scores: Sequence[OutputScores], model: ModelConfig, split: str = "valid"
) -> dict[str, float]:
    """Return the mean over sessions of every score by its key.

    With several outputs there is also the mean shortfall of their first metrics, by which models
    are chosen: NaN if one of them has no score.
    """
    means = {each.key(split): each.mean for each in scores}
    if len(model.all_outputs) > 1:
        firsts = {each.output: each for each in reversed(scores)}
        shortfalls = [each.metric.shortfall(each.mean) for each in firsts.values()]
        means[SHORTFALL.key(split)] = float(np.mean(shortfalls)) if shortfalls else math.nan
    return means


def scores_by_session(
    scores: Sequence[OutputScores], split: str = "valid"
) -> dict[str, Mapping[str, float]]:
    """Return the scores of all sessions by the key of the score and "_by_session"."""
    return {f"{each.key(split)}_by_session": each.by_session for each in scores}


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
