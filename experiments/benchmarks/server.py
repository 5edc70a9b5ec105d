"""A contender of the benchmark: a process that makes one call per line on standard input.

Imports only the standard library.
"""

import json
import resource
import sys
import time
from collections.abc import Callable


def serve(call: Callable[[int], dict], facts: dict) -> None:
    """Print the facts, then for each line the figures of `call(number)` and the peak memory."""
    print(json.dumps(facts), flush=True)
    for number, _ in enumerate(sys.stdin):
        answer = call(number)
        print(
            json.dumps(
                answer | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
            ),
            flush=True,
        )


def seconds(function: Callable, *arguments) -> float:
    """Return the duration of a call in seconds."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def timed_windows(function: Callable, windows: list) -> Callable[[int], dict]:
    """Make a call that reports the duration of `function(window)` for each of the windows."""
    return lambda number: {"seconds": [seconds(function, window) for window in windows]}


def timed(function: Callable) -> Callable[[int], dict]:
    """Make a call that reports the duration of `function(number)`."""
    return lambda number: {"seconds": seconds(function, number)}
