"""The result of a fit: `FitResult`, and the adapted model that it holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from poyo_jax.data.vocab import VocabReport
from poyo_jax.errors import DataError
from poyo_jax.finetune.auto import Choice
from poyo_jax.finetune.history import FitHistory
from poyo_jax.finetune.setup import FitSetup
from poyo_jax.finetune.tables import add_fitted_rows
from poyo_jax.pretrained import Pretrained
from poyo_jax.tasks import R2


@dataclass(frozen=True, eq=False)
class FitResult:
    """Result of a fit."""

    pretrained: Pretrained  #: knows the old and the new sessions; the parameters that were kept
    history: list[dict[str, float]]
    """Evaluations: step, loss (mean since the last evaluation; NaN at step 0), the validation score
    (`valid_r2` for regression; NaN without a valid split), and seconds since the fit began,
    compilation included.
    """
    units: VocabReport  #: units that were known before, and new ones
    sessions: VocabReport  #: sessions that were known before, and new ones
    _setup: FitSetup = field(repr=False)  #: what the fit was given
    _snapshots: Mapping[int, dict] = field(repr=False)  #: parameters by step
    choice: Choice | None = None  #: the strategy that "auto" took, and why

    @classmethod
    def of(cls, setup: FitSetup, history: FitHistory, choice: Choice | None = None) -> "FitResult":
        """The result of a finished fit."""
        adapted = adapted_model(setup, history.params, history.scores)
        return cls(
            pretrained=adapted,
            history=history.entries,
            units=VocabReport.compare(setup.pretrained.units, adapted.units),
            sessions=VocabReport.compare(setup.pretrained.sessions, adapted.sessions),
            _setup=setup,
            _snapshots=history.snapshots,
            choice=choice,
        )

    @property
    def steps(self) -> list[int]:
        """Steps that `snapshots` and `at` know; none without `keep_snapshots`."""
        return sorted(self._snapshots)

    @property
    def snapshots(self) -> dict[int, Float[np.ndarray, "units dim"]]:
        """Fitted unit rows by step; empty without `keep_snapshots`."""
        rows = {}
        for step, params in self._snapshots.items():
            rows[step] = np.array(params["unit_embedding"])[1:]
        return rows

    def at(self, step: int) -> Pretrained:
        """The model after `step` steps, one of `steps`. Raises DataError for another step."""
        if step not in self._snapshots:
            kept = ", ".join(map(str, self.steps)) or "none; fit with keep_snapshots=True"
            raise DataError(f"the fit kept no snapshot of step {step!r}; it has {kept}.")
        (entry,) = [entry for entry in self.history if entry["step"] == step]
        scores = {name: value for name, value in entry.items() if name.startswith("valid_")}
        return adapted_model(self._setup, self._snapshots[step], scores)

    @property
    def valid_score(self) -> float:
        """Validation score of the parameters that were kept; NaN without a valid split.

        It is in the metric of the task (R2 for regression), or the mean shortfall of several
        outputs.
        """
        key = self._setup.metric.key("valid")
        return self.pretrained.metrics.get(key, math.nan)

    @property
    def valid_r2(self) -> float:
        """The validation score, if it is R2. Raises DataError for another metric."""
        metric = self._setup.metric
        if metric.name != R2.name:
            raise DataError(
                f"the fit is scored by {metric.label}, not by R2; read `valid_score` of the result."
            )
        return self.valid_score

    def save(self, path: str | Path) -> None:
        """Write the adapted model to a folder that `poyo_jax.load` reads."""
        self.pretrained.save(path)


def adapted_model(setup: FitSetup, params: dict, scores: Mapping[str, float]) -> Pretrained:
    """The model with the fitted parameters; rows of other units and sessions are unchanged."""
    old = setup.pretrained
    units = old.units.merge(setup.units)
    sessions = old.sessions.merge(setup.sessions)
    backbone = old.params["backbone"]
    if setup.config.backbone_rates or setup.new_heads:
        backbone = jax.tree.map(jnp.asarray, jax.device_get(params["backbone"]))
    unit_table = add_fitted_rows(
        old.params["unit_embedding"], units, setup.units, params["unit_embedding"][1:]
    )
    session_table = add_fitted_rows(
        old.params["session_embedding"], sessions, setup.sessions, params["session_embedding"][1:]
    )
    calibration = setup.calibration(params)
    of_sessions = dict.fromkeys(setup.sessions.names, calibration) if calibration else {}
    return replace(
        old,
        params={
            "unit_embedding": unit_table,
            "session_embedding": session_table,
            "backbone": backbone,
        },
        units=units,
        sessions=sessions,
        readouts={**old.readouts, **setup.readouts},
        metrics={name: score for name, score in scores.items() if math.isfinite(score)},
        fit=setup.config,
        calibration={**calibration, **old.calibration},
        session_calibration={**old.session_calibration, **of_sessions},
    )
