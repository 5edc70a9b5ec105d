"""Tasks: how an output of the model is trained and scored.

A `Readout` says where the behaviour of a session comes from. A task says what the model makes of
it: width of the output, loss, scale and metric. `ModelConfig.task` names the task by its import
path. Nothing here imports jax: losses use the methods of the arrays that they get.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.config import ModelConfig
from poyo_jax.errors import ConfigError
from poyo_jax.import_path import resolve
from poyo_jax.metrics import r2_of_sums, r2_sums
from poyo_jax.types import Readout


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

    A task need not derive from this class. Make it a frozen dataclass without fields, or a class
    of the same kind: tasks are compared, hashed and sent to other processes.
    """

    @property
    def metric(self) -> Metric:
        """Metric of the predictions."""
        ...

    def output_size(self, num_channels: int) -> int:
        """Number of values that the model returns for a query whose target has `num_channels`."""
        ...

    def normalise(
        self, values: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float[np.ndarray, "samples channels"]:
        """Convert values in the units of the session file to normalised targets."""
        ...

    def loss(
        self,
        outputs: Float[Any, "windows queries outputs"],
        targets: Float[Any, "windows queries channels"],
    ) -> Float[Any, "windows queries"]:
        """Loss of every query, from normalised targets; the caller weights and sums it."""
        ...

    def predict(
        self, outputs: Float[np.ndarray, "samples outputs"], readout: Readout
    ) -> Float[np.ndarray, "samples channels"]:
        """Convert outputs, averaged over windows, to values in the units of the session file."""
        ...


def _session_sums(
    targets: np.ndarray, values: np.ndarray, readout: Readout
) -> Float64[np.ndarray, "4 channels"]:
    return r2_sums(targets, values, readout.mean)


R2 = Metric(
    name="r2",
    label="R²",
    text="R2",
    higher_is_better=True,
    perfect=1.0,
    sums=_session_sums,
    score=r2_of_sums,
)


@dataclass(frozen=True)
class Regression:
    """Regression of a continuous behaviour: squared error of z-scored targets, scored by R2."""

    @property
    def metric(self) -> Metric:
        """R2, the mean over channels."""
        return R2

    def output_size(self, num_channels: int) -> int:
        """One value a channel."""
        return num_channels

    def normalise(
        self, values: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Subtract the mean of the readout and divide by its standard deviation (SD)."""
        return (values - np.array(readout.mean)) / np.array(readout.std)

    def loss(
        self,
        outputs: Float[Any, "windows queries channels"],
        targets: Float[Any, "windows queries channels"],
    ) -> Float[Any, "windows queries"]:
        """Squared error in normalised units (SD squared), its mean over channels."""
        return ((outputs - targets) ** 2).mean(axis=-1)

    def predict(
        self, outputs: Float[np.ndarray, "samples channels"], readout: Readout
    ) -> Float64[np.ndarray, "samples channels"]:
        """Invert `normalise`."""
        return outputs * np.array(readout.std) + np.array(readout.mean)


_MEMBERS = ("metric", "output_size", "normalise", "loss", "predict")


def choose_task(config: ModelConfig) -> Task:
    """Return the task that `config.task` names.

    Raises:
        ConfigError: the path names no class (`import_path.resolve`), or one that is not a task.
    """
    kind = resolve(config.task, "ModelConfig.task")
    missing = [name for name in _MEMBERS if not hasattr(kind, name)]
    if missing:
        raise ConfigError(
            f"ModelConfig.task is {config.task!r}, which is not a task: it has no"
            f" {', '.join(missing)}. A task has all of poyo_jax.tasks.Task; see"
            " poyo_jax.tasks.Regression."
        )
    return kind()
