"""Result of fitting a baseline."""

import math
from dataclasses import dataclass, field

from poyo_jax.baselines.search import Trial
from poyo_jax.errors import DataError
from poyo_jax.tasks import R2, Metric
from poyo_jax.types import Prediction


@dataclass(frozen=True, eq=False)
class BaselineResult:
    """Best trial on the valid split, and its prediction of the test split.

    Every baseline has the settings `bin_size`, `past` and `future`, in seconds: a sample is decoded
    from the spikes between `past` before it and `future` after it. `past` is infinite for a Kalman
    filter; a GRU sees at least that much.
    """

    name: str  #: of the baseline
    settings: dict[str, float]  #: of the trial that was chosen
    trials: list[Trial]  #: all of the search, in order
    valid_score: float  #: of the trial that was chosen, in the metric
    prediction: Prediction = field(repr=False)  #: of the samples of the test split that are scored
    metric: Metric = R2  #: R2, accuracy of classes, explained deviance of counts
    test_score: float = math.nan  #: of the prediction, in the metric

    @property
    def scores(self) -> dict[str, float]:
        """Scores of the splits "valid" and "test", over the samples that `evaluate` scores."""
        return {"valid": self.valid_score, "test": self.test_score}

    @property
    def r2(self) -> dict[str, float]:
        """The scores, if they are R2. Raises DataError for another metric."""
        if self.metric.name != R2.name:
            raise DataError(
                f"the baseline is scored by {self.metric.label}, not by R2; read `result.scores`."
            )
        return self.scores

    @property
    def valid_r2(self) -> float:
        """R2 of the trial that was chosen. Raises DataError for another metric."""
        return self.r2["valid"]

    @property
    def causal(self) -> bool:
        """True if a sample is decoded from the spikes before it alone."""
        return self.settings["future"] == 0

    def describe(self) -> str:
        """Sentence with bins, reach and causality."""
        past, future = self.settings["past"], self.settings["future"]
        reach = "all spikes" if math.isinf(past) else f"spikes from {past:g} s"
        side = "causal" if self.causal else f"{future:g} s of look-ahead"
        rest = {
            name: value
            for name, value in self.settings.items()
            if name not in ("bin_size", "past", "future")
        }
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in rest.items())
        return (
            f"{self.name}: bins of {self.settings['bin_size']:g} s, {reach} before a sample,"
            f" {side}; {chosen}"
        )
