"""Draw Figure 1 of the paper: R2 against model size and against the amount of pretraining data.

    $ python -m experiments.studies.scaling
    $ python -m experiments.studies.scaling sessions/ --held-out monday tuesday
    $ python -m experiments.studies.scaling sessions/ --preset poyo_1 --num-sessions 8 25 80

Without a folder of sessions the study simulates a laboratory first.

Models of every depth are pretrained on growing sets of sessions; each set contains the smaller
ones. The study measures two test R2 (Azabou et al. 2023): of the sessions that all sets share, and
of held-out sessions after unit identification. Every choice is made on the valid splits.

All models see the same number of windows, whatever their data. With the same number of epochs, a
model with little data would also make few steps: it would look as if it lacked data when it lacks
training. Repeating little data does no further harm, because the checkpoint with the best valid
split is scored.

The curves are 1 - R2 = a + b N^-c with a, b >= 0, where N is the number of sessions or of
parameters. Least squares give a and b for each c of a grid. A fit needs three different N, and its
exponent says little with fewer than five.

Each model is a line of `results.jsonl`, written when it is finished, and the same command continues
with the models that are missing or failed. The table is also written to `scaling.md`, its values to
`scaling.json`, the figure to `scaling.png`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies.results import Cell, complete, publish, sample_sd
from poyo_jax import Session
from poyo_jax.cli.options import MaybeFolder
from poyo_jax.cli.program import run_command
from poyo_jax.cli.simulate import save_laboratory
from poyo_jax.config import Config
from poyo_jax.data.simulate import Laboratory
from poyo_jax.errors import DataError

if TYPE_CHECKING:
    from poyo_jax import Pretrained

NUM_HELD_OUT = 2
MEASURES = {"test": "pretraining sessions", "transfer": "held-out sessions"}
AXES = {"num_sessions": "pretraining sessions", "parameters": "parameters of the backbone"}
EXPONENTS = np.geomspace(0.02, 5.0, 300)

Law = tuple[float, float, float]  # a, b and c of 1 - R2 = a + b N^-c


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """R2 against the size of the model and the amount of pretraining data."""

    data: MaybeFolder = None
    """Folder with session files (*.h5), searched with its sub-folders; by default sessions are
    simulated.
    """
    workdir: Path = Path("runs/scaling")
    """Folder for results, runs and simulated sessions; one for each data folder."""
    preset: Literal["demo", "poyo_small", "poyo_1"] = "demo"
    """Preset whose model and recipe are used; the first two are for two CPU cores."""
    depths: tuple[int, ...] = (2, 6, 14, 24)
    """Processor layers of the models."""
    num_sessions: tuple[int, ...] = (2, 6, 18, 54)
    """Sessions to pretrain on."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of everything that is drawn."""
    dim: int | None = None
    """Width of the models; None takes the preset's."""
    num_steps: int | None = None
    """Steps of every pretraining; None takes the preset's."""
    held_out: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to transfer to; by default those of the paper's
    Table 2 in the folder or, if there are none, two others, the same ones every time.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(scaling, Scaling, arguments, description=__doc__)


def scaling(options: Scaling) -> None:
    known, held_out = find_data(options)
    print(
        f"{len(held_out)} sessions are held out:"
        f" {', '.join(session.session_id for session in held_out)}",
        flush=True,
    )
    wanted = list(cells(options, known, held_out))
    results = complete(
        options.workdir / "results.jsonl",
        wanted,
        key,
        lambda cell: fill(cell, known, held_out, options),
    )
    found = [results[key(cell)] for cell in wanted]
    text = render(options, found)
    publish(options.workdir / "scaling", text, found)
    print(f"\n{text}\n\nFigure: {draw(options, found)}")


# --- data


def find_data(options: Scaling) -> tuple[list[Session], list[Session]]:
    """Return the pretraining sessions, in the order in which sets grow, and the held-out ones.

    Raises DataError when there are too few.
    """
    from poyo_jax import open_sessions
    from poyo_jax.data.datasets.session_lists import find_sessions, held_out_sessions

    folder, names = simulated(options) if options.data is None else found_in(options.data)
    held_out = (
        options.held_out or find_sessions(folder, held_out_sessions())[0] or names[:NUM_HELD_OUT]
    )
    names = [name for name in names if name not in held_out]
    if len(names) < max(options.num_sessions) or not held_out:
        raise too_few(folder, len(names), options)
    return open_sessions(folder, names[: max(options.num_sessions)]), open_sessions(
        folder, held_out
    )


