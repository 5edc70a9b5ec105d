"""Decode the behaviour of a session, and score what was decoded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from poyo_jax.data.session import Session
from poyo_jax.pretrained import Pretrained
from poyo_jax.train.evaluate import predict_sessions
from poyo_jax.train.mesh import make_mesh
from poyo_jax.train.steps import make_predict_step
from poyo_jax.types import Prediction


def decode(pretrained: Pretrained, session: Session, split: str = "test") -> Prediction:
    """Decode the samples of one split ("train", "valid", "test", or "all" for the whole session).

    Times of the result are session time in float64 seconds, values are in the units of the session file. Raises
    VocabError for a session that the model does not know, and DataError for a split that is missing or empty.
    """
    return _decode(pretrained, [session], split)[0]


@dataclass(frozen=True)
class Evaluation:
    """R2 of several sessions: `mean` and `std` (over sessions, n in the denominator) of `r2`."""

    r2: dict[str, float]  # by session id
    predictions: dict[str, Prediction]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.r2.values())))

    @property
    def std(self) -> float:
        return float(np.std(list(self.r2.values())))


def evaluate(pretrained: Pretrained, sessions: Sequence[Session], split: str = "test") -> Evaluation:
    """Decode a split of every session and score the samples inside the readouts' evaluation intervals."""
    predictions = {prediction.session_id: prediction for prediction in _decode(pretrained, sessions, split)}
    return Evaluation({name: prediction.r2 for name, prediction in predictions.items()}, predictions)


def _decode(pretrained: Pretrained, sessions: Iterable[Session], split: str) -> list[Prediction]:
    mesh, config = make_mesh(), pretrained.config
    step = make_predict_step(pretrained.model, mesh, microbatch_windows=config.run.microbatch_windows)
    sources = [pretrained.source(session, session.split(split)) for session in sessions]
    return predict_sessions(step, pretrained.params, sources, config.data, config.model.window_length, mesh)
