"""Writers of a run's metrics: JSON lines, TensorBoard, and those that a user gives."""

import contextlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from etils import epath
from tensorboardX import SummaryWriter

from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.files import append_text, in_bucket, run_path, writable, write_text

logger = logging.getLogger(__name__)

Values = Mapping[str, float | Mapping[str, float]]


@runtime_checkable
class Writer(Protocol):
    """Anything that takes the metrics of a run."""

    def write(self, step: int, values: Values) -> None:
        """Take numbers, or dictionaries of numbers, by name, after `step` steps."""

    def close(self) -> None:
        """Finish; called once, at the end or after `write` has raised."""


class JsonLines:
    """Appends a line to `metrics.jsonl` in a work directory for every step that is logged.

    At the first one, lines after the newest checkpoint are dropped, since the run has made their
    steps again. A number that is not finite becomes null. Raises PoyoError when the disk is full or
    may not be written.
    """

    def __init__(self, workdir: epath.PathLike):
        self._workdir = run_path(workdir)
        self._path, self._started = self._workdir / "metrics.jsonl", False

    def write(self, step: int, values: Values) -> None:
        """Append a line."""
        if not self._started:
            self._drop_lost_lines()
        append_text(self._path, _to_json({"step": step, **values}))

    def _drop_lost_lines(self) -> None:
        newest = _newest_step(self._workdir)
        lines = [line for line in read_metrics(self._workdir) if line["step"] <= newest]
        write_text(self._path, "".join(map(_to_json, lines)))
        self._started = True

    def close(self) -> None:
        """Do nothing: every line is on disk already."""


class TensorBoard:
    """Writes TensorBoard scalars to `tb/` in a work directory, but not in a bucket.

    A dictionary becomes one scalar per entry. A number that is not finite is left out. Raises
    PoyoError when the disk is full or may not be written.
    """

    def __init__(self, workdir: epath.PathLike):
        self._workdir = run_path(workdir)
        self._board: SummaryWriter | None = None

    def write(self, step: int, values: Values) -> None:
        """Add a point for every number."""
        if in_bucket(self._workdir):
            return
        with writable(self._workdir / "tb"):
            if self._board is None:
                lost = _newest_step(self._workdir) + 1
                self._board = SummaryWriter(str(self._workdir / "tb"), purge_step=lost)
            for name, number in _flat(values).items():
                if math.isfinite(number):
                    self._board.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._board is not None:
            with writable(self._workdir / "tb"):
                self._board.close()


class Writers:
    """Several writers as one. One that raises is left out from then on, and the log says why."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers = [*writers]

    def write(self, step: int, values: Values) -> None:
        """Let every writer write, and close those that raise."""
        for failed in self._call(lambda writer: writer.write(step, values)):
            with contextlib.suppress(Exception):  # the log has the first reason
                failed.close()

    def close(self) -> None:
        """Close every writer."""
        self._call(lambda writer: writer.close())

    def _call(self, action: Callable[[Writer], None]) -> list[Writer]:
        """Let every writer act; returns those that raise, which are left out from then on."""
        failed = []
        for writer in [*self._writers]:
            try:
                action(writer)
            except Exception as error:
                self._writers.remove(writer)
                failed.append(writer)
                logger.warning(
                    "%s cannot write metrics (%s: %s). Training goes on without it.",
                    type(writer).__name__,
                    type(error).__name__,
                    error,
                )
        return failed


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Lines of a run's `metrics.jsonl`, null as NaN.

    A line that a crash has cut, or that is damaged, is left out.
    """
    path = run_path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_bytes().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            values = _replace(line, lambda value: math.nan if value is None else value)
            lines.append(values | {"step": line["step"]})
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return lines


def _newest_step(workdir: epath.Path) -> int:
    """The step of the newest checkpoint, from which a run continues; 0 if there is none."""
    return max(saved_steps(workdir), default=0)


def _flat(values: Values) -> dict[str, float]:
    """Numbers by name, those of a dictionary as "name/entry"."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{entry}": number for entry, number in value.items()}
        else:
            flat[name] = value
    return flat


def _to_json(line: Mapping[str, Any]) -> str:
    """One line of JSON, which knows no NaN."""
    replaced = _replace(line, lambda value: value if math.isfinite(value) else None)
    return json.dumps(replaced, allow_nan=False) + "\n"


def _replace(line: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    replaced = {}
    for name, value in line.items():
        replaced[name] = _replace(value, change) if isinstance(value, Mapping) else change(value)
    return replaced
