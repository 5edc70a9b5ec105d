"""Result of fitting a baseline."""

import math
from dataclasses import dataclass, field

from poyo_jax.baselines.search import Trial
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
    valid_r2: float  #: of the trial that was chosen
    prediction: Prediction = field(repr=False)  #: of the samples of the test split that are scored

    @property
    def r2(self) -> dict[str, float]:
        """R2 of the splits "valid" and "test", over the samples that `poyo_jax.evaluate` scores."""
        return {"valid": self.valid_r2, "test": self.prediction.r2}

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
