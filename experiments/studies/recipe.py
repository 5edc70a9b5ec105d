"""Compare training recipes: validation R2 by data seen and by wall time, and health of weights.

    $ python -m experiments.studies.recipe
    $ python -m experiments.studies.recipe sessions/ --workdir runs/recipe
    $ python -m experiments.studies.recipe sessions/ --arms "ours, but AdamW" --seeds 0

Without a folder of sessions the study simulates a laboratory first.

One small model is trained on all sessions together. The published recipe (LAMB, a constant and then
a cosine rate, the paper's dropout, windows of one second) sees `--num-seconds` of data at several
rates, and its best rate counts. Our recipe sees the same amount, a half and a quarter of it. The
other arms are our recipe with one change, on half of the data.

The test split is not used. Every fifth piece of six seconds of the train and valid splits is held
out: the valid split of a short recording is a single piece, and its R2 depends on the events in
that piece.

Each run is a line of `results.jsonl`, written when it ends, and the same command continues with the
runs that are missing or failed. The table is also written to `recipe.md`, its values to
`recipe.json`, the curves to `recipe.png`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from experiments.studies.results import Cell, complete, grouped, publish, sample_sd
from poyo_jax import Session
from poyo_jax.cli.options import MaybeFolder
from poyo_jax.cli.program import run_command
from poyo_jax.cli.simulate import save_laboratory
from poyo_jax.config import Config
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.simulate import Laboratory
from poyo_jax.errors import ConfigError, suggest
from poyo_jax.presets import poyo_single_paper, poyo_small, with_steps
from poyo_jax.types import Readout

PIECE, EVERY = 6.0, 5  # seconds of a piece; one of EVERY pieces is held out
LOOKS = 8  # evaluations of a run
BATCH = 32  # windows of a step


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Comparison of training recipes."""

    data: MaybeFolder = None
    """Folder with session files (*.h5), searched with its sub-folders; by default sessions are
    simulated.
    """
    sessions: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to train on; by default all."""
    workdir: Path = Path("runs/recipe")
    """Folder for results, runs and simulated sessions; one for each data folder."""
    arms: tuple[str, ...] | None = None
    """Recipes; by default all."""
    num_seconds: int = 80_000
    """Seconds of data that the published recipe sees, each in a window of its own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights, windows and dropout."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(recipe, Recipe, arguments, description=__doc__)


def recipe(options: Recipe) -> None:
    sessions = [scattered(session) for session in find_sessions(options)]
    wanted = list(cells(options))
    results = complete(
        options.workdir / "results.jsonl", wanted, key, lambda cell: fill(cell, sessions, options)
    )
    found = [results[key(cell)] for cell in wanted]
    publish(options.workdir / "recipe", render(found), found)
    print(f"\n{render(found)}\n\nFigure: {draw(found, options.workdir / 'recipe.png')}")


# --- data


def find_sessions(options: Recipe) -> list[Session]:
    from poyo_jax import open_sessions

    folder = options.data
    if folder is None:
        folder = options.workdir / "sessions"
        save_laboratory(Laboratory(num_sessions=12), folder)
    return open_sessions(folder, options.sessions)


