"""Adapt a pretrained model to sessions that it does not know, and decode their test splits.

    python experiments/finetune.py runs/pretrain sessions/monday.h5 --out runs/monday python
    experiments/finetune.py runs/pretrain sessions/ --out runs/week --strategy gradual
    --num-labelled-seconds 60

Strategies: unit_identification learns the embeddings of units and sessions alone; gradual these
first, then all parameters; full all at once; lora the embeddings, then low-rank updates of all
matrices; from_scratch a new model.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from shell import run_shell, score_lines, sessions_at

from poyo_jax.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Adapt a pretrained model to sessions that it does not know."""

    model: tyro.conf.Positional[Path]
    """Folder of a run or of a saved model."""
    data: tyro.conf.Positional[Path]
    """A session file, or a folder of them, searched with its sub-folders."""
    out: Path
    """Folder for the adapted model."""
    strategy: str = "unit_identification"
    """What learns."""
    num_steps: int | None = None
    """Most gradient steps; None takes the strategy's."""
    learning_rate: float | None = None
    """Peak rate of the rows, in standard deviations of the trained rows; None takes the
    strategy's.
    """
    num_labelled_seconds: float | None = None
    """Learn from so much of each train split; None takes all."""
    num_trials: int | None = None
    """Learn from so many trials of each train split; None takes all."""
    start_from: str | None = None
    """Id of a known session, from whose units of the same unit id new ones start."""
    known: Literal["refuse", "refit"] = "refuse"
    """What to do with sessions that the model knows."""
    seed: int = 0
    """Decides initial rows, windows, labels and dropout."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_shell(finetune_folder, tyro.cli(Finetune, args=arguments, description=__doc__))


def finetune_folder(options: Finetune) -> None:
    from poyo_jax import evaluate, load
    from poyo_jax.checkpoint.store import saved_steps
    from poyo_jax.finetune import finetune
    from poyo_jax.finetune.strategies import choose

    given = {"num_steps": options.num_steps, "learning_rate": options.learning_rate}
    config = replace(
        choose(options.strategy),
        num_labelled_seconds=options.num_labelled_seconds,
        num_trials=options.num_trials,
        seed=options.seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    if saved_steps(options.out):
        raise CheckpointError(
            f"{options.out} holds a model already; give another --out, or delete that one first."
        )
    pretrained, sessions = load(options.model), sessions_at(options.data)
    print(
        f"{pretrained!r}\n{len(sessions)} sessions, {sum(len(s.unit_ids) for s in sessions)} units",
        flush=True,
    )
    result = finetune(
        pretrained, sessions, config, start_from=options.start_from, known=options.known
    )
    print(f"units: {result.units}\nsessions: {result.sessions}\nvalid R2 {result.valid_r2:.3f}")
    result.save(options.out)
    print(f"saved to {options.out}", flush=True)
    testable = [session for session in sessions if session.has_split("test")]
    if testable:
        print(score_lines(evaluate(result.pretrained, testable), "test"))


if __name__ == "__main__":
    sys.exit(main())
