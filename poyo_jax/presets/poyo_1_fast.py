"""Preset `poyo_1_fast`."""

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)


def poyo_1_fast() -> Config:
    """POYO-1 with our recipe on accelerators: bfloat16 and flash attention.

        $ python -m poyo_jax pretrain poyo_1_fast --data sessions/ --workdir runs/poyo_1_fast

    Flash attention cannot drop attention weights. Feed-forward dropout of 0.3 in place of 0.2
    replaces attention dropout: small models of two recordings lose nothing by it
    (`python -m experiments.studies.attention_dropout DATA`). The chip decides how many windows pass
    the processor at a time (model/hardware.py); docs/scaling.md has bounds for several chips.

    Hours: not measured. Test R2: not measured at this size.
    """
    return Config(
        model=ModelConfig(
            dim=128,
            depth=24,
            cross_heads=4,
            num_latents=32,
            feedforward_dropout=0.3,
            residual_dropout=0.2,
            attention_dropout=0.0,
        ),
        data=DataConfig(
            batch_size=1024,
            unit_dropout=UnitDropoutConfig(min_units=30, mode_units=100, max_units=300),
            max_queries=128,
            short_intervals="drop",
            chunk_tokens=1024,
        ),
        optim=OptimConfig(
            name="muon",
            learning_rate=3e-3,
            weight_decay=0.05,
            warmup_steps=200,
            clip_norm=1.0,
            unit_start="tuning",
        ),
        run=RunConfig(
            num_steps=90_500,
            log_every=100,
            eval_every=5_000,
            save_every=1_000,
            keep_every=20_000,
            compute_dtype="bfloat16",
        ),
    )
