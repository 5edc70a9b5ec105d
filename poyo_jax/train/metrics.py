"""Where metrics go: one JSON line and one TensorBoard point per step that is logged; and how progress is shown."""

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from etils import epath
from tensorboardX import SummaryWriter
from tqdm import tqdm

from poyo_jax.files import append_text, in_bucket, writable, write_text

logger = logging.getLogger(__name__)


class MetricsWriter:
    """Appends to `metrics.jsonl` and `tb/` in a work directory; lines behind `resume_step` are dropped first.

    A number that is not finite becomes null in the file, and no point in TensorBoard. Raises PoyoError when the disk is
    full or may not be written. In a bucket there is no `tb/`.
    """

    def __init__(self, workdir: epath.PathLike, resume_step: int):
        workdir = epath.Path(workdir)
        self._path, board = workdir / "metrics.jsonl", workdir / "tb"
        lines = [line for line in read_metrics(workdir) if line["step"] <= resume_step]
        write_text(self._path, "".join(_to_json(line) for line in lines))
        with writable(board):
            self._board = None if in_bucket(board) else SummaryWriter(str(board), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Numbers become TensorBoard scalars under their names, dictionaries of numbers one scalar per entry."""
        append_text(self._path, _to_json({"step": step, **values}))
        for name, value in values.items():
            entries = value if isinstance(value, Mapping) else {"": value}
            for entry, number in entries.items():
                if self._board and math.isfinite(number):
                    self._board.add_scalar(f"{name}/{entry}".rstrip("/"), number, step)

    def close(self) -> None:
        if self._board:
            with writable(self._path.parent / "tb"):
                self._board.close()


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Lines of a run's `metrics.jsonl`, null as NaN; one that a crash has cut, or that is damaged, is left out."""
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_bytes().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            lines.append(_replace(line, lambda value: math.nan if value is None else value) | {"step": line["step"]})
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return lines


def _to_json(line: Mapping[str, Any]) -> str:
    """JSON knows no NaN."""
    replaced = _replace(line, lambda value: value if math.isfinite(value) else None)
    return json.dumps(replaced, allow_nan=False) + "\n"


def _replace(line: Mapping[str, Any], change) -> dict[str, Any]:
    return {
        name: _replace(value, change) if isinstance(value, Mapping) else change(value) for name, value in line.items()
    }


class Progress:
    """A progress bar on a terminal; elsewhere a log line every 30 s. `show=False` is silent. Close it, or enter it."""

    def __init__(self, what: str, first: int, total: int, show: bool = True):
        self._what, self._total, self._show = what, total, show
        self._bar = tqdm(desc=what, initial=first, total=total, unit="step", disable=None if show else True)
        self._start: tuple[int, float] | None = None  # first step that was done and when; it is compiled before
        self._logged = time.monotonic()
        self._note = ""

    def advance(self, done: int) -> None:
        self._start = self._start or (done, time.monotonic())
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif self._show and done > self._start[0] and time.monotonic() - self._logged > 30:
            self._logged = time.monotonic()
            pace = (self._logged - self._start[1]) / (done - self._start[0])
            left = pace * (self._total - done)
            text = "%s: step %d of %d, %.3g s per step, %.0f s left%s"
            logger.info(text, self._what, done, self._total, pace, left, self._note)

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._note = f", {text}"
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
