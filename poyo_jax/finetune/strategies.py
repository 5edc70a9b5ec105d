"""Named strategies of adapting: `STRATEGIES`, the settings of each."""

from poyo_jax.config import UnitDropoutConfig
from poyo_jax.errors import ConfigError, suggest
from poyo_jax.fit_config import FitConfig

HEAD_RATE = 1e-2

STRATEGIES: dict[str, FitConfig] = {
    # The backbone is frozen (Azabou et al. 2023, section 2.4).
    "unit_identification": FitConfig(),
    # Unit identification as the authors do it: random rows, LAMB, their schedule and unit dropout.
    # Steps: the length of the published curves. Rate: the one of those on record (1e-4 to 8e-3)
    # whose scores on held-out sessions were published (an independent reproduction).
    "unit_identification_paper": FitConfig(
        num_steps=1200,
        batch_size=128,
        learning_rate=8e-3,
        starts="random",
        coordinates="plain",
        optimizer="sparse_lamb",
        prior_weight=0.0,
        weight_decay=1e-4,
        unit_dropout=UnitDropoutConfig(min_units=60, mode_units=300, max_units=1000),
        eval_every=40,
        patience=30,
    ),
    # The same, and heads of outputs that the model lacks.
    "head": FitConfig(num_steps=600, head_rate=HEAD_RATE),
    # Unit identification, then everything: "gradual unfreezing" of the same section.
    "gradual": FitConfig(
        num_steps=600, unit_steps=200, backbone_rates={"": 1e-3}, head_rate=HEAD_RATE
    ),
    "full": FitConfig(num_steps=600, backbone_rates={"": 3e-4}, head_rate=HEAD_RATE),
    "lora": FitConfig(
        num_steps=600, unit_steps=200, backbone_rates={"": 3e-4}, rank=8, head_rate=HEAD_RATE
    ),
    "from_scratch": FitConfig(
        num_steps=400,
        learning_rate=0.15,
        prior_weight=0.0,
        fresh=True,
        backbone_rates={"": 3e-3},
        head_rate=3e-3,
        weight_decay=0.05,
        patience=20,
    ),
}


def choose(strategy: str | FitConfig, *others: str) -> FitConfig:
    """Return the settings of a strategy; `others` are names that the caller knows beside these.

    Raises ConfigError for an unknown name.
    """
    if isinstance(strategy, FitConfig):
        return strategy
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        names = (*others, *STRATEGIES)
        raise ConfigError(
            f"there is no strategy {strategy!r}.{suggest(strategy, names)} Choose"
            f" {', '.join(names)}, or give a FitConfig."
        )
    return STRATEGIES[strategy]
