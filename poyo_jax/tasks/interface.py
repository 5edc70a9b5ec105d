"""Interfaces of a task and of a metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from poyo_jax.types import Kind, Readout


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Score of predictions, computed from sums so that several processes can add theirs."""

    name: str  #: in the keys of files and of `Pretrained.metrics`, e.g. "r2" in "valid_r2"
    label: str  #: in figures and progress, e.g. "R²"
    text: str  #: in what commands print, e.g. "R2"
    higher_is_better: bool  #: direction of the score
    perfect: float  #: score of predictions without error; no score is better
    sums: Callable[[np.ndarray, np.ndarray, Readout], np.ndarray]
    """(targets [samples, channels], values [samples, channels], readout) -> an array; the arrays of
    several sets of samples of one session are added.
    """
    score: Callable[[np.ndarray], float]  #: sums -> score; NaN when it is not defined

    def key(self, split: str) -> str:
        """Key of the score of a split in files, e.g. "valid_r2"."""
        return f"{split}_{self.name}"

    def rank(self, score: float) -> float:
        """Return a number that is the higher, the better the score is."""
        return score if self.higher_is_better else -score

    def shortfall(self, score: float) -> float:
        """Distance of the score to a perfect one, at least 0: 1 - R2 for R2."""
        return self.perfect - score if self.higher_is_better else score - self.perfect


@runtime_checkable
class Task(Protocol):
    """Interface of a task class; an instance is made without arguments.

    Derive from this class, or from one of poyo_jax.tasks, to get the members that have a default.
    Make it a frozen dataclass without fields, or a class of the same kind: tasks are compared,
    hashed and sent to other processes.
    """

    kind: ClassVar[Kind] = "continuous"  #: kind of the readouts that it decodes
    other_metrics: ClassVar[tuple[Metric, ...]] = ()  #: beside `metric`, for information

    @property
    def metric(self) -> Metric:
        """Metric of the predictions, by which models are chosen."""
        ...

    def output_size(self, num_channels: int) -> int:
        """Number of values that the model returns for a query of an output of `num_channels`."""
        ...

    def target_size(self, num_channels: int) -> int:
        """Number of values of a target of an output of `num_channels`."""
        return num_channels

    def normalise(
        self, values: Float[np.ndarray, "samples columns"], readout: Readout
    ) -> Float[np.ndarray, "samples targets"]:
        """Convert values in the units of the session file to targets; NaN where none was measured.

        Raises DataError for values that the readout does not allow.
        """
        ...

    def loss(
        self,
        outputs: Float[Any, "windows queries outputs"],
        targets: Float[Any, "windows queries targets"],
    ) -> Float[Any, "windows queries"]:
        """Loss of every query, from normalised targets; the caller weights and sums it.

        It must be finite for a target of zeros, which stands where there is none.
        """
        ...

    def predict(
        self, outputs: Float[np.ndarray, "samples outputs"], readout: Readout
    ) -> Float[np.ndarray, "samples columns"]:
        """Convert outputs, averaged over windows, to values in the units of the session file."""
        ...

    def details(
        self, outputs: Float[np.ndarray, "samples outputs"], readout: Readout
    ) -> Mapping[str, Float[np.ndarray, "samples _columns"]]:
        """What a `Prediction` holds beside the values, by field, in the units of the field."""
        return {}

    def average(
        self, outputs: Float[np.ndarray, "members samples outputs"]
    ) -> Float[np.ndarray, "samples outputs"]:
        """Outputs of an ensemble, normalised as those of its members; by default their mean.

        `predict` and `details` make of them what the members decode on average.
        """
        return outputs.mean(axis=0)


def namespace(array: Any) -> Any:
    """Functions of numpy or jax.numpy, whichever the array belongs to."""
    return array.__array_namespace__()
