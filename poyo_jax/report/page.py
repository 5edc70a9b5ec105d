"""The page: what it holds, and how it becomes one file."""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from poyo_jax import __version__
from poyo_jax.data.given import session_list
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import Evaluation, evaluate_outputs
from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.files import local_path, write_text
from poyo_jax.finetune.fit import FitResult
from poyo_jax.pages import assemble
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.report.decoded import attention, decoded, errors
from poyo_jax.report.embeddings import embeddings
from poyo_jax.report.fitting import fitting
from poyo_jax.report.numbers import Content, evenly, plain
from poyo_jax.report.outputs import outputs
from poyo_jax.report.training import goodput, training
from poyo_jax.tasks.choose import choosing_metric
from poyo_jax.types import Readout, each_readout

MAX_SHOWN = 12  # sessions to look at; of more, some between the best and the worst are chosen


def write_report(
    path: str | Path,
    pretrained: Pretrained,
    sessions: Session | Sequence[Session] = (),
    *,
    workdir: epath.PathLike | None = None,
    evaluation: Evaluation | Mapping[str, Evaluation] | None = None,
    fits: Mapping[str, FitResult] | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "Report of a run",
) -> Path:
    """Write a page that needs nothing else and return its path. What is absent is said on the page.

    Args:
        path: of the HTML file.
        pretrained: the model.
        sessions: recordings, of which those that it knows and that have a test split are decoded.
        workdir: folder of the run, for its training curves and where its time went.
        evaluation: of these sessions, if they have been decoded already; of several outputs, what
            `evaluate_outputs` returns.
        fits: by session id, results of `fit_units(..., keep_snapshots=True)` to look at step by
        step.
        scores: test scores of other methods, by method and session id.
        title: heading of the page.

    Raises:
        MissingDependencyError: without plotly.
        PoyoError: `path` cannot be written.
    """
    pretrained, sessions = check_model(pretrained), session_list(sessions)
    script = _plotly()
    evaluation = evaluation or _evaluate(pretrained, sessions)
    evaluations = evaluation if isinstance(evaluation, Mapping) else {"": evaluation}
    first = next(iter(evaluations.values()))
    content = contents(pretrained, sessions, first, workdir, fits or {}, scores or {})
    content["outputs"] = outputs(evaluations)
    if len(evaluations) > 1:
        content |= _of_several(pretrained, evaluations)
    page = assemble(
        "poyo_jax.report",
        ["page.js"],
        title=escape(title),
        version=escape(__version__),
        content=json.dumps(content, allow_nan=False).replace("</", "<\\/"),
        plotly=script,
    )
    path = local_path(path)
    write_text(path, page)
    return path


def _evaluate(pretrained: Pretrained, sessions: Sequence[Session]) -> Mapping[str, Evaluation]:
    known = testable(pretrained, sessions)
    return evaluate_outputs(pretrained, known) if known else {"": Evaluation({}, {})}


def _of_several(pretrained: Pretrained, evaluations: Mapping[str, Evaluation]) -> Content:
    """What the page says otherwise of a model with several outputs: it shows the first in full."""
    name, evaluation = next(iter(evaluations.items()))
    metric = evaluation.metric
    label = f"{metric.label} of {name}"
    means = {
        f"mean test {each.metric.label} of {output} ± SD": f"{each.mean:.3f} ± {each.std:.3f}"
        for output, each in evaluations.items()
    }
    _, *others = _highlights(pretrained, evaluation).items()
    return {
        "metric": {"label": label, "perfect": plain(metric.perfect), "up": metric.higher_is_better},
        "chosen": choosing_metric(pretrained.config.model).label,
        "highlights": means | dict(others),
    }


def testable(pretrained: Pretrained, sessions: Sequence[Session]) -> list[Session]:
    """The sessions that the model knows and that have a test split."""
    return [
        session for session in sessions if pretrained.knows(session) and session.has_split("test")
    ]


