"""Decode the behaviour of sessions, and score it: `decode` and `evaluate`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.given import check_length, one_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.decoding.calibration import Calibration, coverage
from poyo_jax.decoding.predict import check_windows, make_predict_step, predict_sessions
from poyo_jax.decoding.score import check_finite, mean_score, score_outputs
from poyo_jax.decoding.stitch import Stitch, choose_weights
from poyo_jax.distributed.mesh import make_mesh, put_params
from poyo_jax.errors import DataError, suggest
from poyo_jax.model.hardware import choose_microbatch, hardware_of
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.tasks import R2, Metric
from poyo_jax.types import Prediction

Result = TypeVar("Result")


def decode(
    pretrained: Pretrained,
    session: Session,
    split: str = "test",
    *,
    overlap: int = 2,
    stitch: Stitch = "taper",
    causal_step: float | None = None,
    output: str | None = None,
) -> Prediction:
    """Decode one output of a session, in one of its splits.

    Args:
        pretrained: the model; it knows the session. The members of an ensemble decode in one
            vectorised program, and their predictions are averaged (for classes, their
            probabilities). Where members differ, a learned standard deviation becomes larger.
        session: the recording.
        split: "train", "valid", "test", or "all" for the whole session.
        overlap: number of windows that decode a sample; their outputs are averaged. More windows
            take longer and decode a little better. More than two reach over the ends of the split,
            whose neighbours give spikes and no labels.
        stitch: weights of that average. "taper": they fall over the last quarter at either end of
            a window, where the model knows only one side of a sample, and the trace does not jump
            where a window ends. "mean": equal ones, as in torch_brain.
        causal_step: decode a sample from one window instead, in whose last `causal_step` s it lies:
            from the spikes before it, and those of at most `causal_step` s after it. Then
            `overlap` and `stitch` do not count.
        output: name of the output; None takes the only one of the session. `decode_outputs` decodes
            all of them at once.

    Returns:
        The values [samples, channels] in the units of the session file, at session times in s. In
        a job of several processes each process returns its share of the samples.

    Raises:
        VocabError: the model does not know the session.
        DataError: the session has several outputs and none is named, or not this one; the split is
        missing or empty, the recording is shorter than a window, or a decoded value is not finite.
        ConfigError: `overlap` is no integer from 1 on, `stitch` has another name, or `causal_step`
        does not lie between 0 and the length of a window.
    """
    predictions = decode_outputs(
        pretrained, session, split, overlap=overlap, stitch=stitch, causal_step=causal_step
    )
    return one_of(predictions, output, "decode_outputs")


def decode_outputs(
    pretrained: Pretrained,
    session: Session,
    split: str = "test",
    *,
    overlap: int = 2,
    stitch: Stitch = "taper",
    causal_step: float | None = None,
) -> dict[str, Prediction]:
    """Decode all outputs of a session, each at its own times; by name of the output.

    Arguments and errors are those of `decode`.
    """
    sessions = [one_session(session)]
    [predictions], _ = _decode(pretrained, sessions, split, overlap, stitch, causal_step)
    check_finite(predictions)
    return {prediction.output: prediction for prediction in predictions}


def one_of(results: Mapping[str, Result], output: str | None, of_all: str) -> Result:
    """The result of the named output, or the only one. Raises DataError if there is none."""
    if output is None and len(results) == 1:
        return next(iter(results.values()))
    names = ", ".join(map(repr, results))
    if output is None:
        raise DataError(
            f"there are several outputs: {names}. Name one with output=..., or call {of_all}."
        )
    if output not in results:
        its = "output is" if len(results) == 1 else "outputs are"
        raise DataError(
            f"the model has no output {output!r}; its {its} {names}.{suggest(output, results)}"
        )
    return results[output]


@dataclass(frozen=True)
class Evaluation:
    """Scores of several sessions for one output, in the metric of its task.

    R2 is the mean over the channels that vary. The score of a session is NaN where the metric is
    not defined: for R2, when fewer than two samples are scored, or no channel varies. Such sessions
    do not count in `mean` and `std`.
    """

    scores: dict[str, float]  #: by session id
    predictions: dict[str, Prediction]  #: by session id
    metric: Metric = R2  #: of the scores
    other_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores in other metrics of the task, such as "balanced_accuracy": by metric and session."""
    calibration: Calibration | None = None
    """What the model claims about its errors, and what is so; None if it claims nothing."""

    @property
    def r2(self) -> dict[str, float]:
        """The scores by session id, if they are R2. Raises DataError for another metric."""
        if self.metric.name != R2.name:
            raise DataError(
                f"the sessions are scored by {self.metric.label}, not by R2; read"
                " `evaluation.scores`."
            )
        return self.scores

    @property
    def mean(self) -> float:
        """Mean over the sessions that have a score; NaN if none has."""
        return mean_score(self.scores.values())

    @property
    def std(self) -> float:
        """Standard deviation over the sessions that have a score; divided by their number."""
        squares = [(value - self.mean) ** 2 for value in self.scores.values()]
        return math.sqrt(mean_score(squares))


