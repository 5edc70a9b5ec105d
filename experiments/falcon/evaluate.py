"""Run the official evaluator of FALCON on .poyo files, here or in the container of a submission.

    $ EVAL_DATA_PATH=falcon_data python -m experiments.falcon.evaluate models/m2 --task m2

The score of minival says that a submission runs. It is no score of held-out data: minival comes
from the calibration sessions, and in one public project its files were exact beginnings of the
calibration files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.falcon.make_files import Task
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run the official evaluator of FALCON on .poyo files."""

    models: Folder
    """Folder with a .poyo file for each session."""
    task: Task
    """The task."""
    phase: Literal["minival", "test"] = "minival"
    """Files to decode; those of test are on the server alone."""
    remote: bool = False
    """Whether this runs on the server."""
    batch_size: int = 1
    """Files that are decoded together."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(evaluate, Evaluate, arguments, description=__doc__)


def evaluate(options: Evaluate) -> None:
    """Decode all files of the phase; the evaluator prints the scores."""
    from falcon_challenge.evaluator import (  # pyright: ignore[reportMissingImports]
        FalconEvaluator,
    )

    from poyo_jax.falcon import FalconDecoder, streams_of_folder
    from poyo_jax.falcon.recordings import task_config

    streams = streams_of_folder(options.models)
    decoder: Any = FalconDecoder(task_config(options.task), streams, options.batch_size)
    evaluator = FalconEvaluator(options.remote, options.task, dataloader_workers=0)
    evaluator.evaluate(decoder, phase=options.phase)


if __name__ == "__main__":
    main()
