"""Which samples of a behaviour train, tune and score a baseline, and the spikes that are counted
around them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout, sample_weights
from poyo_jax.data.session import Session
from poyo_jax.data.spike_counts import Times
from poyo_jax.errors import DataError
from poyo_jax.types import Prediction


@dataclass(frozen=True, eq=False)
class Samples:
    """The behaviour of a session, and the masks of its splits."""

    session: Session
    readout: Readout
    times: Times  # s of session time
    targets: Float32[
        np.ndarray, "samples channels"
    ]  # in the units of the session file; NaN where not measured
    masks: dict[
        str, Bool[np.ndarray, " samples"]
    ]  # "train": all that were measured; "valid", "test": all scored

    @classmethod
    def read(cls, session: Session, readout: Readout, labels: Intervals | None = None) -> "Samples":
        """The samples of train, valid and test; with `labels`, only the part of the train split
        inside them counts.

        Those of valid and test are the ones that `poyo_jax.evaluate` scores: measured, and inside
        the readout's evaluation interval.

        Raises:
            DataError: a split without two such samples.
            SessionError: the session lacks the behaviour or the evaluation interval.
        """
        behaviour = session.behaviour(readout.value_key)
        times, targets = (
            behaviour.times_at(np.arange(behaviour.count)),
            behaviour.values(0, behaviour.count),
        )
        masks = {
            split: _mask(session, readout, split, times, targets)
            for split in ("train", "valid", "test")
        }
        if labels is not None:
            masks["train"] &= labels.contains(times)
        return cls(session, readout, times, targets, masks)

    @property
    def interval(self) -> float:
        """Median time between samples, in seconds. Raises DataError when that is not positive."""
        interval = float(np.median(np.diff(self.times)))
        if not interval > 0:
            raise DataError(
                f"half the samples of {self.readout.value_key} in session {self.session.id} have"
                " the time of their neighbour; a baseline needs increasing times."
            )
        return interval

    def weights(self) -> Float32[np.ndarray, " samples"]:
        """Weights of the train samples as the readout says. Raises DataError when all of them are
        zero.
        """
        weights = sample_weights(self.session, self.readout, self.times[self.masks["train"]])
        if not weights.sum() > 0:
            raise DataError(
                f"all {len(weights)} train samples of session {self.session.id} have weight 0;"
                " check the readout's weights."
            )
        return weights

    def prediction(self, split: str, values: np.ndarray) -> Prediction:
        """What was decoded at the samples of a split [samples, channels], all of which are
        scored.
        """
        mask = self.masks[split]
        scored = np.ones(int(mask.sum()), bool)
        return Prediction(
            self.session.id, self.times[mask], values.astype(np.float32), self.targets[mask], scored
        )


def _mask(
    session: Session, readout: Readout, split: str, times: Times, targets: np.ndarray
) -> Bool[np.ndarray, " samples"]:
    """Mask of the samples of a split that have targets and, unless they train, count in the
    evaluation.
    """
    mask = session.split(split).contains(times) & np.isfinite(targets).all(axis=1)
    if split != "train" and readout.eval_interval is not None:
        mask &= session.intervals(readout.eval_interval).contains(times)
    if mask.sum() < 2:
        raise DataError(
            f"session {session.id} has {mask.sum()} samples of {readout.value_key} in its {split}"
            " split, but a baseline needs at least 2; check the split and the evaluation interval"
            " of the readout."
        )
    return mask
