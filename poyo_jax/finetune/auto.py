"""Choose a strategy by cross-validation on the labels: `Auto`, `Choice`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np

from poyo_jax.checks import SEED, check_fields, integer, number
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.finetune.floor import wiener_scores
from poyo_jax.finetune.labels import cut_folds, labelled_intervals
from poyo_jax.finetune.loop import run_fit
from poyo_jax.finetune.setup import Known, set_up
from poyo_jax.finetune.starts import StartFrom
from poyo_jax.finetune.strategies import STRATEGIES
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained
from poyo_jax.tasks import R2, Metric
from poyo_jax.types import Readouts


class Given(TypedDict):
    """What `finetune` was given beside the model, the sessions and the strategy."""

    readouts: Mapping[str, Readouts]
    start_from: StartFrom | None
    known: Known
    progress: bool


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Settings of the choice of a strategy by cross-validation.

    The labels of every session are cut into folds. Each strategy learns from all folds but one and
    is scored on that one, which also starts and ends the fit, as a valid split does: the scores
    compare strategies, and promise a little too much. A strategy that moves less of the model is
    kept unless another one is better by more than the standard error of the difference over the
    folds.
    """

    num_labelled_seconds: float | None = None
    """Seconds of each session's train split to learn from, drawn at random; None takes all."""
    num_trials: int | None = None
    """Trials of each session's train split to learn from, drawn at random; None takes all."""
    num_folds: int = 3
    """Number of folds; every strategy is fitted once for each."""
    seed: int = 0
    """Seed of initial rows, windows, labels and dropout."""

    def __post_init__(self):
        check_fields(
            self,
            num_labelled_seconds=number(above=0, or_none=True),
            num_trials=integer(1, or_none=True),
            num_folds=integer(2, 20),
            seed=SEED,
        )

    def config(self, strategy: str) -> FitConfig:
        """The settings of a named strategy, with these labels and this seed."""
        return replace(
            STRATEGIES[strategy],
            num_labelled_seconds=self.num_labelled_seconds,
            num_trials=self.num_trials,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The strategy that cross-validation took, and the scores that made it do so."""

    strategy: str
    config: FitConfig  #: settings of the strategy, for all labels
    metric: Metric  #: of the scores
    scores: Mapping[str, tuple[float, ...]]  #: score of every fold, by strategy
    wiener: tuple[float, ...]
    """R2 of a Wiener filter in every fold; empty if none can be fitted or the metric is not R2."""

    def __str__(self) -> str:
        means = {name: float(np.nanmean(scores)) for name, scores in self.scores.items()}
        own = means.pop(self.strategy)
        if self.wiener:
            means["Wiener filter"] = float(np.mean(self.wiener))
        others = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        text = (
            f"auto takes {self.strategy!r}: {self.metric.label} {own:.3f} in"
            f" {len(self.scores[self.strategy])}-fold cross-validation on the labels ({others})."
        )
        if self.metric is R2 and max(own, *means.values()) <= 0:
            text += " None of them decodes these labels better than their mean does: record more."
        elif means.get("Wiener filter", -math.inf) > own:
            text += " The Wiener filter decodes these labels better: prefer it, or record more."
        return text


def fitting(config: FitConfig, given: Given) -> Given:
    """What a fit is given: a new model has no known rows from which it could start."""
    return {**given, "start_from": None} if config.fresh else given


def choose_by_folds(
    pretrained: Pretrained, sessions: Sequence[Session], auto: Auto, **given: Unpack[Given]
) -> Choice:
    """Score strategies on held-out labels, and take one.

    Raises DataError when a session has too few labels for the folds; other errors are those of
    `finetune`.
    """
    setup = set_up(pretrained, sessions, auto.config("head"), given["readouts"], given["known"])
    first = "head" if setup.new_heads else "unit_identification"
    names = (first, "gradual", "from_scratch")
    scores: dict[str, list[float]] = {name: [] for name in names}
    wiener: list[float] = []
    for fold in range(auto.num_folds):
        inner = [_hold_out(pretrained, session, auto, fold) for session in sessions]
        for name in names:
            config = replace(auto.config(name), num_labelled_seconds=None, num_trials=None)
            title = f"{name}, fold {fold + 1} of {auto.num_folds}"
            setup, history = run_fit(
                pretrained, inner, config, title=title, **fitting(config, given)
            )
            scores[name].append(history.scores.get(setup.metric.key("valid"), math.nan))
        if setup.metric is R2:
            wiener += wiener_scores(setup)
    taken = _take(scores, setup.metric)
    return Choice(
        strategy=taken,
        config=auto.config(taken),
        metric=setup.metric,
        scores={name: tuple(values) for name, values in scores.items()},
        wiener=tuple(wiener),
    )


def _hold_out(pretrained: Pretrained, session: Session, auto: Auto, fold: int) -> Session:
    """The session with one fold of its labels as valid split, and the others as train split."""
    window_length = pretrained.config.model.window_length
    labels = labelled_intervals(
        session,
        window_length,
        num_seconds=auto.num_labelled_seconds,
        num_trials=auto.num_trials,
        seed=auto.seed,
    )
    folds = cut_folds(labels, window_length, auto.num_folds)
    if not len(folds[-1]):
        raise DataError(
            f"{labels.duration:g} s of labels of session {session.id} are too few for"
            f" {auto.num_folds} folds of windows of {window_length:g} s. Name a strategy, such as"
            " 'unit_identification', or label more."
        )
    held = folds[fold]
    return session.with_splits(
        train=labels.subtract(held), valid=held, test=Intervals.from_pairs([])
    )


def _take(scores: Mapping[str, Sequence[float]], metric: Metric) -> str:
    """The first strategy that no other beats by more than the standard error of the difference.

    Raises DataError when fewer than two folds have a score.
    """
    errors = {name: np.array([*map(metric.shortfall, some)]) for name, some in scores.items()}
    scored = np.isfinite(sum(errors.values()))
    if np.sum(scored) < 2:
        raise DataError(
            f"cross-validation has no {metric.label} for {np.sum(~scored)} of {np.size(scored)}"
            " folds of the labels: behaviour that is constant or not measured has no score. Name a"
            " strategy, such as 'unit_identification', or label more."
        )

    def beats(one: str, other: str) -> bool:
        gaps = (errors[other] - errors[one])[scored]
        return bool(np.mean(gaps) > np.std(gaps, ddof=1) / len(gaps) ** 0.5)

    # The one of the best mean is never beaten.
    return next(name for name in errors if not any(beats(other, name) for other in errors))
