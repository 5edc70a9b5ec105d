"""Where the time of a run goes, restarts included: `goodput.jsonl` in the work directory.

Every start of a run appends lines with the seconds it has spent so far on each part. Time between
the last line of one start and the next start is lost, and so are the steps that have to be made
again.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from poyo_jax.files import append_text

PARTS = ("init", "compile", "data", "step", "evaluate", "save")
FILE = "goodput.jsonl"


class Clock:
    """Counts seconds of wall time by part; at every moment exactly one part counts."""

    def __init__(self):
        self.started = time.time()
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._part, self._since = "init", time.monotonic()

    def switch(self, part: str) -> str:
        """From now on `part` counts; returns the one before."""
        now, before = time.monotonic(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = part, now
        return before

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def write(self, workdir: epath.PathLike, first_step: int, step: int) -> None:
        """Append what was counted up to `step`, since the run started or continued at
        `first_step`.
        """
        self.switch(self._part)
        line = {
            "started": self.started,
            "written": time.time(),
            "first_step": first_step,
            "step": step,
        }
        line |= {"seconds": {name: round(value, 3) for name, value in self.seconds.items()}}
        append_text(epath.Path(workdir) / FILE, json.dumps(line) + "\n")


def read_goodput(workdir: epath.PathLike) -> dict[str, float]:
    """Seconds of a run by part, over all its starts, with `restart` (nobody ran) and `redone`
    (steps lost to a crash).

    `goodput` is the share of steps that count in all of that time. Empty without a file.
    """
    starts = _last_lines(epath.Path(workdir) / FILE)
    if not starts:
        return {}
    total = dict.fromkeys((*PARTS, "restart", "redone"), 0.0)
    for number, line in enumerate(starts):
        for name, value in line["seconds"].items():
            total[name] += value
        if number + 1 < len(starts):
            following = starts[number + 1]
            total["restart"] += max(following["started"] - line["written"], 0)
            lost = max(line["step"] - following["first_step"], 0) / max(
                line["step"] - line["first_step"], 1
            )
            redone = min(lost, 1.0) * line["seconds"]["step"]
            total["redone"] += redone
            total["step"] -= redone
    return total | {"goodput": total["step"] / max(sum(total.values()), 1e-9)}


def describe_goodput(workdir: epath.PathLike) -> str:
    """One line for people."""
    seconds = read_goodput(workdir)
    share = seconds.pop("goodput", 0.0)
    total = sum(seconds.values())
    parts = ", ".join(
        f"{name} {value / total:.0%}" for name, value in seconds.items() if value >= 0.005 * total
    )
    return f"goodput {share:.0%} of {total:.0f} s: {parts}"


def _last_lines(path: epath.Path) -> list[dict[str, Any]]:
    """The last line of every start, in order; one that a crash has cut, or that is damaged, is left
    out.
    """
    lines: dict[float, dict[str, Any]] = {}
    for text in path.read_bytes().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            line = json.loads(text)
            lines[line["started"]] = {
                name: line[name] for name in ("started", "written", "first_step", "step", "seconds")
            }
    return [lines[started] for started in sorted(lines)]
