"""Settings of a fit: `FitConfig`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from poyo_jax.checks import NOT_NEGATIVE, POSITIVE, SEED, check_fields, integer, number
from poyo_jax.config import BATCH_SIZE, WIDEST, UnitDropoutConfig, require, require_kind


class Stage(NamedTuple):
    """Steps of a fit in which the same parameters learn."""

    first: int
    last: int
    backbone_rates: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of an adaptation. The rows of the new units and sessions always learn."""

    num_steps: int = 400
    """Maximum number of gradient steps."""
    batch_size: int = 32
    """Windows of one step."""
    learning_rate: float = 0.05
    """Peak learning rate of the rows, in the unit of their coordinates: one standard deviation of
    the trained rows, or 1 if coordinates are "plain".
    """
    starts: Literal["informed", "random"] = "informed"
    """Initial rows of new units and sessions. "informed" uses the tuning map, the mean of the
    trained rows, and trained rows that decode the valid split well. "random" draws small random
    rows, as the authors do; only what `start_from` names, and sessions that are refitted, start
    elsewhere.
    """
    coordinates: Literal["trained", "plain"] = "trained"
    """Coordinates in which rows move. In "trained" ones, trained rows vary equally in every
    direction. "plain" ones are the components of the rows, as the authors have it.
    """
    optimizer: Literal["muon", "sparse_lamb"] = "muon"
    """"muon" moves matrices by Muon and all else, rows included, by Adam; the rate warms up and
    then falls to 0. "sparse_lamb" is the authors' LAMB with their schedule: the rate is constant
    for half of the steps, then falls to 0. It needs plain coordinates, no prior, and one rate.
    """
    prior_weight: float = 0.1
    """Weight of the prior, which keeps rows close to their initial values. The loss grows by the
    squared distance in the coordinates, times this weight, divided by the seconds of labels.
    """
    backbone_rates: Mapping[str, float] = field(default_factory=dict)
    """Peak learning rates of the backbone, by the beginning of parameter paths: "" means all of it,
    "head" the head alone. The longest name that fits a path counts. A parameter that no name
    fits is frozen.
    """
    head_rate: float | None = None
    """Peak learning rate of the heads of outputs that the model lacks; they learn from the first
    step on. None refuses sessions with such outputs.
    """
    unit_steps: int = 0
    """Number of first steps in which the rows alone learn."""
    rank: int | None = None
    """Rank of the updates that each matrix of the backbone learns; None learns whole matrices."""
    fresh: bool = False
    """Start from random weights, for comparison. The result knows the new sessions only."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the backbone's matrices; with LAMB, of all that learns."""
    unit_dropout: UnitDropoutConfig | None = None
    """Training windows keep a random subset of the units; None keeps all."""
    num_labelled_seconds: float | None = None
    """Seconds of each session's train split to learn from, drawn at random; None takes all."""
    num_trials: int | None = None
    """Trials of each session's train split to learn from, drawn at random; None takes all."""
    eval_every: int = 25
    """Steps between two evaluations on the valid split."""
    patience: int = 8
    """Stop after this many consecutive evaluations that miss a perfect score (R2 = 1 for
    regression) by over 10 % more than the best.
    In a fit of two stages, this ends the current stage.
    """
    chunk_tokens: int | None = None
    """Tokens of a packed chunk; None takes the pretrained model's."""
    seed: int = 0
    """Seed of initial rows, windows, labels and dropout."""

    def __post_init__(self):
        given = isinstance(self.backbone_rates, Mapping)
        require(self, "backbone_rates", given, "a mapping from paths to rates")
        # A dict, whatever mapping was given: `dataclasses.asdict` and JSON need one.
        object.__setattr__(self, "backbone_rates", dict(self.backbone_rates))
        self._check_numbers()
        self._check_rows()
        self._check_backbone()
        self._check_labels()

    @property
    def stages(self) -> list[Stage]:
        """One stage; or two, if the rows learn alone at first."""
        if not self.unit_steps or not self.backbone_rates:
            return [Stage(0, self.num_steps, self.backbone_rates)]
        return [
            Stage(0, self.unit_steps, {}),
            Stage(self.unit_steps, self.num_steps, self.backbone_rates),
        ]

    def _check_numbers(self) -> None:
        check_fields(
            self,
            num_steps=integer(1),
            batch_size=BATCH_SIZE,
            learning_rate=POSITIVE,
            prior_weight=NOT_NEGATIVE,
            head_rate=number(above=0, or_none=True),
            unit_steps=integer(0),
            rank=integer(1, or_none=True),
            weight_decay=NOT_NEGATIVE,
            num_labelled_seconds=number(above=0, or_none=True),
            num_trials=integer(1, or_none=True),
            eval_every=integer(1),
            patience=integer(1),
            chunk_tokens=integer(8, WIDEST, or_none=True),
            seed=SEED,
        )
        require_kind(self, "unit_dropout", UnitDropoutConfig, or_none=True)
        fewer = self.unit_steps < self.num_steps
        require(self, "unit_steps", fewer, f"below num_steps = {self.num_steps}")

    def _check_rows(self) -> None:
        require(self, "starts", self.starts in ("informed", "random"), "'informed' or 'random'")
        plain = self.coordinates == "plain"
        require(self, "coordinates", plain or self.coordinates == "trained", "'trained' or 'plain'")
        lamb = self.optimizer == "sparse_lamb"
        require(self, "optimizer", lamb or self.optimizer == "muon", "'muon' or 'sparse_lamb'")
        if lamb:
            require(self, "coordinates", plain, "'plain' with the optimiser sparse_lamb")
            no_prior = self.prior_weight == 0
            require(self, "prior_weight", no_prior, "0 with the optimiser sparse_lamb")

    def _check_backbone(self) -> None:
        rates = self.backbone_rates.values()
        positive = all(POSITIVE.allows(rate) for rate in rates)
        require(self, "backbone_rates", positive, "of positive rates")
        if self.optimizer == "sparse_lamb":
            one_rate = all(rate == self.learning_rate for rate in rates)
            expected = f"of rates equal to learning_rate = {self.learning_rate} with sparse_lamb"
            require(self, "backbone_rates", one_rate, expected)
            same = self.head_rate in (None, self.learning_rate)
            require(self, "head_rate", same, f"None or {self.learning_rate} with sparse_lamb")
        frozen = not self.backbone_rates
        no_part = "when no part of the backbone learns (backbone_rates)"
        require(self, "rank", self.rank is None or not frozen, f"None {no_part}")
        require(self, "fresh", not self.fresh or not frozen, f"False {no_part}")

    def _check_labels(self) -> None:
        either = self.num_labelled_seconds is None or self.num_trials is None
        require(self, "num_trials", either, "None when num_labelled_seconds is given")
