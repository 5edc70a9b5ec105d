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
    """R2 of a split, session by session, and its mean."""
    width = max(len(name) for name in evaluation.r2)
    lines = [f"{name:{width}}  {split} R2 {r2:6.3f}" for name, r2 in evaluation.r2.items()]
    mean = f"{'mean ± SD':{width}}  {split} R2 {evaluation.mean:6.3f} ± {evaluation.std:.3f}"
    return "\n".join([*lines, mean])
