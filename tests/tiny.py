"""A tiny model and tiny simulated sessions, on which training takes seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from poyo_jax.config import Config, UnitDropoutConfig
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session
from poyo_jax.presets import demo

NUM_STEPS = 150
CHANGES: dict[str, dict[str, Any]] = {  # of the preset "demo"
    "model": {
        "dim": 16,
        "depth": 1,
        "head_dim": 16,
        "cross_heads": 1,
        "self_heads": 1,
        "num_latents": 4,
        "feedforward_dropout": 0.0,
        "residual_dropout": 0.0,
        "attention_dropout": 0.1,
    },
    "data": {"batch_size": 16, "chunk_tokens": 64},
    "data.unit_dropout": {"min_units": 10, "mode_units": 30, "max_units": 60},
    "optim": {
        "name": "adamw",
        "learning_rate": 1e-2,
        "warmup_steps": 10,
        "weight_decay": 1e-4,
        "unit_start": "tuning",
    },
    "run": {"num_steps": NUM_STEPS, "log_every": 10, "eval_every": 50, "save_every": 50},
}


def config(**run) -> Config:
    """The configuration of all these runs; keywords change the part `run`."""
    preset = demo()
    dropout = UnitDropoutConfig(**CHANGES["data.unit_dropout"])
    run = CHANGES["run"] | run
    optim = CHANGES["optim"] | {"warmup_steps": min(10, run["num_steps"] // 2)}
    return Config(
        model=replace(preset.model, **CHANGES["model"]),
        data=replace(preset.data, **CHANGES["data"], unit_dropout=dropout),
        optim=replace(preset.optim, **optim),
        run=replace(preset.run, **run),
    )


def options() -> list[str]:
    """What makes the preset "demo" equal to `config()` on the command line."""
    words = []
    for part, values in CHANGES.items():
        for name, value in values.items():
            words += [f"--config.{part}.{name}".replace("_", "-"), str(value)]
    return words


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
