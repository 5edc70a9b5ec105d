"""What all searches share: bins, trials, and the choice between them.

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
    """One point of a search, and its R2 on the valid split; NaN if that does not vary."""

    settings: dict[str, float]  #: by name
    valid_r2: float  #: R2 of the valid split


class Found(NamedTuple):
    """A finished search, and the test split as its best trial decodes it, in the units of the
    session file.
    """

    trials: list[Trial]
    best: int
    values: np.ndarray  # [samples channels]


class Bins(NamedTuple):
    """Bins around a sample; each lasts a whole number of sampling intervals."""

    ticks: int  # sampling intervals of a bin
    past: int  # bins before the sample
    future: int  # bins after it
    size: float  # s

    def settings(self) -> dict[str, float]:
        return {"bin_size": self.size} | {
            name: round(count * self.size, 6)
            for name, count in (("past", self.past), ("future", self.future))
        }


Reaches = Sequence[tuple[float, float]]  # seconds of spikes before and after a sample


def choose_bins(
    interval: float, sizes: Sequence[float], reaches: Reaches, *, causal: bool
) -> list[Bins]:
    """Every size with every reach that differ at this sampling interval; all in seconds."""
    found = []
    for size, (past, future) in product(sizes, reaches):
        ticks = max(1, round(size / interval))
        size = round(ticks * interval, 6)
        found.append(
            Bins(ticks, max(1, round(past / size)), 0 if causal else round(future / size), size)
        )
    return list(dict.fromkeys(found))


def best_of(trials: Sequence[Trial]) -> int:
    """Position of the trial with the highest valid R2; the first one if none has any."""
    return max(
        range(len(trials)),
        key=lambda i: -math.inf if math.isnan(trials[i].valid_r2) else trials[i].valid_r2,
    )
