"""Few-shot curve: decoding by amount of labelled data, one fit for each amount."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from poyo_jax.checks import SEED, check_numbers, number
from poyo_jax.data.given import one_session, readouts_by_session
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import evaluate
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.finetune.auto import Auto
from poyo_jax.finetune.fit import finetune
from poyo_jax.finetune.labels import labelled_intervals
from poyo_jax.finetune.strategies import STRATEGIES, choose
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import Readouts, SomeReadouts, each_readout

AMOUNTS = (10.0, 30.0, 100.0, None)


@dataclass(frozen=True)
class FewShot:
    """A fit to a limited amount of labelled data, and its scores."""

    num_seconds: float | None  #: of labels; None for all of the train split
    seed: int  #: of the labels, windows and dropout
    steps: int  #: step at which the fit stopped, out of its `num_steps`
    valid_score: float  #: of the valid split, in the metric of the task (R2 for regression)
    test_score: float  #: of the test split


def few_shot_curve(
    pretrained: Pretrained,
    session: Session,
    strategy: str | FitConfig = "unit_identification",
    *,
    amounts: Sequence[float | None] = AMOUNTS,
    seeds: Sequence[int] = (0,),
    readouts: Mapping[str, SomeReadouts] | None = None,
    progress: bool = True,
) -> list[FewShot]:
    """Fit each amount of labelled seconds (None: all) with each seed, and decode the test split.

    Amounts larger than the train split are left out. The valid split stays as it is and decides
    when a fit stops. Raises DataError when no amount is left or several readouts are given,
    ConfigError for the strategy "auto", and all that `finetune` raises.
    """
    pretrained, session = check_model(pretrained), one_session(session)
    check_numbers("amounts", amounts, number(above=0, or_none=True))
    check_numbers("seeds", seeds, SEED)
    _check_single(session, readouts_by_session(readouts))
    config = replace(_settings(strategy), num_trials=None)
    possible = _possible_amounts(session, amounts)
    session.split("test")  # what is missing is refused before the first fit, and too few labels
    for amount in possible:
        window_length = pretrained.config.model.window_length
        labelled_intervals(session, window_length, num_seconds=amount)
    results = []
    for amount in possible:
        for seed in seeds:
            limited = replace(config, num_labelled_seconds=amount, seed=seed)
            fit = finetune(pretrained, [session], limited, readouts=readouts, progress=progress)
            steps = int(fit.history[-1]["step"])
            test_score = evaluate(fit.pretrained, [session]).mean
            results.append(FewShot(amount, seed, steps, fit.valid_score, test_score))
    return results


def _settings(strategy: str | FitConfig) -> FitConfig:
    """Settings of the strategy. Raises ConfigError for "auto" and for an unknown name."""
    if strategy == "auto" or isinstance(strategy, Auto):
        raise ConfigError(
            "a few-shot curve has one strategy, and 'auto' takes another one for each amount."
            f" Choose {', '.join(STRATEGIES)}, or give a FitConfig."
        )
    return choose(strategy)


def _check_single(session: Session, readouts: Mapping[str, Readouts]) -> None:
    """Check that at most one readout of the session is given, since a point has one score."""
    given = each_readout(readouts.get(session.id, ()))
    if len(given) > 1:
        names = ", ".join(repr(readout.name) for readout in given)
        raise DataError(
            f"a few-shot curve is of one output, but session {session.id} is given the readouts"
            f" {names}. Give one of them, and call once for each."
        )


def _possible_amounts(session: Session, amounts: Sequence[float | None]) -> Sequence[float | None]:
    """Amounts that the train split has. Raises DataError when there are none."""
    duration = session.split("train").duration
    possible = [amount for amount in amounts if amount is None or amount <= duration]
    if not possible:
        given = ", ".join(f"{amount:g}" for amount in amounts if amount)
        raise DataError(
            f"the train split of session {session.id} has {duration:g} s, less than the smallest of"
            f" the amounts {given} s. Give smaller ones, or None for all of it."
        )
    return possible
