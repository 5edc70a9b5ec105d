"""Change a preset: its start of units, its length."""

from dataclasses import replace

from poyo_jax.checks import check_number, integer
from poyo_jax.config import Config


def few_sessions(config: Config) -> Config:
    """Start the units of a run from random embeddings, for one or a few sessions.

    The units of a few sessions are learned one by one: models of one and of five sessions ended no
    better, or worse, when units started from their tuning.
    """
    return replace(config, optim=replace(config.optim, unit_start="random"))


def with_steps(config: Config, num_steps: int | None, seed: int = 0, looks: int = 8) -> Config:
    """Change the number of steps (None keeps it) and the seed of a run.

    The run is evaluated and saved at least `looks` times.
    """
    check_number("num_steps", num_steps, integer(1, or_none=True))
    check_number("looks", looks, integer(1))
    steps = num_steps or config.run.num_steps
    longest = max(steps // looks, 1)
    run = replace(
        config.run,
        num_steps=steps,
        eval_every=min(config.run.eval_every, longest),
        save_every=min(config.run.save_every, longest),
    )
    warmup_steps = min(config.optim.warmup_steps, steps // 4)
    return replace(
        config,
        data=replace(config.data, seed=seed),
        optim=replace(config.optim, warmup_steps=warmup_steps),
        run=run,
    )
