"""Tasks: how an output of the model is trained and scored.

A `Readout` says where the behaviour of a session comes from. A task says what the model makes of
it: width of the output, loss, scale and metric. `OutputConfig.task` names the task by its import
path. Nothing here imports jax: losses use the functions of the arrays that they get.
"""

from poyo_jax.tasks.choose import SHORTFALL, choose_task
from poyo_jax.tasks.classes import ACCURACY, BALANCED_ACCURACY, Classes
from poyo_jax.tasks.counts import DEVIANCE, Counts
from poyo_jax.tasks.gaussian import Gaussian
from poyo_jax.tasks.interface import Metric, Task
from poyo_jax.tasks.regression import R2, Regression

__all__ = [
    "ACCURACY",
    "BALANCED_ACCURACY",
    "DEVIANCE",
    "R2",
    "SHORTFALL",
    "Classes",
    "Counts",
    "Gaussian",
    "Metric",
    "Regression",
    "Task",
    "choose_task",
]