def simulated(options: Scaling) -> tuple[Path, list[str]]:
    """Simulate the sessions of a laboratory that a folder lacks; return the folder and their names.

    New sessions come last, so that earlier ones stay the same.
    """
    folder, lab = options.workdir / "sessions", laboratory(options)
    save_laboratory(lab, folder)
    return folder, [lab.describe(i).session_id for i in range(len(lab))]


def found_in(folder: Path) -> tuple[Path, list[str]]:
    """Return the folder and the names of its sessions, shuffled.

    In the order of the names, the sessions of a monkey would stand together.
    """
    names = sorted({path.stem for path in folder.rglob("*.h5")} if folder.is_dir() else ())
    return folder, random.Random(0).sample(names, len(names))


def laboratory(options: Scaling) -> Laboratory:
    return Laboratory(num_sessions=max(options.num_sessions) + NUM_HELD_OUT)


def too_few(folder: Path, count: int, options: Scaling) -> DataError:
    needed = laboratory(options)
    return DataError(
        f"{folder} has {count} sessions besides the held-out ones, but pretraining takes"
        f" {max(options.num_sessions)}. Give smaller --num-sessions; or prepare recordings (`python"
        " -m data_prep list` tells which there are; perich_miller_population_2018 is a download of"
        " 13 GB, 2.9 GB prepared); or simulate some: python -m poyo_jax simulate sessions/"
        f" --num-sessions {len(needed)} (about {needed.num_bytes() / 1e6:,.0f} MB)."
    )


# --- cells


def cells(options: Scaling, known: list[Session], held_out: list[Session]) -> Iterator[Cell]:
    """All models to pretrain, the quick ones first."""
    shared = [session.session_id for session in known[: min(options.num_sessions)]]
    for depth, count, seed in product(
        sorted(options.depths), sorted(options.num_sessions), options.seeds
    ):
        config = configure(options, depth, seed)
        yield {
            "preset": options.preset,
            "depth": depth,
            "num_sessions": count,
            "seed": seed,
            "dim": config.model.dim,
            "num_steps": config.run.num_steps,
            "test_sessions": shared,
            "transfer_sessions": [session.session_id for session in held_out],
        }


def key(cell: Cell) -> tuple:
    names = (
        "preset",
        "depth",
        "num_sessions",
        "seed",
        "dim",
        "num_steps",
        "test_sessions",
        "transfer_sessions",
    )
    return tuple(str(cell.get(name)) for name in names)


def configure(options: Scaling, depth: int, seed: int) -> Config:
    """Return the preset at this depth.

    Units start from their tuning for any number of sessions, since large sets need it.
    """
    from poyo_jax.presets import PRESETS, with_steps

    config = with_steps(PRESETS[options.preset](), options.num_steps, seed, looks=4)
    return replace(
        config,
        model=replace(config.model, depth=depth, dim=options.dim or config.model.dim),
        optim=replace(config.optim, unit_start="tuning"),
    )


def fill(cell: Cell, known: list[Session], held_out: list[Session], options: Scaling) -> Cell:
    """Size, data and test R2 of one model. Raises DataError when a score is not a number."""
    from poyo_jax import evaluate, load, train_model

    sessions, config = (
        known[: cell["num_sessions"]],
        configure(options, cell["depth"], cell["seed"]),
    )
    name = "{preset}-depth_{depth}-sessions_{num_sessions}-seed_{seed}-dim_{dim}-steps_{num_steps}"
    name = name.format(**cell)
    train_model(config, sessions, options.workdir / "pretrain" / name)
    pretrained = load(options.workdir / "pretrain" / name)
    scores = {
        "test": evaluate(pretrained, known[: len(cell["test_sessions"])], stitch="mean").mean,
        "transfer": evaluate(
            transferred(pretrained, sessions, held_out, cell), held_out, stitch="mean"
        ).mean,
    }
    if not np.isfinite(list(scores.values())).all():
        raise DataError(
            f"a score is not a number: {scores}; choose sessions whose test splits vary."
        )
    hours = sum(session.split("train").duration for session in sessions) / 3600
    return {"parameters": pretrained.num_backbone, "hours": round(hours, 3)} | scores


