"""Preset `poyo_small`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)
from poyo_jax.model.rotary import frequencies_between


def poyo_small() -> Config:
    """A model of recordings of minutes, on a laptop: 0.3 M parameters, windows of two seconds.

        $ python -m poyo_jax pretrain poyo_small --data sessions/ --workdir runs/poyo_small

    Hours: not measured for these 2000 steps. Models of one session (`few_sessions(poyo_small())`,
    as many steps as the valid split asks for) reached a mean test R2 of 0.623 on sixteen recordings
    when training windows kept 8 to 120 units:
    `python -m experiments.studies.table2`, "Every recording" in experiments/results/README.md.
    """
    return Config(
        model=ModelConfig(
            dim=64,
            depth=2,
            head_dim=32,
            cross_heads=2,
            self_heads=4,
            num_latents=8,
            latent_step=0.25,
            window_length=2.0,
            frequencies=frequencies_between(0.05, 4.0, 32),
            feedforward_dropout=0.2,
            residual_dropout=0.2,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=32,
            unit_dropout=UnitDropoutConfig(min_units=30, mode_units=150, max_units=400),
            max_queries=64,
            chunk_tokens=128,
        ),
        optim=OptimConfig(
            name="muon",
            learning_rate=3e-3,
            weight_decay=0.05,
            warmup_steps=50,
            clip_norm=1.0,
            unit_start="tuning",
        ),
        run=RunConfig(
            num_steps=2000,
            eval_every=250,
            save_every=250,
        ),
    )
