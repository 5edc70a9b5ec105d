"""A tiny model and tiny simulated sessions, on which training takes seconds."""

import shlex
from pathlib import Path

from poyo_jax.config import Config, DataConfig, ModelConfig, OptimConfig, RunConfig, UnitDropoutConfig
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session

NUM_STEPS = 150

# What makes the preset "demo" equal to `config()`, for the command line.
OVERRIDES = shlex.split("""
    --config.model.dim 16 --config.model.depth 1 --config.model.head-dim 16 --config.model.cross-heads 1
    --config.model.self-heads 1 --config.model.num-latents 4 --config.model.feedforward-dropout 0
    --config.model.residual-dropout 0 --config.model.attention-dropout 0.1
    --config.data.batch-size 16 --config.data.chunk-tokens 64
    --config.optim.base-learning-rate 6.25e-4 --config.optim.warmup-steps 10
    --config.run.num-steps 150 --config.run.log-every 10 --config.run.eval-every 50 --config.run.save-every 50
""")


def config(**run) -> Config:
    """The configuration of all these runs; keywords change the part `run`."""
    settings = {"num_steps": NUM_STEPS, "log_every": 10, "eval_every": 50, "save_every": 50, "microbatch_windows": 8}
    settings |= run
    warmup = min(10, settings["num_steps"] // 2)
    return Config(
        model=ModelConfig(
            dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=1, num_latents=4,
            feedforward_dropout=0.0, residual_dropout=0.0, attention_dropout=0.1,
        ),
        data=DataConfig(
            batch_size=16, chunk_tokens=64, unit_dropout=UnitDropoutConfig(min_units=10, mode_units=30, max_units=60)
        ),
        optim=OptimConfig(name="adamw", base_learning_rate=6.25e-4, warmup_steps=warmup, clip_norm=1.0),
        run=RunConfig(**settings),
    )  # fmt: skip


def simulate(number: int) -> Session:
    """A session of a minute with 12 units, sampled at 50 Hz."""
    return simulate_session(
        (7, number),
        session_id=f"session_{number}",
        num_units=12,
        duration=60.0,
        sampling_rate=50.0,
        task="random_target",
    )


def save_sessions(folder: Path) -> None:
    for number in range(3):
        simulate(number).save(folder / f"session_{number}.h5")
