"""Named configurations: the models of the paper with our recipe and with the published one.

Each function returns all of its values. Its docstring says how to run it, how long that takes, and
what it reaches; figures are those of experiments/results/README.md, with their commands.

Our recipe has Muon in place of LAMB, less dropout of residual branches, at most 128 samples of a
window, and, for many sessions, units that start from their tuning. The study
`python -m experiments.studies.recipe` compares both recipes on small models, where ours needs a
half or a quarter of the data. Neither was trained at the size of POYO-1, where our presets take
half of the published steps.
"""

from collections.abc import Callable
from dataclasses import replace

from poyo_jax.checks import check_number, integer
from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)
from poyo_jax.model.rotary import frequencies_between


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


def poyo_mp() -> Config:
    """POYO-MP with our recipe: 11.8 M parameters, reaching of monkeys C, M and J.

        $ python -m poyo_jax pretrain poyo_mp --data sessions/ --workdir runs/poyo_mp

    Hours: not measured. Test R2: not measured at this size.
    """
    return Config(
        model=ModelConfig(
            dim=128,
            depth=24,
            cross_heads=4,
            num_latents=32,
            feedforward_dropout=0.2,
            residual_dropout=0.2,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=1024,
            unit_dropout=UnitDropoutConfig(min_units=30, mode_units=100, max_units=300),
            max_queries=128,
            short_intervals="drop",
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
            num_steps=48_500,
            log_every=100,
            eval_every=5_000,
            save_every=1_000,
            keep_every=20_000,
        ),
    )


def poyo_1() -> Config:
    """POYO-1 with our recipe: 11.8 M parameters, all pretraining sessions of the paper.

        $ python -m poyo_jax pretrain poyo_1 --data sessions/ --workdir runs/poyo_1

    Hours: not measured. Test R2: not measured at this size.
    """
    return Config(
        model=ModelConfig(
            dim=128,
            depth=24,
            cross_heads=4,
            num_latents=32,
            feedforward_dropout=0.2,
            residual_dropout=0.2,
            attention_dropout=0.2,
        ),
        data=DataConfig(
            batch_size=1024,
            unit_dropout=UnitDropoutConfig(min_units=30, mode_units=100, max_units=300),
            max_queries=128,
            short_intervals="drop",
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
        ),
    )


def poyo_mp_fast() -> Config:
    """POYO-MP with our recipe on accelerators: bfloat16 and flash attention; see `poyo_1_fast`.

        $ python -m poyo_jax pretrain poyo_mp_fast --data sessions/ --workdir runs/poyo_mp_fast

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
            num_steps=48_500,
            log_every=100,
            eval_every=5_000,
            save_every=1_000,
            keep_every=20_000,
            compute_dtype="bfloat16",
            microbatch_windows=128,
        ),
    )


def poyo_1_fast() -> Config:
    """POYO-1 with our recipe on accelerators: bfloat16 and flash attention.

        $ python -m poyo_jax pretrain poyo_1_fast --data sessions/ --workdir runs/poyo_1_fast

    Flash attention cannot drop attention weights. Feed-forward dropout of 0.3 in place of 0.2
    replaces attention dropout: small models of two recordings lose nothing by it
    (`python -m experiments.studies.attention_dropout DATA`). 128 windows at a time take about 20
    GB, by arithmetic, so a batch of 1024 is one pass on eight GPUs.

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
            microbatch_windows=128,
        ),
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


def poyo_mp_paper() -> Config:
    """POYO-MP with the published recipe, about 1000 epochs.

        $ python -m poyo_jax pretrain poyo_mp_paper --data sessions/ --workdir runs/poyo_mp_paper

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
            num_steps=97_000,
            log_every=100,
            eval_every=5_000,
            save_every=1_000,
            keep_every=20_000,
        ),
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


def poyo_small() -> Config:
    """A model of recordings of minutes, on a laptop: 0.3 M parameters, windows of two seconds.

        $ python -m poyo_jax pretrain poyo_small --data sessions/ --workdir runs/poyo_small

    Hours: not measured for these 2000 steps. Models of one session (`few_sessions(poyo_small())`,
    as many steps as the valid split asks for) reach a mean test R2 of 0.623 on sixteen recordings:
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
            unit_dropout=UnitDropoutConfig(min_units=8, mode_units=50, max_units=120),
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
            microbatch_windows=8,
        ),
    )


def demo() -> Config:
    """A model that pretrains on simulated sessions within minutes on two CPU cores.

        $ python -m poyo_jax pretrain demo --data sessions/ --workdir runs/demo

    `make demo` runs 600 of its 1000 steps; README.md has the test R2 that it prints.
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
            microbatch_windows=8,
        ),
    )


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


PRESETS: dict[str, Callable[[], Config]] = {
    preset.__name__: preset
    for preset in (
        poyo_single,
        poyo_mp,
        poyo_1,
        poyo_mp_fast,
        poyo_1_fast,
        poyo_single_paper,
        poyo_mp_paper,
        poyo_1_paper,
        poyo_small,
        demo,
    )
}