def contents(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    evaluation: Evaluation,
    workdir: epath.PathLike | None,
    fits: Mapping[str, FitResult],
    scores: Mapping[str, Mapping[str, float]],
) -> Content:
    """All numbers of the page; a part that cannot be shown is {"absent": sentence}."""
    scored = [session for session in sessions if session.id in evaluation.predictions]
    shown = _between_best_and_worst(scored, evaluation)
    recordings = {session.id: _recording(pretrained, session, evaluation) for session in shown}
    by_id = {session.id: session for session in sessions}
    return {
        "model": repr(pretrained).removeprefix("Pretrained(").removesuffix(")"),
        "highlights": _highlights(pretrained, evaluation),
        "sessions": (
            [_row(pretrained, session, evaluation) for session in sessions] or _absent_recordings()
        ),
        "metric": _metric(pretrained),
        "training": _part(training, workdir, choosing_metric(pretrained.config.model)),
        "scores": {
            "POYO": _finite(evaluation.scores),
            **{name: _finite(value) for name, value in scores.items()},
        },
        "recordings": recordings or _absent_recordings(),
        "left_out": len(scored) - len(shown),
        "embeddings": _part(embeddings, pretrained, sessions),
        "fits": (
            {name: _part(fitting, by_id[name], fit) for name, fit in fits.items() if name in by_id}
            or {"absent": "No fit of new units was given."}
        ),
        "goodput": _part(goodput, workdir),
    }


def _part(make: Callable[..., Content], *arguments: Any) -> Content:
    """A part of the page, or why it is absent."""
    try:
        return make(*arguments)
    except PoyoError as error:
        return {"absent": str(error)}


def _absent_recordings() -> Content:
    return {
        "absent": (
            "There is no recording that the model knows and that has a test split, so nothing was"
            " decoded."
        )
    }


def _recording(pretrained: Pretrained, session: Session, evaluation: Evaluation) -> Content:
    prediction = evaluation.predictions[session.id]
    value_key = _readout(pretrained, session.id, prediction.output).value_key
    content = _part(decoded, session, prediction, value_key)
    start = float(prediction.times[0]) if len(prediction.times) else 0.0
    content |= {
        "errors": _part(errors, prediction, session.behaviour(value_key).unit),
        "attention": _part(attention, pretrained, session, start),
    }
    return content | {"score": plain(evaluation.scores[session.id])}


def _readout(pretrained: Pretrained, session_id: str, output: str) -> Readout:
    """The readout of an output, or the only one of the session."""
    readouts = each_readout(pretrained.readouts[session_id])
    return next((each for each in readouts if each.name == output), readouts[0])


def _metric(pretrained: Pretrained) -> Content:
    """The words for the score, and its best value where that is a number."""
    metric = choosing_metric(pretrained.config.model)
    return {"label": metric.label, "perfect": plain(metric.perfect), "up": metric.higher_is_better}


def _between_best_and_worst(sessions: Sequence[Session], evaluation: Evaluation) -> list[Session]:
    """At most MAX_SHOWN sessions, the best first."""

    def distance_to_best(session: Session) -> float:
        score = evaluation.scores[session.id]
        return -evaluation.metric.rank(score) if np.isfinite(score) else np.inf

    return evenly(sorted(sessions, key=distance_to_best), MAX_SHOWN)


def _highlights(pretrained: Pretrained, evaluation: Evaluation) -> Content:
    scored = f"{evaluation.mean:.3f} ± {evaluation.std:.3f}" if _finite(evaluation.scores) else "–"
    return {
        f"mean test {evaluation.metric.label} ± SD": scored,
        "sessions known": f"{len(pretrained.sessions):,}",
        "units known": f"{len(pretrained.units):,}",
        "step": f"{pretrained.step:,}",
    }


def _row(pretrained: Pretrained, session: Session, evaluation: Evaluation) -> Content:
    """A line of the table of recordings."""
    scores = evaluation.scores
    seconds, spikes, units = (
        session.domain.duration,
        len(session.spike_times),
        len(session.unit_ids),
    )
    known = pretrained.knows(session)
    is_known = session.id in pretrained.readouts
    readouts = each_readout(pretrained.readouts[session.id]) if is_known else ()
    return {
        "session": session.id,
        f"test {evaluation.metric.label}": (
            plain(scores[session.id]) if session.id in scores else None
        ),
        "subject": session.subject_id or "",
        "units": units,
        "minutes": plain(seconds / 60),
        "mean Hz per unit": plain(spikes / max(seconds, 1e-9) / units),
        "decodes": ", ".join(_quantity(session, readout) for readout in readouts),
        "": "" if session.id in scores else "no test split" if known else "not known to the model",
    }


def _quantity(session: Session, readout: Readout) -> str:
    """The behaviour that is decoded, with its unit where it is known."""
    known = readout.value_key in session.behaviour_keys
    return session.behaviour(readout.value_key).quantity if known else readout.value_key


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: plain(value) for name, value in scores.items() if np.isfinite(value)}  # pyright: ignore


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError(
            f"reports need plotly, which cannot be imported ({error}); run: pip install"
            " poyo_jax[plots]"
        ) from error
    return get_plotlyjs()
