"""Classification: decode which of several classes a sample belongs to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.tasks.interface import Metric, Task, namespace
from poyo_jax.types import Kind, Readout


def confusion(
    targets: Float[np.ndarray, "samples 1"],
    values: Float[np.ndarray, "samples 1"],
    readout: Readout,
) -> Float64[np.ndarray, "classes classes"]:
    """Count samples by their class (rows) and the decoded one (columns)."""
    return count_pairs(targets, values, len(readout.classes))


def count_pairs(
    targets: Float[np.ndarray, "samples 1"], values: Float[np.ndarray, "samples 1"], size: int
) -> Float64[np.ndarray, "{size} {size}"]:
    """Count samples by their class (rows) and the decoded one (columns), of `size` classes."""
    pairs = targets[:, 0].astype(int) * size + values[:, 0].astype(int)
    return np.bincount(pairs, minlength=size * size).reshape(size, size).astype(float)


def accuracy(counts: Float64[np.ndarray, "classes classes"]) -> float:
    """Share of samples whose class is right; NaN without samples."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else math.nan


def balanced_accuracy(counts: Float64[np.ndarray, "classes classes"]) -> float:
    """Mean over the classes that occur of the share of their samples that is right."""
    of_class = counts.sum(axis=1)
    occurs = of_class > 0
    if not occurs.any():
        return math.nan
    return float((np.diag(counts)[occurs] / of_class[occurs]).mean())


ACCURACY = Metric(
    name="accuracy",
    label="accuracy",
    text="accuracy",
    higher_is_better=True,
    perfect=1.0,
    sums=confusion,
    score=accuracy,
)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    label="balanced accuracy",
    text="balanced accuracy",
    higher_is_better=True,
    perfect=1.0,
    sums=confusion,
    score=balanced_accuracy,
)


@dataclass(frozen=True)
class Classes(Task):
    """Cross-entropy of the classes of a readout, scored by accuracy.

    Values, targets and predictions alike are positions in `readout.classes`.
    """

    kind: ClassVar[Kind] = "classes"  #: of its readouts
    other_metrics: ClassVar[tuple[Metric, ...]] = (BALANCED_ACCURACY,)  #: for information

    @property
    def metric(self) -> Metric:
        """Share of samples whose class is right."""
        return ACCURACY

    def output_size(self, num_channels: int) -> int:
        """One logit a class."""
        return num_channels

    def target_size(self, num_channels: int) -> int:
        """One: the number of the class."""
        return 1

    def normalise(
        self, values: Float[np.ndarray, "samples 1"], readout: Readout
    ) -> Float[np.ndarray, "samples 1"]:
        """The numbers of the classes, as they are."""
        return values

    def loss(
        self,
        outputs: Float[Any, "windows queries classes"],
        targets: Float[Any, "windows queries 1"],
    ) -> Float[Any, "windows queries"]:
        """Cross-entropy, in nats, of classes given by their positions."""
        xp = namespace(outputs)
        log_shares = _log_softmax(outputs)
        likelihoods = xp.take_along_axis(log_shares, targets.astype(int), axis=-1)
        return -likelihoods[..., 0]

    def predict(
        self, outputs: Float[np.ndarray, "samples classes"], readout: Readout
    ) -> Float64[np.ndarray, "samples 1"]:
        """Position of the likeliest class."""
        return outputs.argmax(axis=-1)[:, None].astype(float)

    def details(
        self, outputs: Float[np.ndarray, "samples classes"], readout: Readout
    ) -> Mapping[str, Float[np.ndarray, "samples classes"]]:
        """Probability of every class [samples, classes], by the positions of the classes."""
        return {"probabilities": np.exp(_log_softmax(outputs))}

    def average(
        self, outputs: Float[np.ndarray, "members samples classes"]
    ) -> Float[np.ndarray, "samples classes"]:
        """Logarithm of the mean probability of every class."""
        return np.logaddexp.reduce(_log_softmax(outputs), axis=0) - math.log(len(outputs))


def _log_softmax(outputs: Any) -> Any:
    xp = namespace(outputs)
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
