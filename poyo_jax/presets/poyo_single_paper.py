"""Preset `poyo_single_paper`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)


def poyo_single_paper() -> Config:
    """POYO of one session with the published recipe: LAMB, a constant and then a cosine rate.

        $ python -m poyo_jax pretrain poyo_single_paper --data sessions/ --workdir runs/paper

    Hours: not measured. Test R2 on the paper's sessions: not measured here.
    """
    return Config(
        model=ModelConfig(
            dim=64,
            depth=6,
            num_latents=16,
            feedforward_dropout=0.2,
            residual_dropout=0.4,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=128,
            unit_dropout=UnitDropoutConfig(min_units=60, mode_units=300, max_units=1000),
        ),
        optim=OptimConfig(
            name="sparse_lamb",
            learning_rate=0.004,
            weight_decay=1e-4,
            pct_start=0.5,
            unit_start="random",
        ),
        run=RunConfig(
            num_steps=10_000,
        ),
    )
