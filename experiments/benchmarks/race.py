"""Contenders that take turns, and the table of their figures."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
# Keeps glibc from handing freed memory back to the kernel, whose page faults cost eager torch half
# of its time here.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
COLUMNS = (
    "fastest s",
    "median s",
    "p99 s",
    "windows/s",
    "tokens/s",
    "spikes/s",
    "padding",
    "peak GB",
    "trace s",
    "compile s",
    "GFLOP/s",
    "of matmul rate",
)


class Contender:
    """A process that makes one call per line it reads (server.py)."""

    def __init__(
        self, command: list[str], settings: dict, environment: dict[str, str] | None = None
    ):
        environment = {**os.environ, **(environment or {})}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([*command, json.dumps(settings)], env=environment, **pipes)
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self.facts = self._read()

    def call(self) -> dict:
        self._input.write("\n")
        self._input.flush()
        return self._read()

    def close(self) -> None:
        self._input.close()
        self._process.wait()
        self._output.close()

    def _read(self) -> dict:
        line = self._output.readline()
        if not line:
            raise SystemExit(
                f"a contender stopped with status {self._process.wait()}; its message stands above."
            )
        return json.loads(line)


def ours(tree: Path, settings: dict) -> Contender:
    """Start the library of a source tree through the benchmark of that tree."""
    environment = {"PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])}
    before_folders = tree / "experiments" / "benchmark_ours.py"
    if before_folders.exists():
        return Contender([sys.executable, str(before_folders)], settings, environment)
    command = [sys.executable, "-m", "experiments.benchmarks.ours"]
    # the modules of the tree, not those of the working directory
    return Contender(command, settings, environment | {"PYTHONSAFEPATH": "1"})


def peer(python: str, settings: dict, environment: dict[str, str] | None = None) -> Contender:
    """Start torch_brain with the Python of its environment."""
    command = [python, "-m", "experiments.benchmarks.peer"]
    paths = {"PYTHONPATH": str(REPOSITORY), "PYTHONSAFEPATH": "1"}
    return Contender(command, settings, paths | (environment or {}))


@contextmanager
def source_tree(revision: str) -> Iterator[Path]:
    """Write the files of a git revision to a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    try:
        subprocess.run(
            [*git, "add", "--detach", "--quiet", str(folder / "tree"), revision], check=True
        )
        yield folder / "tree"
    finally:
        shutil.rmtree(folder)
        subprocess.run([*git, "prune"], check=True)


def race(contenders: dict[str, Contender], rounds: int) -> dict[str, dict]:
    """Let all contenders make one call in turn, round after round; return figures by contender.

    The first round is discarded.
    """
    turns = [{name: one.call() for name, one in contenders.items()} for _ in range(rounds + 1)][1:]
    for one in contenders.values():
        one.close()
    return {
        name: figures(one.facts, [turn[name] for turn in turns]) for name, one in contenders.items()
    }


def figures(facts: dict, answers: list[dict]) -> dict:
    """Figures of one contender; rates are those of its fastest call."""
    times = np.concatenate([np.atleast_1d(answer["seconds"]) for answer in answers])
    fastest = float(times.min())
    found = {
        "fastest s": fastest,
        "median s": float(np.median(times)),
        "p99 s": float(np.quantile(times, 0.99)) if len(times) >= 100 else None,
        "peak GB": max(answer["peak_gb"] for answer in answers),
        "padding": facts.get("padding"),
        "trace s": facts.get("trace_s"),
        "compile s": facts.get("compile_s"),
    }
    found |= {
        f"{what}/s": facts[what] / fastest
        for what in ("windows", "tokens", "spikes")
        if what in facts
    }
    if "gflop" in facts:
        found["GFLOP/s"] = facts["gflop"] / fastest
    rates = [answer["matmul_gflops"] for answer in answers if "matmul_gflops" in answer]
    if rates:
        found |= {"matmul GFLOP/s": max(rates), "of matmul rate": found["GFLOP/s"] / max(rates)}
    return found | {"seconds": times.tolist(), "facts": facts}


def print_table(found: dict[str, dict]) -> None:
    """One Markdown row for every contender."""
    columns = [
        column for column in COLUMNS if any(row.get(column) is not None for row in found.values())
    ]
    print("| " + " | ".join(["", *columns]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in found.items():
        print(
            "| "
            + " | ".join([name, *(_text(column, row.get(column)) for column in columns)])
            + " |"
        )
    rates = [row["matmul GFLOP/s"] for row in found.values() if "matmul GFLOP/s" in row]
    if rates:
        print(
            f"float32 matrix products ran at {max(rates):.0f} GFLOP/s on the same devices in the"
            " same run"
        )


def print_ratios(found: dict[str, dict]) -> None:
    """Print the time per window of each other contender, divided by that of the first."""
    (first, ours), *others = found.items()
    for name, row in others:
        ratios = {
            key.split()[0]: (
                (row[key] / row["facts"]["windows"]) / (ours[key] / ours["facts"]["windows"])
            )
            for key in ("fastest s", "median s", "p99 s")
            if ours[key] and row[key]
        }
        listed = ", ".join(f"{key} {ratio:.2f}" for key, ratio in ratios.items())
        print(
            f"time per window of {name} / {first}: {listed}; peak memory"
            f" {row['peak GB'] / ours['peak GB']:.2f}"
        )


def _text(column: str, value: float | None) -> str:
    if value is None:
        return ""
    if column in ("padding", "of matmul rate"):
        return f"{value:.0%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
