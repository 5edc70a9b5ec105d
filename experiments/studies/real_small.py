"""Compare pretraining, unit identification and single-session training on small recordings.

    $ python -m experiments.studies.real_small DATA --workdir runs/real_small

DATA holds session files; the pretrained model never sees the units of those that --held-out names.
The table gives for every session the test R2 of a ridge Wiener filter, of a model trained on that
session alone, and of the pretrained model, with fitted units where the session is held out. Every
choice (ridge, steps, end of a fit) is made on the valid split. Finished models are kept in the work
directory, and the same command continues an interrupted study.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import UnitDropoutConfig
from poyo_jax.presets import few_sessions, poyo_small, with_steps

if TYPE_CHECKING:
    from poyo_jax import Pretrained

HELD_OUT = ("set1_expt19", "set2_expt11", "m_20140303_100ms")
PRETRAIN_STEPS = 4000
# Tried in turn while they help: sessions with more data need more steps.
SINGLE_STEPS = (200, 400, 1000, 2000)
OVERLAP = 8  # windows averaged at each sample of the valid split, to compare trials


@dataclass(frozen=True, kw_only=True)
class RealSmall:
    """Pretraining, unit identification and single-session training on small recordings."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/real_small")
    """Folder for the runs and `results.json`."""
    held_out: tuple[str, ...] = HELD_OUT
    """File names (without .h5) of the sessions that pretraining does not see."""
    single: tuple[str, ...] | None = None
    """File names of the sessions to train alone; by default all."""
    pretrain_steps: int = PRETRAIN_STEPS
    """Steps of pretraining."""


def main(arguments: list[str] | None = None) -> None:
    run_command(real_small, RealSmall, arguments, description=__doc__)


def real_small(options: RealSmall) -> None:
    from poyo_jax import open_sessions

    sessions = {session.session_id: session for session in open_sessions(options.data)}
    open_sessions(
        options.data, options.held_out
    )  # names that are not there fail before anything is trained
    table = {name: {"Wiener filter": wiener(session)} for name, session in sessions.items()}
    print_table(table, options)
    for name, score in from_pretrained(sessions, options).items():
        table[name] |= score
    print_table(table, options)
    for name in options.single or sessions:
        table[name]["single-session"] = single_session(sessions[name], options)
        print_table(table, options)
    path = options.workdir / "results.json"
    path.write_text(json.dumps(table, indent=2))
    print(f"written to {path}")


def wiener(session: Session) -> float:
    """Test R2 of the Wiener filter."""
    from poyo_jax.baselines import wiener_filter
    from poyo_jax.data.readout import default_readout

    return wiener_filter(session, default_readout(session)).r2["test"]


def single_session(session: Session, options: RealSmall) -> float:
    """Test R2 of a model trained on this session alone."""
    from poyo_jax import evaluate

    return evaluate(
        train_alone(session, options.workdir / "single" / session.session_id), [session]
    ).mean


def train_alone(
    session: Session,
    workdir: Path,
    seed: int = 0,
    num_steps: Sequence[int] = SINGLE_STEPS,
    dropout: UnitDropoutConfig | None = None,
    causal_step: float | None = None,
) -> "Pretrained":
    """Train a model of this session alone; try `num_steps` in turn while valid R2 grows.

    `dropout` of units takes the place of that of poyo_small. With `causal_step` (s), valid R2 is
    that of causal decoding. Scores are of the last checkpoint, where the learning rate is 0: half a
    minute of validation data cannot rank earlier ones.
    """
    from poyo_jax import load, train_model

    recipe = few_sessions(poyo_small())
    if dropout is not None:
        recipe = replace(recipe, data=replace(recipe.data, unit_dropout=dropout))
    better: list[tuple[float, Pretrained]] = []
    for steps in num_steps:
        config = with_steps(recipe, steps, seed)
        train_model(config, [session], workdir / f"{steps}_steps")
        trial = load(workdir / f"{steps}_steps", step=steps)
        r2 = score_model(trial, session, "valid", causal_step=causal_step)
        if better and not r2 > better[-1][0]:
            break
        better.append((r2, trial))
    return better[-1][1]


def score_model(
    model: "Pretrained", session: Session, split: str = "test", *, causal_step: float | None = None
) -> float:
    """R2 of a split, from the plain mean of overlapping windows; causal with a step (s)."""
    from poyo_jax import evaluate

    how = {"overlap": OVERLAP, "stitch": "mean", "causal_step": causal_step}
    return evaluate(model, [session], split, **how).mean


def pretrain(sessions: list[Session], workdir: Path, num_steps: int, seed: int = 0) -> "Pretrained":
    """A model of all sessions, with its map from tuning to embeddings."""
    from poyo_jax import load, train_model
    from poyo_jax.finetune import learn_tuning

    # The last checkpoint: the mean validation R2 hangs on two sessions whose joystick drifts in the
    # valid block.
    train_model(with_steps(poyo_small(), num_steps, seed), sessions, workdir)
    return learn_tuning(load(workdir, step=num_steps), sessions)


def from_pretrained(
    sessions: dict[str, Session], options: RealSmall
) -> dict[str, dict[str, float]]:
    """Score the pretrained model on its own sessions, and on held-out ones after `fit_units`.

    Returns test R2.
    """
    from poyo_jax import evaluate, fit_units

    own = {name: session for name, session in sessions.items() if name not in options.held_out}
    pretrained = pretrain(list(own.values()), options.workdir / "pretrain", options.pretrain_steps)
    scores = evaluate(pretrained, list(own.values())).r2
    table = {name: {"pretrained": scores[session.id]} for name, session in own.items()}
    for name in options.held_out:
        began = time.monotonic()
        result = fit_units(pretrained, [sessions[name]])
        table[name] = {
            "pretrained + fit_units": evaluate(result.pretrained, [sessions[name]]).mean,
            "fit_units, s": time.monotonic() - began,
        }
    return table


def print_table(table: dict[str, dict[str, float]], options: RealSmall) -> None:
    """Markdown table of test R2, held-out sessions last."""
    columns = [
        "Wiener filter",
        "single-session",
        "pretrained",
        "pretrained + fit_units",
        "fit_units, s",
    ]
    print("\n| session | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name in sorted(table, key=lambda name: (name in options.held_out, name)):
        cells = [
            f"{table[name][column]:.3f}" if column in table[name] else "" for column in columns
        ]
        print(
            f"| {name}{' (held out)' if name in options.held_out else ''} | "
            + " | ".join(cells)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
