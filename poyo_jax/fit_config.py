"""Settings of a fit: `FitConfig`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from poyo_jax.config import UnitDropoutConfig, require


class Stage(NamedTuple):
    """Steps in which the same parameters learn."""

    first: int
    last: int
    backbone_rates: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is adapted. The rows of the new units and sessions always learn."""

    num_steps: int = 400
    """Most gradient steps."""
    batch_size: int = 32
    """Windows of one step."""
    learning_rate: float = 0.05
    """Peak rate of the rows, in standard deviations of the trained rows. All rates warm up shortly
    and fall to 0.
    """
    prior_weight: float = 0.1
    """The squared distance of rows from where they start, in standard deviations of the trained
    rows, is added to the loss with this weight over the seconds of labels: the fewer labels, the
    less do rows depart from what is known.
    """
    backbone_rates: Mapping[str, float] = field(default_factory=dict)
    """Peak rates of parts of the backbone, by the beginning of their paths: "" is all of it, others
    are "readout" or "layers/attention". The longest fitting name counts; what none fits is
    frozen.
    """
    unit_steps: int = 0
    """First steps, in which the rows learn alone."""
    rank: int | None = None
    """Learn updates of this rank to the matrices that have a rate, instead of all their
    parameters.
    """
    fresh: bool = False
    """Start from random weights, for comparison. The result then knows the new sessions only."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the backbone's matrices."""
    unit_dropout: UnitDropoutConfig | None = None
    """Windows keep a random part of the units; None keeps all."""
    num_labelled_seconds: float | None = None
    """Learn from so much of each session's train split, drawn at random; None takes all."""
    num_trials: int | None = None
    """Learn from so many trials of each session's train split, drawn at random; None takes all."""
    eval_every: int = 25
    """Steps between two looks at the validation split."""
    patience: int = 8
    """Looks in a row that leave over a tenth more unexplained than the best one, after which a
    stage ends.
    """
    chunk_tokens: int | None = None
    """Tokens of a packed chunk; None takes the pretrained model's."""
    seed: int = 0
    """Decides initial rows, windows, labels and dropout."""

    def __post_init__(self):
        for name in ("num_steps", "batch_size", "eval_every", "patience"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "learning_rate", self.learning_rate > 0, "positive")
        require(self, "prior_weight", self.prior_weight >= 0, "at least 0")
        require(
            self,
            "backbone_rates",
            all(rate > 0 for rate in self.backbone_rates.values()),
            "of positive rates",
        )
        require(
            self,
            "unit_steps",
            0 <= self.unit_steps < self.num_steps,
            f"below num_steps = {self.num_steps}",
        )
        require(self, "rank", self.rank is None or self.rank >= 1, "at least 1, or None")
        learns = bool(self.backbone_rates)
        require(
            self,
            "rank",
            self.rank is None or learns,
            "None when no part of the backbone learns (backbone_rates)",
        )
        require(
            self,
            "fresh",
            not self.fresh or learns,
            "False when no part of the backbone learns (backbone_rates)",
        )
        require(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        for name in ("num_labelled_seconds", "num_trials"):
            value = getattr(self, name)
            require(self, name, value is None or value > 0, "positive or None")
        either = self.num_labelled_seconds is None or self.num_trials is None
        require(self, "num_trials", either, "None when num_labelled_seconds is given")
        require(self, "seed", self.seed >= 0, "at least 0")

    @property
    def stages(self) -> list[Stage]:
        """The rows alone, if they learn alone at first; then everything that learns."""
        alone = [Stage(0, self.unit_steps, {})] if self.unit_steps and self.backbone_rates else []
        return [*alone, Stage(alone[0].last if alone else 0, self.num_steps, self.backbone_rates)]
