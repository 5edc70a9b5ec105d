"""What it costs to train without attention dropout, which flash kernels cannot apply: test R2 of three recipes.

    python experiments/attention_dropout.py DATA

DATA holds session files. Every session is trained alone by the short recipe of real_small.py, with attention dropout,
without it, and without it but with more dropout elsewhere. Each model is the best checkpoint on the valid split; the
scores of both splits are means over seeds, with their standard deviation.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from real_small import SINGLE, config
from shell import run_shell

from poyo_jax import Session
from poyo_jax.config import Config

RECIPES = {
    "attention dropout 0.2": {},
    "none": {"attention_dropout": 0.0},
    "none, others 0.3": {"attention_dropout": 0.0, "feedforward_dropout": 0.3, "residual_dropout": 0.3},
}


@dataclass(frozen=True, kw_only=True)
class AttentionDropout:
    """Training with and without attention dropout."""

    data: tyro.conf.Positional[Path]
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/attention_dropout")
    """Folder for the runs."""
    sessions: tuple[str, ...] = ("set2_expt03", "m_20140303_100ms", "m1_stevenson_2011")
    """File names (without .h5) of the sessions to train on."""
    seeds: int = 2
    """Trainings of each kind."""


def main(arguments: list[str] | None = None) -> None:
    run_shell(attention_dropout, tyro.cli(AttentionDropout, args=arguments, description=__doc__))


def attention_dropout(options: AttentionDropout) -> None:
    from poyo_jax import open_sessions

    print("| session | recipe | valid R2 | test R2 |\n|---|---|---|---|", flush=True)
    for session in open_sessions(options.data, options.sessions):
        for name in RECIPES:
            folder = options.workdir / session.session_id / name.replace(" ", "_")
            found = [scores(session, recipe(name, seed), folder / str(seed)) for seed in range(options.seeds)]
            valid, test = (
                f"{mean:.3f} ± {std:.3f}" for mean, std in zip(np.mean(found, 0), np.std(found, 0), strict=True)
            )
            print(f"| {session.session_id} | {name} | {valid} | {test} |", flush=True)


def recipe(name: str, seed: int) -> Config:
    """The short recipe of single-session training with the dropouts of `name`."""
    plain = config(**SINGLE["short"])
    return replace(plain, model=replace(plain.model, **RECIPES[name]), data=replace(plain.data, seed=seed))


def scores(session: Session, settings: Config, workdir: Path) -> tuple[float, float]:
    """R2 of the valid and the test split, of the checkpoint that is best on the valid split."""
    from poyo_jax import evaluate, load, train_model

    train_model(settings, [session], workdir, progress=False)
    best = load(workdir)
    return evaluate(best, [session], split="valid").mean, evaluate(best, [session]).mean


if __name__ == "__main__":
    sys.exit(main())
