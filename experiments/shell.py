"""What the scripts share: logging, and errors that end in a sentence instead of a traceback."""

import logging
import sys
from collections.abc import Callable

from poyo_jax.errors import CheckpointError, DistributedError, Diverged, Interrupted, PoyoError

STOPPED, MISUSED = 42, 2  # what the exit status tells a scheduler: start again; and better not


def run_shell(function: Callable, options) -> None:
    """Run `function(options)`; a PoyoError ends the program with its sentence.

    Exit status: 2 for what will not work next time either (usage, configuration, data), 42 for a run that was stopped
    and goes on when it is started again, 130 for a second Ctrl-C, 1 for other failures.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "jax", "orbax"):  # absl logs the tracebacks of errors that are raised as well
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        function(options)
    except Interrupted as error:
        sys.exit(_say(error, STOPPED))
    except KeyboardInterrupt:
        sys.exit(_say("stopped at once; what the last checkpoint holds is saved, and the same command continues.", 130))
    except (CheckpointError, Diverged, DistributedError) as error:
        sys.exit(_say(error, 1))
    except PoyoError as error:
        sys.exit(_say(error, MISUSED))


def _say(text: PoyoError | str, status: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return status
