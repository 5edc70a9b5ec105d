"""A contender of the benchmark: a process that makes one call per line on standard input. Only the
standard library.
"""

import json
import resource
import sys
import time
from collections.abc import Callable


def serve(call: Callable[[int], dict], facts: dict) -> None:
    """Print the facts, then for each line what `call(number)` measured, with the peak memory so
    far.
    """
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
    """How long a call takes."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def timed_windows(function: Callable, windows: list) -> Callable[[int], dict]:
    """A call that reports how long `function(window)` took for each of the windows."""
    return lambda number: {"seconds": [seconds(function, window) for window in windows]}


def timed(function: Callable) -> Callable[[int], dict]:
    """A call that reports how long `function(number)` took."""
    return lambda number: {"seconds": seconds(function, number)}
