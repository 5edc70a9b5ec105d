"""A child process that tries mutations one after the other and tells what came of each.

A line of JSON announces every mutation, and another one tells its outcome. So a process that
crashes or hangs has named the mutation.
"""

import gc
import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path

from experiments.tools.fuzz.target import OtherValue, Target
from experiments.tools.fuzz.targets import make_target
from poyo_jax.errors import PoyoError

MOST_GROWTH = 600  # MB of memory that one mutation may add
LIMIT = 6 << 30  # bytes of address space beyond those at the start
RIGHT, SENTENCE, OTHER, RAW, MEMORY = (
    *("right value", "sentence", "other value", "raw exception", "memory"),
)


def try_mutation(target: Target, number: int) -> tuple[str, str]:
    """The outcome of a mutation, and what tells about it."""
    before = _peak_memory()
    try:
        target.attempt(number)
        outcome, text = RIGHT, ""
    except PoyoError as error:
        outcome, text = SENTENCE, str(error)
    except OtherValue as error:
        outcome, text = OTHER, str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {error}"[:200]
        outcome, text = RAW, f"{line} ({Path(place.filename).name}:{place.lineno})"
    grown = _peak_memory() - before
    if grown > MOST_GROWTH or "MemoryError" in text or "Unable to allocate" in text:
        outcome, text = MEMORY, f"{grown} MB; {text[:200]}"
    return outcome, text[:400]


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(name: str, folder: str, seed: str, first: str, last: str) -> None:
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # libraries write about failures
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    target = make_target(name, Path(folder), int(seed))
    target.warm_up()
    _limit_memory()
    for number in range(int(first), int(last)):
        print(json.dumps({"starts": number}), file=lines)
        outcome, text = try_mutation(target, number)
        print(json.dumps({"number": number, "outcome": outcome, "text": text}), file=lines)
        if number % 200 == 0:
            gc.collect()
        if outcome == MEMORY:
            return  # a fresh process goes on: the peak of this one hides the next


def _limit_memory() -> None:
    """Let requests of endless memory fail instead of ending the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
