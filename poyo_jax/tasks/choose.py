"""Find the task of an output, and use the tasks of all outputs of a model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int8

from poyo_jax.config import ModelConfig, OutputConfig
from poyo_jax.errors import ConfigError
from poyo_jax.import_path import resolve_with
from poyo_jax.tasks.interface import Metric, Task, namespace

_MEMBERS = (
    *("metric", "output_size", "normalise", "loss", "predict"),
    *("kind", "other_metrics", "target_size", "details", "average"),
)

SHORTFALL = Metric(
    name="shortfall",
    label="mean shortfall",
    text="mean shortfall",
    higher_is_better=False,
    perfect=0.0,
    sums=lambda targets, values, readout: np.zeros(1),
    score=lambda sums: float("nan"),
)
"""By which a model of several outputs is chosen: how far the score of an output is from a perfect
one, its mean over outputs. It has no sums of its own.
"""


def choose_task(config: ModelConfig | OutputConfig) -> Task:
    """Return the task that `config.task` names.

    Raises:
        ConfigError: the path names no class, or one that is not a task (import_path.py), or the
            model has several outputs.
    """
    if isinstance(config, ModelConfig) and len(config.all_outputs) > 1:
        names = ", ".join(output.name for output in config.all_outputs)
        raise ConfigError(
            f"the model has several outputs ({names}), each with a task of its own. Choose one of"
            " config.outputs."
        )
    advice = "poyo_jax.tasks.Task, or from one of poyo_jax.tasks such as poyo_jax.tasks.Regression"
    kind = resolve_with(config.task, "ModelConfig.task", _MEMBERS, "a task", advice)
    return kind()


def choosing_metric(config: ModelConfig) -> Metric:
    """Metric by which models are chosen: that of the only output, or else SHORTFALL."""
    first, *others = tasks_of(config)
    return SHORTFALL if others else first.metric


def tasks_of(config: ModelConfig) -> tuple[Task, ...]:
    """The task of every output. Raises ConfigError as `choose_task` does."""
    return tuple(choose_task(output) for output in config.all_outputs)


def column_ranges(config: ModelConfig) -> Iterator[slice]:
    """Columns of every output among the values that the model returns for a query."""
    first = 0
    for output in config.all_outputs:
        last = first + choose_task(output).output_size(output.num_channels)
        yield slice(first, last)
        first = last


def num_columns(config: ModelConfig) -> int:
    """Number of values that the model returns for a query."""
    return max(columns.stop for columns in column_ranges(config))


def average(
    task: Task, outputs: Float[np.ndarray, "members samples outputs"]
) -> Float[np.ndarray, "samples outputs"]:
    """Outputs of an ensemble (`Task.average`), or those of the only member as they are."""
    return outputs[0] if len(outputs) == 1 else task.average(outputs)


def query_losses(
    config: ModelConfig,
    outputs: Float[Any, "windows queries outputs"],
    targets: Float[Any, "windows queries targets"],
    query_outputs: Int8[Any, "windows queries"] | None,
) -> Float[Any, "windows queries"]:
    """Loss of every query, by the task of its output.

    `query_outputs` are the numbers of the queries' outputs; None if the model has only one.
    """
    if query_outputs is None:
        return choose_task(config.all_outputs[0]).loss(outputs, targets)
    xp = namespace(outputs)
    losses = xp.zeros_like(outputs[..., 0])
    columns = column_ranges(config)
    for number, (output, own) in enumerate(zip(config.all_outputs, columns, strict=True)):
        task = choose_task(output)
        asked = query_outputs == number
        size = task.target_size(output.num_channels)
        # The targets of other outputs may be none of this one, and lead to a loss that is not
        # finite, whose gradient is not zero even where the loss is left out.
        own_targets = xp.where(asked[..., None], targets[..., :size], 0)
        losses = xp.where(asked, task.loss(outputs[..., own], own_targets), losses)
    return losses
