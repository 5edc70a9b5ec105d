"""Score predictions session by session, over all processes."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.distributed.processes import gather
from poyo_jax.metrics import r2_of_sums, r2_sums
from poyo_jax.types import Prediction


def score_sessions(
    predictions: Sequence[Prediction], sources: Sequence[ModelSession]
) -> dict[str, float]:
    """R2 of every session, by id, from the scored samples of all processes.

    NaN when fewer than two samples count or a channel does not vary.
    """
    sums = [
        r2_sums(
            prediction.targets[prediction.scored],
            prediction.values[prediction.scored],
            source.readout.mean,
        )
        for prediction, source in zip(predictions, sources, strict=True)
    ]
    totals = gather(np.stack(sums)).sum(axis=0)
    return {
        source.session.id: r2_of_sums(total) for source, total in zip(sources, totals, strict=True)
    }


def mean_score(scores: Iterable[float]) -> float:
    """Mean of the scores that are not NaN; NaN if none is left."""
    finite = [value for value in scores if not math.isnan(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan
