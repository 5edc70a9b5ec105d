"""Run a fuzzer in child processes, and count what came of its mutations."""

import json
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SOUND = ("right value", "sentence", "library itself")
OUTCOMES = (*SOUND, "raw exception", "hang", "crash", "memory", "other value")
START_LIMIT = 180.0  # seconds until a child tries its first mutation
TIME_LIMIT = 15.0  # seconds for a mutation; machines may be busy


@dataclass
class Result:
    """Counts of outcomes, and the mutations that were faults."""

    target: str
    counts: Counter = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)  # number, outcome, text
    seconds: float = 0.0

    def add(self, number: int, outcome: str, text: str) -> None:
        self.counts[outcome] += 1
        if outcome not in SOUND:
            self.faults.append((number, outcome, text))


def run_target(name: str, folder: Path, seed: int, first: int, last: int) -> Result:
    """Try the mutations from `first` to `last` (excluded), in a fresh child after every fault."""
    result, begun = Result(name), time.monotonic()
    while first < last:
        first = _run_child(result, folder, seed, first, last)
    result.seconds = time.monotonic() - begun
    return result


def _run_child(result: Result, folder: Path, seed: int, first: int, last: int) -> int:
    """Run a child until it ends, and return the first mutation that it has not tried."""
    command = [sys.executable, "-m", "experiments.tools.fuzz.worker", result.target, str(folder)]
    command += [str(seed), str(first), str(last)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdout is not None
    current, following, hung = None, first, False
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            limit = START_LIMIT if current is None and following == first else TIME_LIMIT
            if not selector.select(limit):
                hung = True
                child.kill()
                break
            piece = child.stdout.read(1 << 16)
            if not piece:
                break
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                values = json.loads(line)
                if "starts" in values:
                    current = values["starts"]
                else:
                    result.add(values["number"], values["outcome"], values["text"])
                    current, following = None, values["number"] + 1
    child.stdout.close()
    status = child.wait()
    if current is None:
        if hung or (status != 0 and following == first):
            raise RuntimeError(f"{' '.join(command)} did not start; its status is {status}")
        return following
    outcome = "hang" if hung else "crash"
    text = f"more than {TIME_LIMIT:g} s" if hung else f"the process ended with status {status}"
    files = list(folder.glob(f"{current % 100}_damaged.*"))
    if files and _library_fails(files[0]):
        outcome = "library itself"
    result.add(current, outcome, text)
    return current + 1


def _library_fails(path: Path) -> bool:
    """Tell if h5py or scipy alone hangs or crashes on a file."""
    command = [sys.executable, "-m", "experiments.tools.fuzz.plain_reader", str(path)]
    try:
        return subprocess.run(command, capture_output=True, timeout=TIME_LIMIT).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def table(results: list[Result]) -> str:
    """Outcomes of every target in Markdown."""
    lines = [f"| target | mutations | {' | '.join(OUTCOMES)} | per second |"]
    lines.append("|---" * (len(OUTCOMES) + 3) + "|")
    for result in results:
        total = sum(result.counts.values())
        cells = [f"{result.counts[outcome]:,}" for outcome in OUTCOMES]
        rate = total / max(result.seconds, 1e-9)
        lines.append(f"| {result.target} | {total:,} | {' | '.join(cells)} | {rate:.0f} |")
    return "\n".join(lines)
