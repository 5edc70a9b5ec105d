"""Decode a split of sessions that a model knows, and score it.

    python experiments/evaluate.py runs/pretrain sessions/ python experiments/evaluate.py
    runs/monday sessions/monday.h5 --split valid --predictions runs/monday/predictions

With --predictions the decoded behaviour of every session is written as one NumPy archive: times (s
of session time), values and targets (in the units of the session file), scored.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from shell import run_shell, score_lines, sessions_at


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Decode a split of sessions that a model knows, and score it."""

    model: tyro.conf.Positional[Path]
    """Folder of a run or of a saved model."""
    data: tyro.conf.Positional[Path]
    """A session file, or a folder of them; of a folder, sessions that the model does not know are
    left out.
    """
    split: Literal["train", "valid", "test", "all"] = "test"
    """What to decode."""
    overlap: int = 2
    """Windows whose mean a sample gets; more take longer and decode a little better."""
    predictions: Path | None = None
    """Folder for the decoded behaviour."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_shell(evaluate_folder, tyro.cli(Evaluate, args=arguments, description=__doc__))


def evaluate_folder(options: Evaluate) -> None:
    from poyo_jax import evaluate, load
    from poyo_jax.errors import VocabError

    pretrained, found = load(options.model), sessions_at(options.data)
    sessions = found
    if options.data.is_dir():
        sessions = [session for session in found if pretrained.knows(session)]
        if not sessions:
            raise VocabError(
                f"the model knows none of the {len(found)} sessions in {options.data}. Fit their"
                " units first: python experiments/finetune.py"
            )
    print(repr(pretrained), flush=True)
    evaluation = evaluate(pretrained, sessions, options.split, overlap=options.overlap)
    print(score_lines(evaluation, options.split))
    if options.predictions is not None:
        options.predictions.mkdir(parents=True, exist_ok=True)
        for name, decoded in evaluation.predictions.items():
            path = options.predictions / f"{name.replace('/', '_')}.npz"
            np.savez_compressed(
                path,
                times=decoded.times,
                values=decoded.values,
                targets=decoded.targets,
                scored=decoded.scored,
            )


if __name__ == "__main__":
    sys.exit(main())
