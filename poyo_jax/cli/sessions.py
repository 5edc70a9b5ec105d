"""Sessions that a command line names, and lines with their scores."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poyo_jax.data.session import Session
    from poyo_jax.decoding.offline import Evaluation


def sessions_at(path: Path) -> list["Session"]:
    """Open the session in a file, or all sessions in a folder."""
    from poyo_jax import Session, open_sessions

    return [Session.open(path)] if path.is_file() else open_sessions(path)


def count_line(sessions: list["Session"]) -> str:
    """Number of sessions and of their units."""
    num_units = sum(len(session.unit_ids) for session in sessions)
    return f"{len(sessions)} sessions, {num_units} units"


def with_split(sessions: list["Session"], split: str) -> list["Session"]:
    """The sessions whose split is not empty."""
    return [session for session in sessions if session.has_split(split)]


def score_lines(evaluation: "Evaluation", split: str) -> str:
    """Score of a split, session by session, and the mean."""
    metric = f"{split} {evaluation.metric.text}"
    width = max(len(name) for name in evaluation.scores)
    lines = [f"{name:{width}}  {metric} {score:6.3f}" for name, score in evaluation.scores.items()]
    mean = f"{'mean ± SD':{width}}  {metric} {evaluation.mean:6.3f} ± {evaluation.std:.3f}"
    return "\n".join([*lines, mean])
