"""What each output of a model reaches, for the report: classes, error bars, counts."""

from collections.abc import Mapping

import numpy as np

from poyo_jax.decoding.calibration import CALIBRATED, Calibration, width_of
from poyo_jax.decoding.offline import Evaluation
from poyo_jax.decoding.score import mean_score
from poyo_jax.report.numbers import Content, packed, plain
from poyo_jax.tasks.classes import count_pairs
from poyo_jax.types import Prediction

SECONDS, MOST = 10.0, 1000  # of an excerpt


def outputs(evaluations: Mapping[str, Evaluation]) -> Content | None:
    """Scores, confusion matrix, calibration and an excerpt of every output, by name.

    None for the only output of a model that decodes continuous values alone: the rest of the page
    is about it.
    """
    shown = {name: each for name, each in evaluations.items() if each.predictions}
    only = next(iter(shown.values())) if len(shown) == 1 else None
    is_plain = only is not None and only.calibration is None and _kind(only) == "continuous"
    if not shown or is_plain:
        return None
    return {name: _output(evaluation) for name, evaluation in shown.items()}


def _kind(evaluation: Evaluation) -> str:
    return next(iter(evaluation.predictions.values())).kind


def _output(evaluation: Evaluation) -> Content:
    first = next(iter(evaluation.predictions.values()))
    others = {
        name.replace("_", " "): plain(mean_score(scores.values()))
        for name, scores in evaluation.other_scores.items()
    }
    return {
        "label": evaluation.metric.label,
        "mean": plain(evaluation.mean),
        "std": plain(evaluation.std),
        "others": others,
        "sessions": len(evaluation.predictions),
        "kind": first.kind,
        "confusion": _confusion(evaluation) if first.classes else None,
        "claims": _claims(evaluation.calibration),
        "excerpt": _excerpt(first),
    }


def _confusion(evaluation: Evaluation) -> Content:
    """Shares of the samples of each measured class (rows) by the decoded one (columns)."""
    classes = next(iter(evaluation.predictions.values())).classes
    counts = np.zeros((len(classes), len(classes)))
    for prediction in evaluation.predictions.values():
        scored = prediction.scored
        targets, values = prediction.targets[scored], prediction.values[scored]
        counts += count_pairs(targets, values, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {"classes": list(classes), "shares": [list(map(plain, row)) for row in shares.tolist()]}


def _claims(calibration: Calibration | None) -> Content | None:
    if calibration is None or not len(calibration.weights):
        return None
    return {
        "claimed": packed(calibration.claimed),
        "observed": packed(calibration.observed),
        "error": plain(calibration.error),
        "coverage": {f"{level:.0%}": plain(share) for level, share in calibration.coverage.items()},
    }


def _excerpt(prediction: Prediction) -> Content | None:
    """The first channel in the first seconds of a session, with the band that holds 80 %."""
    if not len(prediction.times):
        return None
    times = prediction.times - prediction.times[0]
    last = min(int(np.searchsorted(times, SECONDS)), MOST)
    values = prediction.values[:last, 0]
    content = {
        "session": prediction.session_id,
        "quantity": prediction.quantity,
        "channels": prediction.values.shape[1],
        "start": plain(float(prediction.times[0])),
        "times": packed(times[:last]),
        "values": packed(values),
        "targets": packed(prediction.targets[:last, 0]),
        "classes": list(prediction.classes),
    }
    if prediction.std is not None:
        half = width_of(CALIBRATED) * prediction.std[:last, 0]
        content |= {"low": packed(values - half), "high": packed(values + half)}
    return content
