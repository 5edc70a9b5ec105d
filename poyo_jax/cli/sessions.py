"""Sessions that a command line names, and lines with their scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from poyo_jax.errors import DataError, suggest
from poyo_jax.words import counted

if TYPE_CHECKING:
    from poyo_jax.data.session import Session
    from poyo_jax.decoding.offline import Evaluation


def sessions_at(path: Path) -> list["Session"]:
    """Open the session in a file, or all sessions in a folder."""
    from poyo_jax import open_sessions

    if path.is_dir():
        return open_sessions(path)
    if path.exists() or path.suffix:
        return [session_at(path)]
    raise DataError(f"there is neither a session file nor a folder {path}. Correct the path.")


def session_at(path: Path) -> "Session":
    """Open the session in a file. Raises DataError when there is no such file."""
    from poyo_jax import Session

    if path.exists():
        return Session.open(path)
    beside = [other.name for other in path.parent.glob("*.h5")]
    raise DataError(
        f"there is no session file {path}.{suggest(path.name, beside)} Correct the path, or give a"
        " folder of session files."
    )


def count_line(sessions: list["Session"]) -> str:
    """Number of sessions and of their units."""
    num_units = sum(len(session.unit_ids) for session in sessions)
    return f"{counted(len(sessions), 'session')}, {counted(num_units, 'unit')}"


def with_split(sessions: list["Session"], split: str) -> list["Session"]:
    """The sessions whose split is not empty."""
    return [session for session in sessions if session.has_split(split)]


def outputs_lines(evaluations: Mapping[str, "Evaluation"], split: str) -> str:
    """Scores, calibration and quantity of every output; several stand below their names."""
    lines = []
    for name, evaluation in evaluations.items():
        parts = (score_lines(evaluation, split), _claims(evaluation), _decoded(evaluation))
        own = [line for part in parts for line in part.splitlines()]
        lines += own if len(evaluations) == 1 else [name, *(f"  {line}" for line in own)]
    return "\n".join(lines)


def _decoded(evaluation: "Evaluation") -> str:
    """A line with the behaviour that is decoded and its unit, if one is known."""
    found = [prediction.quantity for prediction in evaluation.predictions.values()]
    known = [quantity for quantity in dict.fromkeys(found) if quantity]
    return f"decoded: {', '.join(known)}" if known else ""


def _claims(evaluation: "Evaluation") -> str:
    """A line with the coverage of a learned spread, or with the calibration error of classes."""
    claims = evaluation.calibration
    if claims is None or not len(claims.weights):
        return ""
    shares = [f"{level:.0%}: {share:.1%}" for level, share in claims.coverage.items()]
    inside = f"inside the intervals of {', '.join(shares)}; " if shares else ""
    return f"{inside}expected calibration error {claims.error:.3f}"


def score_lines(evaluation: "Evaluation", split: str) -> str:
    """Score of a split, session by session, and the mean."""
    metric = f"{split} {evaluation.metric.text}"
    width = max(len(name) for name in evaluation.scores)
    lines = [f"{name:{width}}  {metric} {score:6.3f}" for name, score in evaluation.scores.items()]
    mean = f"{'mean ± SD':{width}}  {metric} {evaluation.mean:6.3f} ± {evaluation.std:.3f}"
    return "\n".join([*lines, mean])
