"""Adapt a pretrained model to sessions that it does not know, and decode their test splits.

    $ python -m poyo_jax finetune runs/pretrain sessions/monday.h5 --out runs/monday
    $ python -m poyo_jax finetune runs/pretrain sessions/ --out runs/week --strategy gradual

Strategies: unit_identification fits the embeddings of units and sessions alone, and
unit_identification_paper does so as the authors of POYO do; gradual fits the embeddings first, then
all parameters; full fits all parameters at once; lora fits the embeddings, then low-rank updates of
all matrices; from_scratch trains a new model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from poyo_jax.cli.program import run_program
from poyo_jax.cli.sessions import count_line, score_lines, sessions_at, with_split
from poyo_jax.errors import ConfigError
from poyo_jax.tasks import choose_task

if TYPE_CHECKING:
    from poyo_jax.finetune import FitConfig, FitResult

STRATEGIES = (
    "unit_identification",
    "unit_identification_paper",
    "gradual",
    "full",
    "lora",
    "from_scratch",
)
CHOICES = "{" + ",".join(STRATEGIES) + "}"


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Adapt a pretrained model to sessions that it does not know."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """A session file, or a folder of them, searched with its sub-folders."""
    out: Path
    """Folder for the adapted model."""
    strategy: Annotated[str, tyro.conf.arg(metavar=CHOICES)] = STRATEGIES[0]
    """Parameters that are fitted, and how."""
    num_steps: int | None = None
    """Largest number of gradient steps; None takes the strategy's."""
    learning_rate: float | None = None
    """Peak rate of the embedding rows, in standard deviations of the trained rows; None takes the
    strategy's.
    """
    num_labelled_seconds: float | None = None
    """Seconds of each train split to learn from; None takes all."""
    num_trials: int | None = None
    """Trials of each train split to learn from; None takes all."""
    start_from: str | None = None
    """Id of a known session: new units start from its units of the same unit id."""
    known: Literal["refuse", "refit"] = "refuse"
    """Refuse sessions that the model knows, or fit their embeddings again."""
    seed: int = 0
    """Seed of initial rows, windows, labels and dropout."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax finetune"
    options = tyro.cli(Finetune, args=arguments, prog=prog, description=__doc__)
    run_program(finetune_sessions, options)


def finetune_sessions(options: Finetune) -> None:
    """Fit, save, and print the test scores."""
    from poyo_jax import evaluate, load
    from poyo_jax.checkpoint.store import saved_steps
    from poyo_jax.finetune import finetune

    config = fit_config(options)
    if saved_steps(options.out):
        raise ConfigError(
            f"{options.out} holds a model already; give another --out, or delete that one first."
        )
    pretrained = load(options.model)
    sessions = sessions_at(options.data)
    print(f"{pretrained!r}\n{count_line(sessions)}", flush=True)
    result = finetune(
        pretrained, sessions, config, start_from=options.start_from, known=options.known
    )
    print(f"units: {result.units}\nsessions: {result.sessions}\n{valid_line(result)}")
    result.save(options.out)
    print(f"saved to {options.out}", flush=True)
    if testable := with_split(sessions, "test"):
        print(score_lines(evaluate(result.pretrained, testable), "test"))


def valid_line(result: "FitResult") -> str:
    """Validation score of the fit; NaN without a valid split."""
    metric = choose_task(result.pretrained.config.model).metric
    score = result.pretrained.metrics.get(metric.key("valid"), math.nan)
    return f"valid {metric.text} {score:.3f}"


def fit_config(options: Finetune) -> "FitConfig":
    """Settings of the strategy, changed as the options say."""
    from poyo_jax.finetune.strategies import choose

    changes = {"num_steps": options.num_steps, "learning_rate": options.learning_rate}
    return replace(
        choose(options.strategy),
        num_labelled_seconds=options.num_labelled_seconds,
        num_trials=options.num_trials,
        seed=options.seed,
        **{name: value for name, value in changes.items() if value is not None},
    )
