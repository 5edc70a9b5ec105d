"""Measure how well models decode without look-ahead, by how they are trained.

    $ python -m experiments.studies.causal DATA --workdir runs/causal

DATA holds the real recordings. Each model is trained on one of them, or on a small simulated study,
with the settings of the demo. "end N" weighs the samples in the last 0.1 s of a training window N
times (`DataConfig.end_weight`); "block-causal" has a processor whose latents see no later ones
(block_causal.py), and "recurrent" one of recurrent layers (recurrent.py). Then the test split is
decoded offline, and causally with steps of 50 and 20 ms.

Every training is kept in `results.jsonl` of the work directory, and the same command continues with
those that are missing. The table and its cells are written to `causal.md` and `causal.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from experiments.studies.block_causal import BlockCausal
from experiments.studies.recurrent import Recurrent
from experiments.studies.results import Cell, complete, publish, sample_sd
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import Config
from poyo_jax.presets import demo, with_steps

SIMULATED = "simulated"
KINDS = ("plain", "end 5", "block-causal")
PROCESSORS = {"block-causal": BlockCausal, "recurrent": Recurrent}
SCORES = {"offline": None, "50 ms": 0.05, "20 ms": 0.02}
KEY = ("recording", "kind", "seed", "num_steps")


@dataclass(frozen=True, kw_only=True)
class Causal:
    """R2 without look-ahead, by how models are trained."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    recordings: tuple[str, ...] = ("set1_expt19",)
    """File names (without .h5) of the real recordings; a model is trained on each."""
    workdir: Path = Path("runs/causal")
    """Folder for the runs and results."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of training; also "recurrent", and "end N" with any N."""
    num_steps: int = 400
    """Steps of each training."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""


def main(arguments: list[str] | None = None) -> None:
    run_command(causal, Causal, arguments, description=__doc__)


def causal(options: Causal) -> None:
    from poyo_jax import open_sessions

    real = open_sessions(options.data, options.recordings)  # a missing name fails at once
    sessions = {SIMULATED: _simulated()}
    sessions |= {name: [one] for name, one in zip(options.recordings, real, strict=True)}
    cells = []
    for seed, name, kind in product(options.seeds, sessions, options.kinds):
        cells.append(dict(zip(KEY, (name, kind, seed, options.num_steps), strict=True)))
    results = complete(
        options.workdir / "results.jsonl",
        cells,
        lambda cell: tuple(cell[name] for name in KEY),
        lambda cell: _fill(cell, sessions[cell["recording"]], options.workdir),
    )
    found = [results[tuple(cell[name] for name in KEY)] for cell in cells]
    text = table(found, list(sessions), options.kinds)
    publish(options.workdir / "causal", text, found)
    print(text)


def recipe(kind: str, num_steps: int, seed: int) -> Config:
    """Settings of the demo, changed as the kind of training says."""
    config = with_steps(demo(), num_steps, seed, looks=2)
    if kind in PROCESSORS:
        path = f"{PROCESSORS[kind].__module__}:{PROCESSORS[kind].__name__}"
        return replace(config, model=replace(config.model, processor=path))
    weight = 1.0 if kind == "plain" else float(kind.removeprefix("end "))
    return replace(config, data=replace(config.data, end_weight=weight))


def _simulated() -> list[Session]:
    from poyo_jax.data.simulate import simulate_study

    return list(simulate_study(0, 4, num_units=(20, 36), duration=120.0))


def _fill(cell: Cell, sessions: Sequence[Session], workdir: Path) -> Cell:
    """Train, and score the last step."""
    from poyo_jax import evaluate, load, train_model

    folder = workdir / f"{cell['recording']}_{cell['kind'].replace(' ', '_')}_{cell['seed']}"
    config = recipe(cell["kind"], cell["num_steps"], cell["seed"])
    train_model(config, sessions, folder, progress=False)
    model = load(folder, step=cell["num_steps"])
    return {name: evaluate(model, sessions, causal_step=step).mean for name, step in SCORES.items()}


def table(cells: Sequence[Cell], recordings: Sequence[str], kinds: Sequence[str]) -> str:
    """Markdown table of means over the seeds, with the mean difference to plain training."""
    columns = [f"{name}, {score}" for name, score in product(recordings, SCORES)]
    lines = [f"| training | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for kind in kinds:
        entries = []
        for name, score in product(recordings, SCORES):
            values = _scores(cells, name, kind, score)
            entry = f"{np.mean(values):.3f}"
            if kind != kinds[0]:
                change = values - _scores(cells, name, kinds[0], score)
                entry += f" ({change.mean():+.3f} ± {sample_sd(change):.3f})"
            entries.append(entry)
        lines.append(f"| {kind} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _scores(cells: Sequence[Cell], recording: str, kind: str, score: str) -> np.ndarray:
    """Scores by seed."""
    chosen = [cell for cell in cells if (cell["recording"], cell["kind"]) == (recording, kind)]
    ordered = sorted(chosen, key=lambda cell: cell["seed"])
    return np.array([cell.get(score, np.nan) for cell in ordered])


if __name__ == "__main__":
    main()