def evaluate(
    pretrained: Pretrained,
    sessions: Session | Sequence[Session],
    split: str = "test",
    *,
    overlap: int = 2,
    stitch: Stitch = "taper",
    causal_step: float | None = None,
    output: str | None = None,
) -> Evaluation:
    """Decode a split of every session as `decode` does, and score it by the metric of the task.

    Only samples inside the evaluation interval of a session's readout count. Several processes
    share the work: all get the scores of all samples, and each the predictions of its own share.
    Raises VocabError, DataError and ConfigError as `decode` does.
    """
    evaluations = evaluate_outputs(
        pretrained, sessions, split, overlap=overlap, stitch=stitch, causal_step=causal_step
    )
    return one_of(evaluations, output, "evaluate_outputs")


def evaluate_outputs(
    pretrained: Pretrained,
    sessions: Session | Sequence[Session],
    split: str = "test",
    *,
    overlap: int = 2,
    stitch: Stitch = "taper",
    causal_step: float | None = None,
) -> dict[str, Evaluation]:
    """Evaluate every output that a session has; by name of the output.

    Each has the scores of the sessions that have it, in the metric of its task. Arguments are those
    of `evaluate`. Raises VocabError, DataError and ConfigError as `decode` does.
    """
    sessions = session_list(sessions)
    if not sessions:
        raise DataError("there are no sessions to evaluate. Give at least one.")
    predictions, sources = _decode(pretrained, sessions, split, overlap, stitch, causal_step)
    scores = score_outputs(predictions, sources)
    decoded: dict[str, dict[str, Prediction]] = {}
    for of_session in predictions:
        for prediction in of_session:
            decoded.setdefault(prediction.output, {})[prediction.session_id] = prediction
    evaluations = {}
    for name, by_session in decoded.items():
        first, *others = [each for each in scores if each.output == name]
        other_scores = {each.metric.name: each.by_session for each in others}
        claims = coverage(list(by_session.values()))
        evaluations[name] = Evaluation(
            first.by_session, by_session, first.metric, other_scores, claims
        )
    return evaluations


def _decode(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    split: str,
    overlap: int,
    stitch: Stitch,
    causal_step: float | None,
) -> tuple[list[list[Prediction]], list[ModelSession]]:
    config, mesh = check_model(pretrained, ensemble=True).config, make_mesh()
    window_length = config.model.window_length
    for session in sessions:
        check_length(session, window_length)
    check_windows(overlap, causal_step, window_length)
    weigh = choose_weights(stitch)
    micro = choose_microbatch(config.model, config.run, hardware_of(mesh))
    step = make_predict_step(pretrained.model, mesh, microbatch_windows=micro)
    sources = [pretrained.source(session, session.split(split)) for session in sessions]
    predictions = predict_sessions(
        step,
        put_params(pretrained.params, mesh),
        sources,
        config.data,
        window_length,
        mesh,
        overlap=overlap,
        causal_step=causal_step,
        weigh=weigh,
    )
    return predictions, sources
