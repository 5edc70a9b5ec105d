"""Bins and trials that all searches share, and the choice of the best trial.

A search sees the labels of the train and valid splits only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from poyo_jax.checks import check_numbers, number
from poyo_jax.errors import ConfigError, DataError

LONGEST_REACH = 60  # s
BIN_SECONDS = number(above=0, at_most=10)


@dataclass(frozen=True)
class Trial:
    """Point of a search, and its score on the valid split; NaN if its training diverged."""

    settings: dict[str, float]  #: by name
    valid_score: float  #: on the valid split: R2, accuracy of classes, explained deviance of counts

    @property
    def valid_r2(self) -> float:
        """The score, as it is called where it is R2."""
        return self.valid_score


class SearchResult(NamedTuple):
    """Result of a search: all trials, and the test split decoded by the best one."""

    trials: list[Trial]
    best: int  # position of the best trial
    values: np.ndarray  # [samples channels], in the units of the session file
    probabilities: np.ndarray | None = None  # of classes [samples classes]


class Bins(NamedTuple):
    """Bins around a sample; each lasts a whole number of sampling intervals."""

    ticks: int  # sampling intervals of a bin
    past: int  # bins before the sample
    future: int  # bins after it
    size: float  # s

    def settings(self) -> dict[str, float]:
        """Settings of a trial, in seconds."""
        past = round(self.past * self.size, 6)
        future = round(self.future * self.size, 6)
        return {"bin_size": self.size, "past": past, "future": future}


Reaches = Sequence[tuple[float, float]]  # seconds of spikes before and after a sample


def check_bins(search: Any) -> None:
    """Check the `bin_sizes` and `reaches` of a search. Raises ConfigError."""
    kind = type(search).__name__
    check_numbers(f"{kind}.bin_sizes", search.bin_sizes, BIN_SECONDS)
    if not len(search.reaches):
        raise ConfigError(
            f"{kind}.reaches is empty; give at least one pair: the seconds of spikes before and"
            " after a sample."
        )
    for place, reach in enumerate(search.reaches):
        name = f"{kind}.reaches[{place}]"
        check_numbers(name, reach, number(at_least=0, at_most=LONGEST_REACH))
        if len(reach) != 2:
            raise ConfigError(
                f"{name} has {len(reach)} numbers; it must have two: the seconds of spikes before"
                " and after a sample."
            )


def choose_bins(
    interval: float, sizes: Sequence[float], reaches: Reaches, *, causal: bool
) -> list[Bins]:
    """Bins of every size and reach that differ at this sampling interval; all in seconds."""
    bins = []
    for size, (past, future) in product(sizes, reaches):
        ticks = max(1, round(size / interval))
        whole_size = round(ticks * interval, 6)
        bins_before = max(1, round(past / whole_size))
        bins_after = 0 if causal else round(future / whole_size)
        bins.append(Bins(ticks, bins_before, bins_after, whole_size))
    return list(dict.fromkeys(bins))


def best_of(trials: Sequence[Trial]) -> int:
    """Position of the trial with the highest score. Raises DataError if all are NaN."""
    return best_position([trial.valid_score for trial in trials], "valid scores of the trials")


def best_position(scores: Sequence[float], what: str) -> int:
    """Position of the highest score, the first of equal ones; NaN never wins.

    Raises DataError if no score is a number; `what` names the scores.
    """
    known = [-math.inf if math.isnan(score) else score for score in scores]
    best = max(known, default=-math.inf)
    if best == -math.inf:
        raise DataError(
            f"none of the {len(known)} {what} is a number, so none of them is the best. Look for"
            " extreme values in the targets, or for units and splits without spikes."
        )
    return known.index(best)
