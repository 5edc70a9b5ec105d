"""Preset `poyo_1_paper`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)


def poyo_1_paper() -> Config:
    """POYO-1 with the published recipe, about 1000 epochs.

        $ python -m poyo_jax pretrain poyo_1_paper --data sessions/ --workdir runs/poyo_1_paper

    Hours: not measured. Test R2: not measured here.
    """
    return Config(
        model=ModelConfig(
            dim=128,
            depth=24,
            cross_heads=4,
            num_latents=32,
            feedforward_dropout=0.2,
            residual_dropout=0.4,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=1024,
            unit_dropout=UnitDropoutConfig(min_units=30, mode_units=100, max_units=300),
            short_intervals="drop",
        ),
        optim=OptimConfig(
            name="sparse_lamb",
            learning_rate=0.032,
            weight_decay=1e-4,
            pct_start=0.5,
            unit_start="random",
        ),
        run=RunConfig(
            num_steps=181_000,
            log_every=100,
            eval_every=5_000,
            save_every=1_000,
            keep_every=20_000,
        ),
    )