def transferred(
    pretrained: "Pretrained", known: list[Session], held_out: list[Session], cell: Cell
) -> "Pretrained":
    """The model after unit identification of the held-out sessions."""
    from poyo_jax.finetune import STRATEGIES, fit_units, learn_tuning

    config = STRATEGIES["unit_identification"]
    config = replace(config, seed=cell["seed"], num_steps=min(config.num_steps, cell["num_steps"]))
    return fit_units(learn_tuning(pretrained, known), held_out, config).pretrained


# --- results


def power_law(scores: dict[float, list[float]]) -> Law | None:
    """Fit 1 - R2 = a + b N^-c to {N: R2 of every seed}; None with fewer than three N."""
    if len(scores) < 3:
        return None
    points = [(size, 1 - r2) for size, some in scores.items() for r2 in some]
    sizes, errors = np.array(points, np.float64).T
    laws = [(*line(sizes**-c, errors), float(c)) for c in EXPONENTS]
    return min(laws, key=lambda law: np.sum((errors - law[0] - law[1] * sizes ** -law[2]) ** 2))


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The level and slope >= 0 of y = level + slope x by least squares, for positive x and y."""
    slope = max(np.mean((x - x.mean()) * (y - y.mean())) / np.var(x), 0.0)
    level = y.mean() - slope * x.mean()
    return (level, slope) if level >= 0 else (0.0, float(x @ y / (x @ x)))


def curves(
    found: list[Cell], measure: str, along: str, by: str
) -> dict[int, dict[float, list[float]]]:
    """{value of `by`: {value of `along`: R2 of every seed}} of the cells that did not fail."""
    table: dict[int, dict[float, list[float]]] = {}
    for cell in found:
        if measure in cell:
            table.setdefault(cell[by], {}).setdefault(cell[along], []).append(cell[measure])
    return table


def render(options: Scaling, found: list[Cell]) -> str:
    """Markdown: a table for each measure with the fits, and below them what failed."""
    counts, lines = sorted(options.num_sessions), []
    for measure, title in MEASURES.items():
        table = curves(found, measure, "num_sessions", "depth")
        lines += [f"Test R2 of {title}: mean over sessions and seeds [SD over seeds]", ""]
        lines += [
            "| depth | "
            + " | ".join(f"{count} sessions" for count in counts)
            + " | 1 - R2 for N sessions |"
        ]
        lines += ["|---" * (len(counts) + 2) + "|"]
        for depth in sorted(options.depths):
            scores = table.get(depth, {})
            row = [show(scores.get(count)) for count in counts]
            lines += [f"| {depth} | {' | '.join(row)} | {show_law(power_law(scores))} |"]
        lines += [""]
    failed = [cell for cell in found if "error" in cell]
    lines += [
        "- depth {depth}, {num_sessions} sessions, seed {seed}: {error}".format(**cell)
        for cell in failed
    ]
    return "\n".join(lines).rstrip()


def show(scores: list[float] | None) -> str:
    if scores is None:
        return "failed"
    return f"{np.mean(scores):.3f}" + (f" [{sample_sd(scores):.3f}]" if len(scores) > 1 else "")


def show_law(law: Law | None) -> str:
    return "no fit: too few sizes" if law is None else "{:.3f} + {:.3f} N^-{:.2f}".format(*law)


def draw(options: Scaling, found: list[Cell]) -> Path:
    """A figure with R2 against data at the left and against parameters at the right."""
    from matplotlib import pyplot as plt

    from poyo_jax import plots

    figure, axes = plt.subplots(2, 2, figsize=(2 * plots.WIDTH, 6.4), layout="constrained")
    sides = (("num_sessions", "depth", "layers"), ("parameters", "num_sessions", "sessions"))
    for row, (measure, title) in zip(axes, MEASURES.items(), strict=True):
        for ax, (along, by, noun) in zip(row, sides, strict=True):
            table = {
                f"{value} {noun}": scores
                for value, scores in curves(found, measure, along, by).items()
            }
            fits = {name: law_of(scores) for name, scores in table.items()}
            if table:
                plots.r2_by_size(table, ax, size=AXES[along], score=f"test R², {title}", fits=fits)
    path = options.workdir / "scaling.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def law_of(scores: dict[float, list[float]]) -> Callable[[np.ndarray], np.ndarray] | None:
    """R2 as a function of size, if it can be fitted."""
    law = power_law(scores)
    return None if law is None else lambda sizes: 1 - law[0] - law[1] * sizes ** -law[2]


if __name__ == "__main__":
    main()
