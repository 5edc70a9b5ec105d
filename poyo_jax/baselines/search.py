"""Bins and trials that all searches share, and the choice of the best trial.

A search sees the labels of the train and valid splits only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Trial:
    """Point of a search, and its R2 on the valid split; NaN if the valid split does not vary."""

    settings: dict[str, float]  #: by name
    valid_r2: float  #: R2 of the valid split


class SearchResult(NamedTuple):
    """Result of a search: all trials, and the test split decoded by the best one."""

    trials: list[Trial]
    best: int  # position of the best trial
    values: np.ndarray  # [samples channels], in the units of the session file


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
    """Position of the trial with the highest valid R2; the first one if all are NaN."""
    scores = []
    for trial in trials:
        unknown = math.isnan(trial.valid_r2)
        scores.append(-math.inf if unknown else trial.valid_r2)
    return scores.index(max(scores))
