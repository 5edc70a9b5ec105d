"""Learn the tuning map of a model, from which the rows of new units start."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from poyo_jax.data.given import session_list
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.tuning import TuningMap, tuning_features


def learn_tuning(pretrained: Pretrained, sessions: Session | Sequence[Session]) -> Pretrained:
    """The model with `tuning_map`: `fit_units` then starts from it, and `save` keeps it."""
    return replace(check_model(pretrained), tuning=tuning_map(pretrained, sessions))


def tuning_map(pretrained: Pretrained, sessions: Session | Sequence[Session]) -> TuningMap:
    """Learn the map from the tuning of units to their rows, on the train splits of known sessions.

    Raises VocabError for a session that the model does not know, and DataError when there are none.
    """
    pretrained, sessions = check_model(pretrained), session_list(sessions)
    if not sessions:
        raise DataError(
            "there are no sessions to learn the tuning of units from. Give those of pretraining."
        )
    table = np.asarray(pretrained.params["unit_embedding"])
    features, rows = [], []
    for session in sessions:
        source = pretrained.source(session, session.split("train"))
        if source.tuned is not None:
            features.append(tuning_features(source.session, source.tuned, source.intervals))
            rows.append(table[source.unit_rows])
    if not features:
        raise DataError(
            "none of the sessions has the first output of the model, to which units are tuned. Give"
            " one that has it."
        )
    return TuningMap.fit(features, rows)
