"""The strategies of adapting, by name, and the settings of each."""

from poyo_jax.errors import ConfigError, suggest
from poyo_jax.fit_config import FitConfig

STRATEGIES: dict[str, FitConfig] = {
    # The backbone stays as it is (Azabou et al. 2023, section 2.4).
    "unit_identification": FitConfig(),
    # Unit identification, then everything ("gradual unfreezing" of the same section).
    "gradual": FitConfig(num_steps=600, unit_steps=200, backbone_rates={"": 1e-3}),
    "full": FitConfig(num_steps=600, backbone_rates={"": 3e-4}),
    "lora": FitConfig(num_steps=600, unit_steps=200, backbone_rates={"": 3e-4}, rank=8),
    "from_scratch": FitConfig(
        num_steps=400,
        learning_rate=0.15,
        prior_weight=0.0,
        fresh=True,
        backbone_rates={"": 3e-3},
        weight_decay=0.05,
        patience=20,
    ),
}


def choose(strategy: str | FitConfig) -> FitConfig:
    """The settings of a strategy. Raises ConfigError for a name that none has."""
    if isinstance(strategy, FitConfig):
        return strategy
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"there is no strategy {strategy!r}.{suggest(strategy, STRATEGIES)} Choose"
            f" {', '.join(STRATEGIES)}, or give a FitConfig."
        )
    return STRATEGIES[strategy]
