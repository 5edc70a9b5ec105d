"""What the scripts share: logging, and errors that end in a sentence instead of a traceback."""

import logging
import os
import sys
import traceback
from collections.abc import Callable

from poyo_jax.errors import CheckpointError, DistributedError, Diverged, Interrupted, PoyoError

STOPPED, LOST, MISUSED = 42, 134, 2  # what the exit status tells a scheduler: start again, again, and better not


def run_shell(function: Callable, options) -> None:
    """Run `function(options)`; a PoyoError ends the program with its sentence.

    Exit status: 2 for what will not work next time either (usage, configuration, data), 42 for a run that was stopped
    and goes on when it is started again, 134 when another process is gone, 130 for a second Ctrl-C, 1 for other
    failures.
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
    except RuntimeError as error:
        if not lost_peer():
            raise
        traceback.print_exc()
        text = f"another process of this job is gone ({str(error).splitlines()[0][:200]}). Start all of them again."
        _say(text, LOST)
        os._exit(LOST)  # an orderly end would wait for the others


def lost_peer() -> bool:
    """Whether a failure of the runtime may come from another process."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_count() > 1


def _say(text: PoyoError | str, status: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return status
