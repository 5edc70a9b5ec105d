"""Decode the behaviour of a session, and score what was decoded."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.session import Session
from poyo_jax.decoding.predict import make_predict_step, predict_sessions
from poyo_jax.decoding.score import mean_score, score_sessions
from poyo_jax.distributed.mesh import make_mesh, put_params
from poyo_jax.errors import ConfigError
from poyo_jax.pretrained import Pretrained
from poyo_jax.types import Prediction


def decode(
    pretrained: Pretrained, session: Session, split: str = "test", *, overlap: int = 2
) -> Prediction:
    """Decode the samples of one split ("train", "valid", "test", or "all" for the whole session).

    Times of the result are session time in float64 seconds, values are in the units of the session
    file. A sample gets the mean of what `overlap` windows say of it: more take longer and decode a
    little better. More than two reach over the ends of the split, whose neighbours give spikes and
    no labels. Raises VocabError for a session that the model does not know, DataError for a split
    that is missing or empty, and ConfigError for an `overlap` below 1.
    """
    return _decode(pretrained, [session], split, overlap)[0][0]


@dataclass(frozen=True)
class Evaluation:
    """R2 of several sessions.

    A session has NaN when fewer than two of its samples are scored, or when its behaviour does not
    vary. Such sessions do not count in `mean` and `std`.
    """

    r2: dict[str, float]  #: by session id
    predictions: dict[str, Prediction]  #: by session id

    @property
    def mean(self) -> float:
        """Mean over the sessions that have a score; NaN if none has."""
        return mean_score(self.r2.values())

    @property
    def std(self) -> float:
        """Standard deviation over the sessions that have a score, with their number in the
        denominator.
        """
        return math.sqrt(mean_score((value - self.mean) ** 2 for value in self.r2.values()))


def evaluate(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    split: str = "test",
    *,
    overlap: int = 2,
    causal_step: float | None = None,
) -> Evaluation:
    """Decode a split of every session and score the samples inside the readouts' evaluation
    intervals.

    A sample gets the mean of what `overlap` windows say, as in `decode`. With `causal_step` it is
    decoded instead from the spikes before it, and those of at most so many seconds after it: from
    the end of one window. Several processes share the work: all get the R2 of all samples, and each
    the predictions of its own share. Raises VocabError, DataError and ConfigError as `decode` does.
    """
    predictions, sources = _decode(pretrained, sessions, split, overlap, causal_step)
    by_session = {prediction.session_id: prediction for prediction in predictions}
    return Evaluation(score_sessions(predictions, sources), by_session)


def _decode(
    pretrained: Pretrained,
    sessions: Iterable[Session],
    split: str,
    overlap: int,
    causal_step: float | None = None,
) -> tuple[list[Prediction], list[ModelSession]]:
    if overlap < 1:
        raise ConfigError(
            f"overlap is {overlap}, but a sample is decoded from at least one window; give 1 or"
            " more."
        )
    mesh, config = make_mesh(), pretrained.config
    step = make_predict_step(
        pretrained.model, mesh, microbatch_windows=config.run.microbatch_windows
    )
    sources = [pretrained.source(session, session.split(split)) for session in sessions]
    window_length = config.model.window_length
    params = put_params(pretrained.params, mesh)
    predictions = predict_sessions(
        step,
        params,
        sources,
        config.data,
        window_length,
        mesh,
        overlap=overlap,
        causal_step=causal_step,
    )
    return predictions, sources
