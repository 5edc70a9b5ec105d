"""Train POYO of torch_brain on single recordings, beside ours: same windows, same score.

    $ python -m experiments.studies.against_torch_brain sessions/ --kinds poyo_single_paper
    $ PEER/bin/python -m experiments.studies.against_torch_brain sessions/ --sparse-lamb optim.py

The second command needs an environment with torch and torch_brain (tests/golden/README.md says how
to make it, and where optim.py is), and this package in it: `PEER/bin/pip install .`. Both write to
the same folder.

Kinds of training:

- `torch_brain`: model, tokeniser, SparseLamb and OneCycleLR of torch_brain, in its published recipe
  of a single session, cut to fewer steps.
- `poyo_single_paper`: the same recipe here.
- `poyo_single`: our recipe.

Each sees the same windows of 1 s, with the same units: our pipeline draws both. Scores are of the
last step, on the test split, eight windows averaged. Seconds are of the whole training: of ours
with compilation, an evaluation and checkpoints, of theirs on one thread. Every cell is a line of
`results.jsonl`, and the same command continues.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from experiments.studies import real_small
from experiments.studies.indy import HELD_OUT
from experiments.studies.results import Cell, complete, publish
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import Config
from poyo_jax.errors import ConfigError

PEER = "torch_brain"
KINDS = (PEER, "poyo_single_paper", "poyo_single")
KEY = ("recording", "kind", "seed", "num_steps", "batch_size")
PUBLISHED_RATE = 3.125e-5  # of a window: the published learning rate is proportional to the batch


@dataclass(frozen=True, kw_only=True)
class TorchBrain:
    """POYO of torch_brain and ours, on the same windows of single recordings."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    recordings: tuple[str, ...] = HELD_OUT[:2]
    """File names (without .h5) of the recordings; a model is trained on each."""
    kinds: tuple[Literal[KINDS], ...] = (PEER,)  # pyright: ignore[reportInvalidTypeForm]
    """Kinds of training."""
    num_steps: int = 500
    """Steps of each training."""
    batch_size: int = 32
    """Windows of 1 s of a step."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the trainings."""
    sparse_lamb: Path = Path("optim.py")
    """File with SparseLamb, for the kind torch_brain: optim.py of torch_brain 0.1.2."""
    workdir: Path = Path("runs/torch_brain")
    """Folder for runs and results."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(compare, TorchBrain, arguments, description=__doc__)


def compare(options: TorchBrain) -> None:
    from poyo_jax import open_sessions

    if PEER in options.kinds and not options.sparse_lamb.is_file():
        raise ConfigError(
            f"{options.sparse_lamb} is not there. The kind torch_brain needs optim.py of its"
            " version 0.1.2; give it with --sparse-lamb, or choose other --kinds."
        )
    names = options.recordings
    sessions = dict(zip(names, open_sessions(options.data, names), strict=True))
    cells, size = [], (options.num_steps, options.batch_size)
    for seed, name, kind in product(options.seeds, names, options.kinds):
        cells.append(dict(zip(KEY, (name, kind, seed, *size), strict=True)))
    path = options.workdir / "results.jsonl"
    results = complete(path, cells, key, lambda cell: fill(cell, sessions, options))
    found = [cell for cell in results.values() if (cell["num_steps"], cell["batch_size"]) == size]
    text = table(found)
    publish(options.workdir / "torch_brain", text, found)
    print(text)


def key(cell: Cell) -> tuple:
    return tuple(cell[name] for name in KEY)


def fill(cell: Cell, sessions: dict[str, Session], options: TorchBrain) -> Cell:
    session = sessions[cell["recording"]]
    config = recipe(cell)
    if cell["kind"] != PEER:
        folder = "{recording}_{kind}_{seed}_{num_steps}_{batch_size}".format(**cell)
        return train_ours(session, config, options.workdir / folder)
    from experiments.studies.peer_training import train_peer

    return train_peer(session, config, options.sparse_lamb)


def recipe(cell: Cell) -> Config:
    """Settings of a kind: the published ones, or those of our preset."""
    from poyo_jax.presets import PRESETS, with_steps

    published = cell["kind"] != "poyo_single"
    preset = PRESETS["poyo_single_paper" if published else "poyo_single"]()
    config = with_steps(preset, cell["num_steps"], cell["seed"], looks=1)
    config = replace(config, data=replace(config.data, batch_size=cell["batch_size"]))
    if not published:
        return config
    rate = PUBLISHED_RATE * cell["batch_size"]
    return replace(config, optim=replace(config.optim, learning_rate=rate))


def train_ours(session: Session, config: Config, folder: Path) -> Cell:
    from poyo_jax import load, train_model

    began = time.monotonic()
    train_model(config, [session], folder)
    seconds = time.monotonic() - began
    model = load(folder, step=config.run.num_steps)
    return {"r2": real_small.score_model(model, session), "train_s": round(seconds, 1)}


# --- results


def table(found: Sequence[Cell]) -> str:
    """Markdown table of test R2 and seconds of training, and what failed."""
    failed = [cell for cell in found if "error" in cell]
    found = [cell for cell in found if "error" not in cell]
    names = list(dict.fromkeys(cell["recording"] for cell in found))
    kinds = [kind for kind in KINDS if any(cell["kind"] == kind for cell in found)]
    heads = ["training", "seed", *names, "training, s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind, seed in product(kinds, sorted({cell["seed"] for cell in found})):
        own = {
            cell["recording"]: cell
            for cell in found
            if (cell["kind"], cell["seed"]) == (kind, seed)
        }
        if own:
            scores = [f"{own[name]['r2']:.3f}" if name in own else "" for name in names]
            seconds = ", ".join(f"{own[name]['train_s']:.0f}" for name in names if name in own)
            lines.append(f"| {' | '.join([kind, str(seed), *scores, seconds])} |")
    lines += ["- {kind}, {recording}, seed {seed}: {error}".format(**cell) for cell in failed]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
