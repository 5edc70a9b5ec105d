"""Where metrics go: one JSON line and one TensorBoard point per step that is logged; and how
progress is shown.
"""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from etils import epath
from tensorboardX import SummaryWriter

from poyo_jax.files import append_text, in_bucket, writable, write_text

logger = logging.getLogger(__name__)


class MetricsWriter:
    """Appends to `metrics.jsonl` and `tb/` in a work directory; lines behind `resume_step` are
    dropped first.

    A number that is not finite becomes null in the file, and no point in TensorBoard. Raises
    PoyoError when the disk is full or may not be written. In a bucket there is no `tb/`.
    """

    def __init__(self, workdir: epath.PathLike, resume_step: int):
        workdir = epath.Path(workdir)
        self._path, board = workdir / "metrics.jsonl", workdir / "tb"
        lines = [line for line in read_metrics(workdir) if line["step"] <= resume_step]
        write_text(self._path, "".join(_to_json(line) for line in lines))
        with writable(board):
            self._board = (
                None if in_bucket(board) else SummaryWriter(str(board), purge_step=resume_step + 1)
            )

    def write(self, step: int, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Numbers become TensorBoard scalars under their names, dictionaries of numbers one scalar
        per entry.
        """
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
    """Lines of a run's `metrics.jsonl`, null as NaN; one that a crash has cut, or that is damaged,
    is left out.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_bytes().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            lines.append(
                _replace(line, lambda value: math.nan if value is None else value)
                | {"step": line["step"]}
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return lines


def _to_json(line: Mapping[str, Any]) -> str:
    """JSON knows no NaN."""
    replaced = _replace(line, lambda value: value if math.isfinite(value) else None)
    return json.dumps(replaced, allow_nan=False) + "\n"


def _replace(line: Mapping[str, Any], change) -> dict[str, Any]:
    return {
        name: _replace(value, change) if isinstance(value, Mapping) else change(value)
        for name, value in line.items()
    }
