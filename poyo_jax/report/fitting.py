"""Unit identification: embeddings, decoded behaviour and scores at every look of a fit."""

import numpy as np

from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import evaluate
from poyo_jax.errors import DataError
from poyo_jax.finetune.fit import FitResult
from poyo_jax.pca import Plane
from poyo_jax.report.numbers import Content, evenly, packed, packed_columns, plain
from poyo_jax.tasks.choose import choosing_metric

MAX_LOOKS = 20
MAX_SAMPLES = 600  # of the behaviour that is shown
LONG = 10.0  # s without a sample, behind which nothing is shown
MAX_BACKGROUND = 2000  # units that the model knew before


def fitting(session: Session, fit: FitResult) -> Content:
    """The looks of a fit at a session. Raises DataError unless `keep_snapshots` was set."""
    if not fit.steps:
        raise DataError(
            f"The fit of {session.id} kept no snapshots: fit it with keep_snapshots=True."
        )
    steps, model = evenly(fit.steps, MAX_LOOKS), fit.pretrained
    unit_rows = model.units.rows(session.unit_names)
    table = np.asarray(model.params["unit_embedding"])
    others = np.setdiff1d(np.arange(1, len(table)), unit_rows)
    others = others[:: max(1, -(-len(others) // MAX_BACKGROUND))]
    plane = Plane(table[1:])
    models = [fit.at(step) for step in steps]
    evaluations = [evaluate(model, [session]) for model in models]
    predictions = [evaluation.predictions[session.id] for evaluation in evaluations]
    scores = [evaluation.scores[session.id] for evaluation in evaluations]
    first = predictions[0]
    breaks = np.flatnonzero(np.diff(first.times) > LONG) + 1
    shown = slice(0, min([MAX_SAMPLES, *breaks[:1].tolist()]))
    key = choosing_metric(model.config.model).key("valid")
    valid = {int(look["step"]): look[key] for look in fit.history}
    return {
        "steps": steps,
        "valid": [plain(valid[step]) for step in steps],
        "test": [plain(score) for score in scores],
        "background": packed_columns(plane(table[others])),
        "points": [
            packed_columns(plane(np.asarray(model.params["unit_embedding"])[unit_rows]))
            for model in models
        ],
        "times": packed(first.times[shown] - first.times[0]),
        "start": float(first.times[0]),
        "unit": session.behaviour(model.readout(session.id).value_key).unit,
        "targets": packed_columns(first.targets[shown]),
        "values": [packed_columns(prediction.values[shown]) for prediction in predictions],
    }
