"""What the programs of the package (`python -m poyo_jax.…`) have in common."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from poyo_jax.errors import PoyoError

Options = TypeVar("Options")
INTERRUPTED, MISUSED = 130, 2  # exit statuses


def log_to_stderr(level: int) -> None:
    """Show what the package logs as plain lines, and nothing of the libraries below it."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for noisy in (
        "absl",
        "jax",
        "orbax",
    ):  # absl logs the tracebacks of errors that are raised as well
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def run_program(work: Callable[[Options], None], options: Options) -> None:
    """Do the work; a PoyoError ends the program with its sentence, and Ctrl-C with none."""
    log_to_stderr(logging.WARNING)
    try:
        work(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except PoyoError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(MISUSED)