def scattered(session: Session) -> Session:
    """Hold out every fifth piece of the train and valid splits of a session for validation.

    The session returned has no test split.
    """
    have = session.split("train").union(session.split("valid"))
    starts = np.arange(have.starts[0], have.ends[-1], PIECE)[EVERY // 2 :: EVERY]
    valid = Intervals.from_arrays(starts, starts + PIECE).intersect(have)
    return session.with_splits(
        train=have.subtract(valid), valid=valid, test=Intervals.from_pairs([])
    )


# --- recipes


@dataclass(frozen=True)
class Arm:
    """A recipe: settings of a run, and changes that no setting makes."""

    config: Config
    share: float = 0.5  # as a share of the data that the published recipe sees
    # one target scale for all sessions of a data set, as in the paper, instead of one each
    one_scale: bool = False
    averaged: bool = (
        False  # mean of the weights at five points of the last fifth, instead of the last weights
    )


def arms() -> dict[str, Arm]:
    ours, published = poyo_small(), as_published(poyo_small())
    table = {
        f"published, rate x {factor}": Arm(optim(published, learning_rate=factor * 1e-3), 1.0)
        for factor in (0.25, 1, 4, 16)
    }
    table |= {f"ours, {share:g} of the data": Arm(ours, share) for share in (1.0, 0.5, 0.25)}
    changed = {
        "random units": optim(ours, unit_start="random"),
        "AdamW": optim(ours, name="adamw"),
        "LAMB": replace(
            ours, optim=optim(published, learning_rate=8e-3, unit_start="tuning").optim
        ),
        "constant rate, then cosine": optim(ours, hold=0.5),
        "rate x 3": optim(ours, learning_rate=9e-3),
        "rate / 3": optim(ours, learning_rate=1e-3),
        "no gradient clipping": optim(ours, clip_norm=None),
        "windows of 1 s": model(ours, window_length=1.0, latent_step=0.125),
        "the paper's periods": model(ours, frequencies=None),
        "the paper's dropout": model(ours, residual_dropout=published.model.residual_dropout),
        "all units": data(ours, unit_dropout=None),
        "spikes dropped": data(ours, spike_dropout=0.3),
        "spike times jittered": data(ours, spike_jitter=0.02),
        "query times jittered": data(ours, query_jitter=1.0),
        "all samples asked for": data(ours, max_queries=None),
    }
    table |= {f"ours, but {change}": Arm(config) for change, config in changed.items()}
    return table | {
        "ours, but one target scale": Arm(ours, one_scale=True),
        "ours, but weights averaged": Arm(ours, averaged=True),
        "ours, but constant rate, weights averaged": Arm(optim(ours, hold=0.9), averaged=True),
    }


def as_published(config: Config) -> Config:
    """Change a configuration to the training recipe of the paper."""
    paper = poyo_single_paper()
    own = model(
        config,
        window_length=1.0,
        latent_step=0.125,
        frequencies=None,
        residual_dropout=paper.model.residual_dropout,
    )
    return replace(data(own, max_queries=None), optim=paper.optim)


def model(config: Config, **changes) -> Config:
    return replace(config, model=replace(config.model, **changes))


def optim(config: Config, **changes) -> Config:
    return replace(config, optim=replace(config.optim, **changes))


def data(config: Config, **changes) -> Config:
    return replace(config, data=replace(config.data, **changes))


# --- cells


def cells(options: Recipe) -> Iterator[Cell]:
    """All runs, the first seed of every arm first."""
    known = arms()
    for name in options.arms or known:
        if name not in known:
            raise ConfigError(
                f"there is no recipe {name!r}.{suggest(name, known)} There are: {'; '.join(known)}."
            )
    for seed, name in product(options.seeds, options.arms or known):
        yield {
            "arm": name,
            "num_seconds": round(options.num_seconds * known[name].share),
            "seed": seed,
        }


def key(cell: Cell) -> tuple:
    return cell["arm"], cell["num_seconds"], cell["seed"]


def fill(cell: Cell, sessions: list[Session], options: Recipe) -> Cell:
    """Train one run and return its validation R2 and the health of its weights.

    R2 is given at the end and as a curve over windows and seconds.
    """
    from poyo_jax import train_model

    arm = arms()[cell["arm"]]
    steps = round(cell["num_seconds"] / BATCH / arm.config.model.window_length)
    config = with_steps(arm.config, steps, cell["seed"], LOOKS)
    run = replace(
        config.run,
        eval_every=max(steps // LOOKS, 1),
        save_every=steps,
        keep_every=max(steps // 20, 1),
    )
    workdir = (
        options.workdir
        / "runs"
        / "{arm}-{num_seconds}-{seed}".format(**cell).replace(" ", "_").replace("/", "by")
    )
    readouts = common_scale(sessions) if arm.one_scale else None
    train_model(replace(config, run=run), sessions, workdir, readouts=readouts, progress=False)
    return measured(workdir, BATCH * config.model.window_length, sessions if arm.averaged else None)


def common_scale(sessions: list[Session]) -> dict[str, Readout]:
    """Make readouts without an offset and with one scale for each data set.

    The scale is the mean over the sessions of the data set.
    """
    from poyo_jax.data.readout import default_readout

    readouts = {session.id: default_readout(session) for session in sessions}
    stds: dict[str | None, list] = {}
    for session in sessions:
        stds.setdefault(session.brainset_id, []).append(readouts[session.id].std)
    return {
        session.id: replace(
            readouts[session.id],
            mean=(0.0,) * len(readouts[session.id].mean),
            std=tuple(np.mean(stds[session.brainset_id], axis=0).tolist()),
        )
        for session in sessions
    }


def measured(workdir: Path, step_seconds: float, averaged: list[Session] | None) -> Cell:
    """Read the results of a finished run.

    If `averaged` has sessions, the mean of the run's weights is scored on them.
    """
    from poyo_jax.train.writers import read_metrics

    history = read_metrics(workdir)
    seconds, curve, health = 0.0, [], []
    last = 0
    for line in history:
        if "seconds_per_step" in line:
            seconds, last = seconds + line["seconds_per_step"] * (line["step"] - last), line["step"]
        if "valid_r2" in line:
            curve.append(
                [line["step"] * step_seconds, round(seconds, 3), round(line["valid_r2"], 4)]
            )
        if "effective_rank" in line:
            norm = sum(value**2 for value in line["parameter_norm"].values()) ** 0.5
            health.append(
                [
                    line["step"] * step_seconds,
                    round(norm, 2),
                    round(float(np.mean([*line["effective_rank"].values()])), 2),
                ]
            )
    if averaged is not None:
        curve[-1][2] = round(averaged_r2(workdir, averaged), 4)
    return {"r2": curve[-1][2], "curve": curve, "health": health}


def averaged_r2(workdir: Path, sessions: list[Session]) -> float:
    """Validation R2 of the mean of the weights at the last five checkpoints that are kept."""
    import jax

    from poyo_jax import evaluate, load
    from poyo_jax.checkpoint.store import saved_steps

    models = [load(workdir, step=step) for step in saved_steps(workdir)[-5:]]
    params = jax.tree.map(lambda *x: sum(x) / len(x), *[model.params for model in models])
    return evaluate(replace(models[-1], params=params), sessions, split="valid", stitch="mean").mean


# --- results


def render(found: list[Cell]) -> str:
    """Markdown: a row for each arm, and below them what failed."""
    runs = grouped(found, "arm")
    goal = max(
        (final(some) for name, some in runs.items() if name.startswith("published")), default=np.nan
    )
    lines = [
        (
            "| recipe | seconds of data | validation R2 [SD over seeds, seeds] | minus the"
            " published one's | wall time, s | weight norm | mean effective rank |"
        ),
        "|---" * 7 + "|",
    ]
    for name, some in runs.items():
        r2, ends = (
            [cell["r2"] for cell in some],
            np.mean([cell["curve"][-1] for cell in some], axis=0),
        )
        _, norm, rank = np.mean([cell["health"][-1] for cell in some], axis=0)
        lines.append(
            f"| {name} | {ends[0]:,.0f} | {np.mean(r2):.3f} [{sample_sd(r2):.3f}, {len(r2)}] | "
            f"{np.mean(r2) - goal:+.3f} | {ends[1]:.0f} | {norm:.0f} | {rank:.1f} |"
        )
    failed = [cell for cell in found if "error" in cell]
    return "\n".join([*lines, *("- {arm}, seed {seed}: {error}".format(**cell) for cell in failed)])


def draw(found: list[Cell], path: Path) -> Path:
    """Validation R2 against data seen and against wall time: the best published recipe and ours."""
    from matplotlib import pyplot as plt

    from poyo_jax import plots

    runs = grouped(found, "arm")
    best = max(
        (name for name in runs if name.startswith("published")),
        key=lambda name: final(runs[name]),
        default=None,
    )
    shown = [
        name for name in runs if name == best or (name.startswith("ours") and "but" not in name)
    ]
    figure, axes = plt.subplots(
        1, 2, figsize=(2 * plots.WIDTH, 3.4), layout="constrained", sharey=True
    )
    for name, color in zip(shown, plots.COLORS, strict=False):
        for i, cell in enumerate(runs[name]):
            data_seen, seconds, r2 = np.array(cell["curve"]).T
            for ax, x in zip(axes, (data_seen, seconds), strict=True):
                ax.plot(x, r2, color=color, linewidth=1.2, label=name if i == 0 else None)
    axes[0].set(xlabel="seconds of data seen", ylabel="validation R²")
    axes[1].set(xlabel="seconds of training")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def final(some: list[Cell]) -> float:
    return float(np.mean([cell["r2"] for cell in some]))


if __name__ == "__main__":
    main()
