"""Evaluate a fit on the valid splits, and keep the best parameters."""

import math
import time

import jax
import numpy as np

from poyo_jax.decoding.score import mean_score, warn_without_score
from poyo_jax.errors import Diverged
from poyo_jax.finetune.setup import FitSetup

# Later parameters are kept if their score misses a perfect one (1 - R2 for R2) by at most this
# share more than the best score does.
TOLERANCE = 0.1


class FitHistory:
    """Evaluations of a fit, and the parameters to keep."""

    def __init__(self, setup: FitSetup, keep_snapshots: bool):
        self.entries: list[dict[str, float]] = []
        self.snapshots: dict[int, dict] = {}  # parameters by step
        self.params: dict = {}  # the latest good ones; without any score, the latest ones
        self.scores: dict[str, float] = {}  # of `params`, by key
        self.num_worse = 0  # consecutive evaluations after the one that is kept
        self._setup, self._keep_snapshots = setup, keep_snapshots
        self._metric = setup.metric
        self._step_metrics: list[dict[str, jax.Array]] = []
        self._least_error = math.inf
        self._began = time.monotonic()

    @property
    def summary(self) -> str:
        """The last evaluation in a few words."""
        last, metric = self.entries[-1], self._metric
        return f"loss {last['loss']:.3f}, valid {metric.label} {last[metric.key('valid')]:.3f}"

    def add_step(self, metrics: dict[str, jax.Array]) -> None:
        """Remember the metrics of a step, without waiting for them."""
        self._step_metrics.append(metrics)

    def evaluate(self, step: int, params: dict) -> None:
        """Score the parameters after `step` steps, and keep them if they are good.

        Raises Diverged when a step since the last evaluation was not finite.
        """
        metrics = jax.device_get(self._step_metrics)
        self._step_metrics = []
        self._check_finite(step, metrics)
        scores = self._setup.valid_scores(params)
        score = scores[self._metric.key("valid")]
        if not self.entries and self._setup.valid:
            warn_without_score(score, self._metric.key("valid"))
        entry = {
            "step": step,
            "loss": mean_score(values["loss"] for values in metrics),
            **scores,
            "seconds": time.monotonic() - self._began,
        }
        self.entries.append(entry)
        if self._keep_snapshots:
            self.snapshots[step] = params
        self._keep(params, scores)

    def _check_finite(self, step: int, metrics: list[dict[str, np.ndarray]]) -> None:
        for values in metrics:
            if not np.isfinite(list(values.values())).all():
                raise Diverged(
                    "the loss or its gradient was not finite at one of the steps"
                    f" {self.entries[-1]['step']} to {step - 1} of the fit. Lower the rates of"
                    " FitConfig, or look for extreme targets in the sessions."
                )

    def _keep(self, params: dict, scores: dict[str, float]) -> None:
        error = self._metric.shortfall(scores[self._metric.key("valid")])
        self._least_error = min(self._least_error, error)
        scored = math.isfinite(self._least_error)
        if error <= (1 + TOLERANCE) * self._least_error and scored:
            self.params, self.scores, self.num_worse = params, scores, 0
        elif scored:
            self.num_worse += 1
        else:
            self.params = params
