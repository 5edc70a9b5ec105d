"""Preset `demo`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)


def demo() -> Config:
    """A model that pretrains on simulated sessions within minutes on two CPU cores.

        $ python -m poyo_jax pretrain demo --data sessions/ --workdir runs/demo

    `make demo` runs 600 of its 1000 steps; docs/start.md has the test R2 that it prints.
    """
    return Config(
        model=ModelConfig(
            dim=32,
            depth=2,
            head_dim=32,
            cross_heads=2,
            self_heads=2,
            num_latents=8,
            feedforward_dropout=0.1,
            residual_dropout=0.1,
            attention_dropout=0.1,
        ),
        data=DataConfig(
            batch_size=32,
            unit_dropout=UnitDropoutConfig(min_units=20, mode_units=40, max_units=60),
            chunk_tokens=128,
        ),
        optim=OptimConfig(
            name="muon",
            learning_rate=5e-3,
            weight_decay=0.05,
            warmup_steps=50,
            clip_norm=1.0,
            unit_start="random",
        ),
        run=RunConfig(
            num_steps=1000,
            eval_every=200,
            save_every=500,
        ),
    )
