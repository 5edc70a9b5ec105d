"""Adapt a pretrained model to sessions that it does not know, and decode their test splits.

    $ python -m poyo_jax finetune runs/pretrain sessions/monday.h5 --out runs/monday
    $ python -m poyo_jax finetune runs/pretrain sessions/ --out runs/week --strategy gradual

Strategies: unit_identification fits the embeddings of units and sessions alone, and
unit_identification_paper does so as the authors of POYO do; head fits also the heads of outputs
that the model lacks; gradual fits the embeddings first, then all parameters; full fits all
parameters at once; lora fits the embeddings, then low-rank updates of all matrices; from_scratch
trains a new model. auto takes unit_identification (head, if the model lacks an output), gradual or
from_scratch by cross-validation on the labels, and says why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from poyo_jax.cli.options import MaybeFloat, MaybeInt, MaybeText, Model, Sessions
from poyo_jax.cli.outputs import readouts_of
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import count_line, outputs_lines, sessions_at, with_split
from poyo_jax.errors import ConfigError
from poyo_jax.tasks.choose import choosing_metric

if TYPE_CHECKING:
    from poyo_jax.finetune import Auto, FitConfig, FitResult

STRATEGIES = (
    "auto",
    "unit_identification",
    "unit_identification_paper",
    "head",
    "gradual",
    "full",
    "lora",
    "from_scratch",
)
CHOICES = "{" + ",".join(STRATEGIES) + "}"


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Adapt a pretrained model to sessions that it does not know."""

    model: Model
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Sessions
    """A session file, or a folder of them, searched with its sub-folders."""
    out: str
    """Folder for the adapted model, or an address such as gs://bucket/model."""
    strategy: Annotated[str, tyro.conf.arg(metavar=CHOICES)] = "unit_identification"
    """Parameters that are fitted, and how."""
    decode: tuple[str, ...] = ()
    """Behaviours to decode, such as cursor.vel or reach.direction:classes (or continuous, counts);
    each session is decoded for those that it has. By default the output of the model.
    """
    num_steps: MaybeInt = None
    """Largest number of gradient steps; by default the strategy's."""
    learning_rate: MaybeFloat = None
    """Peak rate of the embedding rows, in standard deviations of the trained rows; by default the
    strategy's.
    """
    num_labelled_seconds: MaybeFloat = None
    """Seconds of each train split to learn from; by default all."""
    num_trials: MaybeInt = None
    """Trials of each train split to learn from; by default all."""
    start_from: MaybeText = None
    """Id of a known session: new units start from its units of the same unit id."""
    known: Literal["refuse", "refit"] = "refuse"
    """Refuse sessions that the model knows, or fit their embeddings again."""
    seed: int = 0
    """Seed of initial rows, windows, labels and dropout."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax finetune"
    run_command(finetune_sessions, Finetune, arguments, prog=prog, description=__doc__)


def finetune_sessions(options: Finetune) -> None:
    """Fit, save, and print the test scores."""
    from poyo_jax import evaluate_outputs, load
    from poyo_jax.checkpoint.store import saved_steps
    from poyo_jax.finetune import finetune

    strategy = strategy_of(options)
    if saved_steps(options.out):
        raise ConfigError(
            f"{options.out} holds a model already; give another --out, or delete that one first."
        )
    pretrained = load(options.model)
    sessions = sessions_at(options.data)
    print(f"{pretrained!r}\n{count_line(sessions)}", flush=True)
    result = finetune(
        pretrained,
        sessions,
        strategy,
        readouts=readouts_of(sessions, options.decode) or None,
        start_from=options.start_from,
        known=options.known,
    )
    if result.choice:
        print(result.choice)
    print(f"units: {result.units}\nsessions: {result.sessions}\n{valid_line(result)}")
    result.save(options.out)
    print(f"saved to {options.out}", flush=True)
    if testable := with_split(sessions, "test"):
        print("decoding the test splits ...", flush=True)
        print(outputs_lines(evaluate_outputs(result.pretrained, testable), "test"))


def valid_line(result: "FitResult") -> str:
    """Validation score of the fit; NaN without a valid split."""
    metric = choosing_metric(result.pretrained.config.model)
    score = result.pretrained.metrics.get(metric.key("valid"), math.nan)
    return f"valid {metric.text} {score:.3f}"


def strategy_of(options: Finetune) -> "FitConfig | Auto":
    """Settings of the strategy, changed as the options say."""
    from poyo_jax.finetune import Auto
    from poyo_jax.finetune.strategies import choose

    changes = {"num_steps": options.num_steps, "learning_rate": options.learning_rate}
    given = {name: value for name, value in changes.items() if value is not None}
    if options.strategy == "auto" and given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ConfigError(
            f"{option} does not go with --strategy auto, which compares the strategies as they"
            " are. Leave it out, or name a strategy."
        )
    settings = Auto() if options.strategy == "auto" else choose(options.strategy, "auto")
    return replace(
        settings,
        num_labelled_seconds=options.num_labelled_seconds,
        num_trials=options.num_trials,
        seed=options.seed,
        **given,
    )
