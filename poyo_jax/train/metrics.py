"""Where metrics go: one JSON line and one TensorBoard point per step that is logged; and how progress is shown."""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

logger = logging.getLogger(__name__)


class MetricsWriter:
    """Appends to `metrics.jsonl` and `tb/` in a work directory; lines behind `resume_step` are dropped first."""

    def __init__(self, workdir: Path, resume_step: int):
        self._path = workdir / "metrics.jsonl"
        lines = [line for line in read_metrics(workdir) if line["step"] <= resume_step]
        temporary = self._path.with_suffix(".partial")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.replace(temporary, self._path)
        self._board = SummaryWriter(str(workdir / "tb"), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers become TensorBoard scalars under their names, dictionaries of numbers one scalar per entry."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            entries = value if isinstance(value, Mapping) else {"": value}
            for entry, number in entries.items():
                self._board.add_scalar(f"{name}/{entry}".rstrip("/"), number, step)

    def close(self) -> None:
        self._board.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Lines of a run's `metrics.jsonl`; a last line cut short by a crash is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class Progress:
    """A progress bar on a terminal; elsewhere a log line every 30 s. `show=False` is silent."""

    def __init__(self, what: str, first: int, total: int, show: bool = True):
        self._what, self._total, self._first, self._show = what, total, first, show
        self._bar = tqdm(desc=what, initial=first, total=total, unit="step", disable=None if show else True)
        self._began = self._logged = time.monotonic()

    def advance(self, done: int) -> None:
        self._bar.update(done - self._bar.n if not self._bar.disable else 0)
        if self._show and self._bar.disable and time.monotonic() - self._logged > 30:
            self._logged = time.monotonic()
            pace = (self._logged - self._began) / max(done - self._first, 1)
            left = pace * (self._total - done)
            logger.info("%s: step %d of %d, %.3g s per step, %.0f s left", self._what, done, self._total, pace, left)

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        self._bar.close()
