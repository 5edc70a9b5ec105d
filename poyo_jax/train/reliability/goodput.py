"""Time of a run by activity, restarts included: `goodput.jsonl` in the work directory.

Every start of a run appends lines with the seconds it has spent so far on each activity. Time
between the last line of one start and the next start is lost, and so are the steps that have to be
made again.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from poyo_jax.files import append_text, run_path

PARTS = ("init", "compile", "data", "step", "evaluate", "save")
FILE = "goodput.jsonl"
FIELDS = ("started", "written", "first_step", "step", "seconds")


class Clock:
    """Counts seconds of wall time by activity; at every moment exactly one counts."""

    def __init__(self):
        self.started = time.time()
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._part, self._since = "init", time.monotonic()

    def switch(self, part: str) -> str:
        """Count `part` from now on; returns the one before."""
        now, before = time.monotonic(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = part, now
        return before

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count a part while entered, and the one before afterwards."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def write(self, workdir: epath.PathLike, first_step: int, step: int) -> None:
        """Append the seconds up to `step` of a start that began or continued at `first_step`."""
        self.switch(self._part)
        line = {
            "started": self.started,
            "written": time.time(),
            "first_step": first_step,
            "step": step,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }
        append_text(run_path(workdir) / FILE, json.dumps(line) + "\n")


class GoodputLines:
    """Writes the clock of a run whenever its metrics are written (a `Writer`), and at the end."""

    def __init__(self, workdir: epath.PathLike, clock: Clock):
        self._workdir, self._clock = workdir, clock
        self._first, self._done = 0, 0

    def begin(self, first: int) -> None:
        """Say at which step this start begins."""
        self._first = self._done = first

    def advance(self, done: int) -> None:
        """Say that so many steps are done."""
        self._done = done

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line."""
        self._clock.write(self._workdir, self._first, step)

    def close(self) -> None:
        """Append the last line, if this start made a step."""
        if self._done > self._first:
            self._clock.write(self._workdir, self._first, self._done)


def read_goodput(workdir: epath.PathLike) -> dict[str, float]:
    """Seconds of a run by activity, over all its starts; empty without a file.

    `restart` is time in which no process ran, `redone` that of steps lost to a crash. `goodput` is
    the share of steps that count in all of that time.
    """
    starts = _last_lines(run_path(workdir) / FILE)
    if not starts:
        return {}
    total = dict.fromkeys((*PARTS, "restart", "redone"), 0.0)
    for number, line in enumerate(starts):
        for name, value in line["seconds"].items():
            total[name] += value
        if number + 1 < len(starts):
            following = starts[number + 1]
            total["restart"] += max(following["started"] - line["written"], 0)
            lost_steps = max(line["step"] - following["first_step"], 0)
            lost = lost_steps / max(line["step"] - line["first_step"], 1)
            redone = min(lost, 1.0) * line["seconds"]["step"]
            total["redone"] += redone
            total["step"] -= redone
    return total | {"goodput": total["step"] / max(sum(total.values()), 1e-9)}


def describe_goodput(workdir: epath.PathLike) -> str:
    """The goodput and the activities of a run in one line."""
    seconds = read_goodput(workdir)
    share = seconds.pop("goodput", 0.0)
    total = sum(seconds.values())
    large = {name: value for name, value in seconds.items() if value >= 0.005 * total}
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in large.items())
    return f"goodput {share:.0%} of {total:.0f} s: {shares}"


def _last_lines(path: epath.Path) -> list[dict[str, Any]]:
    """The last line of every start, in order, without those that are cut or damaged."""
    lines: dict[float, dict[str, Any]] = {}
    for text in path.read_bytes().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            line = json.loads(text)
            lines[line["started"]] = {name: line[name] for name in FIELDS}
    return [lines[started] for started in sorted(lines)]
