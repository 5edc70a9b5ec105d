"""Training curves and use of time, from the files of a run."""

from collections.abc import Sequence
from typing import Any

from etils import epath

from poyo_jax.errors import DataError
from poyo_jax.files import run_path
from poyo_jax.report.numbers import Content, plain
from poyo_jax.tasks import Metric
from poyo_jax.train.reliability.goodput import read_goodput
from poyo_jax.train.writers import read_metrics

MAX_POINTS = 2000  # of a curve
MAX_CURVES = 40  # sessions with a curve of their own


def training(workdir: epath.PathLike | None, metric: Metric) -> Content:
    """Loss, learning rate and validation score by step. Raises DataError without a history."""
    key = metric.key("valid")
    history = read_metrics(workdir) if workdir is not None else []
    if not history:
        raise DataError(
            "There is no training history: the model comes without a metrics.jsonl, or nothing in"
            " it can be read."
        )
    steps = [line for line in history if "loss" in line]
    evaluations = [line for line in history if key in line]
    sessions = sorted({name for line in evaluations for name in line.get(f"{key}_by_session", {})})
    sessions = sessions[:MAX_CURVES]
    return {
        "loss": _curve(steps, "loss"),
        "learning_rate": _curve(steps, "learning_rate"),
        "valid": _curve(evaluations, key),
        "sessions": {
            name: _curve(
                [
                    {"step": line["step"], **line.get(f"{key}_by_session", {})}
                    for line in evaluations
                ],
                name,
            )
            for name in sessions
        },
        "note": _damage(workdir, len(history)),
    }


def goodput(workdir: epath.PathLike | None) -> Content:
    """Seconds by activity, over all starts of the run.

    Raises DataError when the run has no such record.
    """
    seconds = read_goodput(workdir) if workdir is not None else {}
    if not seconds:
        raise DataError("Nobody noted where the time went: there is no goodput.jsonl.")
    share = seconds.pop("goodput")
    return {
        "share": plain(share),
        "seconds": {name: plain(value) for name, value in seconds.items() if value > 0},
    }


def _curve(lines: Sequence[dict[str, Any]], name: str) -> Content:
    lines = [line for line in lines if name in line]
    lines = [*lines[:: max(1, len(lines) // MAX_POINTS)], *lines[-1:]]
    return {
        "steps": [line["step"] for line in lines],
        "values": [plain(line[name]) for line in lines],
    }


def _damage(workdir: Any, read: int) -> str:
    """Sentence about a file that could be read only in part; a crash may cut its last line."""
    lost = len((run_path(workdir) / "metrics.jsonl").read_bytes().splitlines()) - read
    return "" if lost <= 1 else f"{lost} lines of metrics.jsonl are damaged and left out."
