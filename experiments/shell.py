"""What the scripts share: logging, errors that end in a sentence instead of a traceback, and tables
of R2.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from poyo_jax.cli.program import log_to_stderr
from poyo_jax.errors import CheckpointError, DistributedError, Diverged, Interrupted, PoyoError

if TYPE_CHECKING:
    from poyo_jax.decoding.offline import Evaluation

STOPPED, LOST, MISUSED = (
    42,
    134,
    2,
)  # what the exit status tells a scheduler: start again, again, and better not


def run_shell(function: Callable, options) -> None:
    """Run `function(options)`; a PoyoError ends the program with its sentence.

    Exit status: 2 for what will not work next time either (usage, configuration, data), 42 for a
    run that was stopped and goes on when it is started again, 134 when another process is gone, 130
    for a second Ctrl-C, 1 for other failures.
    """
    log_to_stderr(logging.INFO)
    try:
        function(options)
    except Interrupted as error:
        sys.exit(_say(error, STOPPED))
    except KeyboardInterrupt:
        sys.exit(
            _say(
                "stopped at once; what the last checkpoint holds is saved, and the same command"
                " continues.",
                130,
            )
        )
    except (CheckpointError, Diverged, DistributedError) as error:
        sys.exit(_say(error, 1))
    except PoyoError as error:
        sys.exit(_say(error, MISUSED))
    except RuntimeError as error:
        if not lost_peer():
            raise
        traceback.print_exc()
        text = (
            f"another process of this job is gone ({str(error).splitlines()[0][:200]}). Start all"
            " of them again."
        )
        _say(text, LOST)
        os._exit(LOST)  # an orderly end would wait for the others


def lost_peer() -> bool:
    """Whether a failure of the runtime may come from another process."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_count() > 1


def _say(text: PoyoError | str, status: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return status


def sessions_at(path: Path) -> list:
    """The session in a file, or those in a folder."""
    from poyo_jax import Session, open_sessions

    return [Session.open(path)] if path.is_file() else open_sessions(path)


def score_lines(evaluation: "Evaluation", split: str) -> str:
    """R2 of a split, session by session, and its mean."""
    width = max(len(name) for name in evaluation.r2)
    lines = [f"{name:{width}}  {split} R2 {r2:6.3f}" for name, r2 in evaluation.r2.items()]
    return "\n".join(
        [*lines, f"{'mean ± SD':{width}}  {split} R2 {evaluation.mean:6.3f} ± {evaluation.std:.3f}"]
    )
