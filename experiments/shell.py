"""What the scripts share: logging, and errors that end in a sentence instead of a traceback."""

import logging
import sys
from collections.abc import Callable

from poyo_jax.errors import Interrupted, PoyoError


def run_shell(function: Callable, options) -> None:
    """Run `function(options)`; a PoyoError prints its sentence and exits with status 1, an interruption with 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        function(options)
    except Interrupted as error:
        sys.exit(_say(error, 130))
    except PoyoError as error:
        sys.exit(_say(error, 1))


def _say(error: PoyoError, status: int) -> int:
    print(f"\n{error}", file=sys.stderr)
    return status
