"""Run the work of a command: log lines, errors as sentences, and the exit status."""

import logging
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from poyo_jax.errors import PoyoError
from poyo_jax.exit_status import FAILED, INTERRUPTED, LOST_PEER, exit_status

Options = TypeVar("Options")

STANDARD_OUTPUT = 1  # its file descriptor


def run_program(
    work: Callable[[Options], int | None],
    options: Options,
    *,
    level: int = logging.INFO,
    interrupted: str = "stopped.",
) -> None:
    """Run `work(options)` and exit unless it succeeds; a PoyoError ends with its sentence alone.

    `work` returns None or an exit status. `level` is that of the log lines shown on standard error,
    and `interrupted` the sentence for Ctrl-C.
    """
    log_to_stderr(level)
    try:
        status = work(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _say(interrupted, INTERRUPTED)
    except PoyoError as error:
        status = _say(str(error), exit_status(error))
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        status = FAILED
    except RuntimeError as error:
        if not lost_peer():
            raise
        _end_without_peers(error)
    if status:
        sys.exit(status)


def log_to_stderr(level: int) -> None:
    """Show what the package logs as plain lines, and nothing of the libraries below it."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    # absl also logs the tracebacks of errors that are raised
    for library in ("absl", "jax", "orbax"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def lost_peer() -> bool:
    """Tell whether an error of the runtime may come from another process of the job."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_count() > 1


def _end_without_peers(error: RuntimeError) -> int:
    """End at once, since an orderly end would wait for the other processes."""
    traceback.print_exc()
    reason = str(error).splitlines()[0][:200]
    _say(f"another process of this job is gone ({reason}). Start all of them again.", LOST_PEER)
    os._exit(LOST_PEER)


def _reader_is_gone() -> bool:
    """Tell whether the program that reads standard output has ended, as in `... | head`.

    Standard output then goes nowhere, so that Python does not complain about it at exit.
    """
    poller = select.poll()
    poller.register(STANDARD_OUTPUT, 0)
    gone = any(event & select.POLLERR for _, event in poller.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
    return gone


def _say(text: str, status: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return status
