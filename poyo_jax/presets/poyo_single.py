"""Preset `poyo_single`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)


def poyo_single() -> Config:
    """POYO of one session with our recipe: 1.3 M parameters.

        $ python -m poyo_jax pretrain poyo_single --data sessions/ --workdir runs/poyo_single

    Hours: not measured. Test R2 on the paper's sessions: not measured.
    """
    return Config(
        model=ModelConfig(
            dim=64,
            depth=6,
            num_latents=16,
            feedforward_dropout=0.2,
            residual_dropout=0.2,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=128,
            unit_dropout=UnitDropoutConfig(min_units=60, mode_units=300, max_units=1000),
            max_queries=128,
        ),
        optim=OptimConfig(
            name="muon",
            learning_rate=3e-3,
            weight_decay=0.05,
            warmup_steps=200,
            clip_norm=1.0,
            unit_start="random",
        ),
        run=RunConfig(
            num_steps=5_000,
        ),
    )
