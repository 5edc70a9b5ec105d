"""Samples of a behaviour that train, tune and score a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from poyo_jax.config import ModelConfig
from poyo_jax.data.classes import readout_values
from poyo_jax.data.given import check_length, check_spikes
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import class_weights, sample_weights
from poyo_jax.data.session import SPLITS, Session
from poyo_jax.data.spike_counts import Times
from poyo_jax.errors import DataError
from poyo_jax.tasks import ACCURACY, DEVIANCE, R2, Counts, Metric
from poyo_jax.types import Kind, Prediction, Readout

METRICS: dict[Kind, Metric] = {"continuous": R2, "classes": ACCURACY, "counts": DEVIANCE}
FITTING: dict[Kind, str] = {
    "continuous": "wiener, kalman, mlp or gru",
    "classes": "logistic or discriminant",
    "counts": "poisson",
}


@dataclass(frozen=True, eq=False)
class Samples:
    """The behaviour of a session, and the masks of its splits."""

    session: Session
    readout: Readout
    times: Times  # s of session time
    # in the units of the session file; NaN where not measured
    targets: Float64[np.ndarray, "samples channels"]
    # by split: "train" has all that were measured, "valid" and "test" all that are scored
    masks: dict[str, Bool[np.ndarray, " samples"]]

    @classmethod
    def read(
        cls,
        session: Session,
        readout: Readout,
        labels: Intervals | None = None,
        kind: Kind = "continuous",
        splits: Sequence[str] = SPLITS,
    ) -> "Samples":
        """Read the samples of the splits, by default train, valid and test.

        Valid and test samples are those that `poyo_jax.evaluate` scores: measured, and inside the
        readout's evaluation interval. With `labels`, only the train samples inside them count.
        Classes are positions among those of the readout.

        Raises:
            DataError: a readout of another `kind`; counts that are none; a split or labels without
            two such samples, a train split without spikes, or a session shorter than the usual
            window of a model.
            SessionError: the session lacks the behaviour or the evaluation interval.
        """
        if readout.kind != kind:
            raise DataError(
                f"the readout {readout.name!r} has {readout.kind} values, but this baseline decodes"
                f" {kind} ones. Choose {FITTING[readout.kind]}, or another readout."
            )
        check_length(session, ModelConfig.window_length)
        check_spikes(session)
        behaviour = session.behaviour(readout.value_key)
        times = behaviour.times_at(np.arange(behaviour.count))
        targets = readout_values(behaviour, readout, 0, behaviour.count)
        if kind == "counts":
            targets = Counts().normalise(targets, readout)
        masks = {}
        for split in splits:
            masks[split] = _mask(session, readout, split, times, targets)
        if labels is not None:
            masks["train"] &= labels.contains(times)
            _check_labels(session, labels, masks["train"])
        return cls(session, readout, times, targets, masks)

    def of(self, split: str) -> tuple[Times, Float64[np.ndarray, "samples channels"]]:
        """Times and targets of the samples of a split."""
        mask = self.masks[split]
        return self.times[mask], self.targets[mask]

    @property
    def metric(self) -> Metric:
        """Metric of the scores."""
        return METRICS[self.readout.kind]

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
        """Weights of the train samples by the readout. Raises DataError if all are zero."""
        times = self.times[self.masks["train"]]
        weights = sample_weights(self.session, self.readout, times)
        if self.readout.class_weights:
            positions = self.targets[self.masks["train"], 0].astype(int)
            weights *= class_weights(self.readout)[positions]
        if not weights.sum() > 0:
            raise DataError(
                f"all {len(weights)} train samples of session {self.session.id} have weight 0;"
                " check the readout's weights."
            )
        return weights

    def prediction(
        self, split: str, values: np.ndarray, probabilities: np.ndarray | None = None
    ) -> Prediction:
        """Prediction from the decoded `values` [samples, channels] of a split."""
        mask = self.masks[split]
        return Prediction(
            session_id=self.session.id,
            times=self.times[mask],
            values=np.asarray(values, np.float64),
            targets=self.targets[mask],
            scored=np.ones(int(mask.sum()), bool),
            output=self.readout.name,
            quantity=self.session.behaviour(self.readout.value_key).quantity,
            kind=self.readout.kind,
            classes=self.readout.classes,
            probabilities=probabilities,
        )


def _check_labels(session: Session, labels: Intervals, mask: Bool[np.ndarray, " samples"]) -> None:
    """Raise DataError unless the labels hold two measured samples of the train split."""
    if mask.sum() < 2:
        raise DataError(
            f"{labels.duration:g} s of labels of session {session.id} hold {mask.sum()} measured"
            " samples of its train split, but a baseline needs at least 2; label more, or other"
            " times."
        )


def _mask(
    session: Session, readout: Readout, split: str, times: Times, targets: np.ndarray
) -> Bool[np.ndarray, " samples"]:
    """Mask of the measured samples of a split; outside of training, only those that are scored."""
    measured = np.isfinite(targets).all(axis=1)
    mask = session.split(split).contains(times) & measured
    if split != "train" and readout.eval_interval is not None:
        mask &= session.intervals(readout.eval_interval).contains(times)
    if mask.sum() < 2:
        raise DataError(
            f"session {session.id} has {mask.sum()} samples of {readout.value_key} in its {split}"
            " split, but a baseline needs at least 2; check the split and the evaluation interval"
            " of the readout."
        )
    return mask
