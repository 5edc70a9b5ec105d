"""What the scripts share: logging, and errors that end in a sentence instead of a traceback."""

import logging
import sys
from collections.abc import Callable

from poyo_jax.errors import Interrupted, PoyoError


def run_shell(function: Callable, options) -> None:
    """Run `function(options)`; a PoyoError prints its sentence and exits with status 1, an interruption with 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "jax", "orbax"):  # absl logs the tracebacks of errors that are raised as well
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        function(options)
    except Interrupted as error:
        sys.exit(_say(error, 130))
    except KeyboardInterrupt:
        sys.exit(_say("stopped at once; what the last checkpoint holds is saved, and the same command continues.", 130))
    except PoyoError as error:
        sys.exit(_say(error, 1))


def _say(text: PoyoError | str, status: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return status
