"""Run the work of a command: log lines, errors as sentences, and the exit status."""

import contextlib
import io
import logging
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from poyo_jax.cli.wording import in_options, option_names
from poyo_jax.errors import PoyoError
from poyo_jax.exit_status import FAILED, INTERRUPTED, LOST_PEER, exit_status
from poyo_jax.files import local_path
from poyo_jax.signals import heard_at_once

Options = TypeVar("Options")

STANDARD_OUTPUT = 1  # its file descriptor
AT_ONCE = 0.5  # s within which a program that is not compiling stops


def run_command(
    work: Callable[[Any], int | None],
    kind: Any,
    arguments: Sequence[str] | None = None,
    *,
    description: str | None,
    prog: str | None = None,
    level: int = logging.INFO,
    interrupted: str = "stopped.",
) -> None:
    """Read options of the dataclass `kind` and run `work(options)`, as `run_program` does.

    `arguments` are by default those of the command line. Errors are written in the words of its
    options.
    """

    def parse_and_work(given: Sequence[str] | None) -> int | None:
        options = parsed(lambda: tyro.cli(kind, args=given, prog=prog, description=description))
        return work(with_local_paths(options))

    run_program(parse_and_work, arguments, kind=kind, level=level, interrupted=interrupted)


def parsed(parse: Callable[[], Options]) -> Options:
    """Return what `parse` reads with tyro, whose frame is left out where we say what is wrong.

    Raises the PoyoError of a dataclass of options.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = parse()
    except SystemExit as ended:
        if error := _own_error(ended):
            raise error from None
        sys.stderr.write(said.getvalue())
        raise
    sys.stderr.write(said.getvalue())
    return options


def _own_error(ended: BaseException) -> PoyoError | None:
    """The error of the package that made tyro end, if one did."""
    error: BaseException | None = ended
    while error is not None and not isinstance(error, PoyoError):
        error = error.__context__
    return error


def run_program(
    work: Callable[[Options], int | None],
    options: Options,
    *,
    kind: Any = None,
    level: int = logging.INFO,
    interrupted: str = "stopped.",
) -> None:
    """Run `work(options)` and exit unless it succeeds; a PoyoError ends with its sentence alone.

    `work` returns None or an exit status. `kind` is the dataclass of the options, in whose words
    errors are written. `level` is that of the log lines shown on standard error, and `interrupted`
    the sentence for Ctrl-C.
    """
    log_to_stderr(level)
    try:
        with _stop_announced():
            status = _status(work, with_local_paths(options))
    except KeyboardInterrupt:
        status = _say(interrupted, INTERRUPTED)
    except PoyoError as error:
        status = _say(in_options(str(error), option_names(kind)), exit_status(error))
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        status = FAILED
    except Exception as error:
        if not has_peers():
            raise
        _end_without_peers(error)
    if status:
        sys.exit(status)


def with_local_paths(options: Options) -> Options:
    """The options, whose paths (fields of type Path) are on this computer, with `~` expanded.

    Raises PoyoError for an address such as gs://lab/sessions.
    """
    if not is_dataclass(options) or isinstance(options, type):
        return options
    changes = {}
    for item in fields(options):
        value = getattr(options, item.name)
        if isinstance(value, Path):
            changes[item.name] = local_path(value)
        elif isinstance(value, tuple):
            changes[item.name] = tuple(
                local_path(entry) if isinstance(entry, Path) else entry for entry in value
            )
    return replace(options, **changes)


def _status(work: Callable[[Options], int | None], options: Options) -> int:
    """Do the work, and print all of its output while a reader that is gone is still noticed."""
    try:
        status = work(options) or 0
    except SystemExit:  # after --help, or a command line that is not understood
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


@contextlib.contextmanager
def _stop_announced() -> Iterator[None]:
    """Say so at once when Ctrl-C has to wait, for instance until XLA has compiled."""
    ended = threading.Event()

    def hear(number: int) -> None:
        if number == signal.SIGINT and not ended.wait(AT_ONCE):
            print(
                "\nstopping as soon as the present step or compilation is done ...", file=sys.stderr
            )

    with heard_at_once(hear):
        try:
            yield
        finally:
            ended.set()


def log_to_stderr(level: int) -> None:
    """Show what the package logs as plain lines, and nothing of the libraries below it."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    # absl and asyncio also log the tracebacks of errors that are raised
    for library in ("absl", "asyncio", "jax", "orbax"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def has_peers() -> bool:
    """Tell whether this process is one of several of a job."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_count() > 1


def _end_without_peers(error: Exception) -> NoReturn:
    """End at once, since an orderly end would wait for the other processes."""
    traceback.print_exc()
    status = FAILED
    # A collective operation fails with the one or the other type when a process is gone.
    if isinstance(error, RuntimeError) or "Gloo" in str(error):
        reason = str(error).splitlines()[0][:200]
        text = f"another process of this job is gone ({reason}). Start all of them again."
        status = _say(text, LOST_PEER)
    sys.stderr.flush()
    os._exit(status)


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
