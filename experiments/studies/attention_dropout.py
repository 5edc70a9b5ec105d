"""Measure the cost of training without attention dropout, which flash attention cannot apply.

    $ python -m experiments.studies.attention_dropout DATA

DATA holds session files. Three recipes train every session alone for 1000 steps: poyo_small with
the dropouts of poyo_1, without attention dropout, and with more dropout in feed-forward blocks
instead. The checkpoint with the best valid split is scored. Scores are means over seeds, with their
standard deviation.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.studies.results import sample_sd
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import Config
from poyo_jax.presets import few_sessions, poyo_1, poyo_1_fast, poyo_small, with_steps

NUM_STEPS = 1000
PAPER, FAST = poyo_1().model, poyo_1_fast().model
RECIPES = {  # (feed-forward, residual, attention dropout)
    "poyo_1": (PAPER.feedforward_dropout, PAPER.residual_dropout, PAPER.attention_dropout),
    "poyo_1 without attention dropout": (PAPER.feedforward_dropout, PAPER.residual_dropout, 0.0),
    "poyo_1_fast": (FAST.feedforward_dropout, FAST.residual_dropout, FAST.attention_dropout),
}


@dataclass(frozen=True, kw_only=True)
class AttentionDropout:
    """Training with and without attention dropout."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/attention_dropout")
    """Folder for the runs."""
    sessions: tuple[str, ...] = ("c_20131003_50ms", "m_20140303_100ms")
    """File names (without .h5) of the sessions to train on."""
    seeds: int = 2
    """Trainings of each kind."""


def main(arguments: list[str] | None = None) -> None:
    run_command(attention_dropout, AttentionDropout, arguments, description=__doc__)


def attention_dropout(options: AttentionDropout) -> None:
    from poyo_jax import open_sessions

    print("| session | dropouts of | valid R2 | test R2 |\n|---|---|---|---|", flush=True)
    for session in open_sessions(options.data, options.sessions):
        for name in RECIPES:
            folder = options.workdir / session.session_id / name.replace(" ", "_")
            found = [
                scores(session, recipe(name, seed), folder / str(seed))
                for seed in range(options.seeds)
            ]
            means = np.mean(found, axis=0)
            spreads = [sample_sd(some) for some in zip(*found, strict=True)]
            valid, test = (
                f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)
            )
            print(f"| {session.session_id} | {name} | {valid} | {test} |", flush=True)


def recipe(name: str, seed: int) -> Config:
    """A small model of a single session with the dropouts of `name`."""
    plain = with_steps(few_sessions(poyo_small()), NUM_STEPS, seed)
    feedforward, residual, attention = RECIPES[name]
    model = replace(
        plain.model,
        feedforward_dropout=feedforward,
        residual_dropout=residual,
        attention_dropout=attention,
    )
    return replace(plain, model=model)


def scores(session: Session, settings: Config, workdir: Path) -> tuple[float, float]:
    """R2 of the valid and the test split, of the checkpoint that is best on the valid split."""
    from poyo_jax import evaluate, load, train_model

    train_model(settings, [session], workdir, progress=False)
    best = load(workdir)
    return evaluate(best, [session], split="valid").mean, evaluate(best, [session]).mean


if __name__ == "__main__":
    main()
