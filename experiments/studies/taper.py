"""Compare the weights with which overlapping windows are averaged: R2, and jumps between windows.

    $ python -m experiments.studies.taper DATA --workdir runs/taper

DATA holds the real recordings. Each model is trained on one of them, or on a small simulated study,
with the settings of the demo; then its test split is decoded with every kind of average. A step is
the mean change of the decoded trace from one sample to the next, in standard deviations of the
behaviour. The table has it at the edges of windows, every half window, and elsewhere.

Finished models are kept in the work directory. The cells are written to `results/taper.json`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from experiments.studies.results import sample_sd
from poyo_jax import Session
from poyo_jax.cli.program import run_program
from poyo_jax.decoding.stitch import FLOOR, Weigh, equal_weights, taper_weights
from poyo_jax.files import write_text
from poyo_jax.presets import demo, with_steps
from poyo_jax.types import Prediction

if TYPE_CHECKING:
    from poyo_jax import Pretrained

RESULTS = Path(__file__).parent.parent / "results" / "taper.json"
SIMULATED = "simulated"
COLUMNS = ("r2", "at_edges", "elsewhere")
Cell = dict[str, str | int | float]


def triangle_weights(times: np.ndarray, window_length: float) -> np.ndarray:
    """Weights that fall in straight lines from the centre of a window to its ends."""
    from_end = np.minimum(times, window_length - times)
    return np.maximum(2 * from_end / window_length, FLOOR)


def hann_weights(times: np.ndarray, window_length: float) -> np.ndarray:
    """Weights that fall from the centre of a window to its ends along a cosine."""
    return np.maximum(np.sin(np.pi * times / window_length) ** 2, FLOOR)


AVERAGES: dict[str, Weigh] = {
    "mean": equal_weights,
    "taper": taper_weights,
    "triangle": triangle_weights,
    "Hann": hann_weights,
}


@dataclass(frozen=True, kw_only=True)
class Taper:
    """R2 and jumps by the weights of overlapping windows."""

    data: tyro.conf.Positional[Path]
    """Folder with session files (*.h5), searched with its sub-folders."""
    recordings: tuple[str, ...] = ("set1_expt19", "set2_expt02")
    """File names (without .h5) of the real recordings; a model is trained on each."""
    workdir: Path = Path("runs/taper")
    """Folder for the runs."""
    num_steps: int = 400
    """Steps of each training."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""
    overlaps: tuple[int, ...] = (2, 4, 8)
    """Numbers of windows that are averaged."""


def main(arguments: list[str] | None = None) -> None:
    run_program(taper, tyro.cli(Taper, args=arguments, description=__doc__))


def taper(options: Taper) -> None:
    cells = []
    for name, sessions in recordings(options):
        for seed in options.seeds:
            model = train(sessions, options.workdir / f"{name}_{seed}", options.num_steps, seed)
            for cell in compare(model, sessions, options.overlaps):
                cells.append({"recording": name, "seed": seed} | cell)
    print(table(cells, options))
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    write_text(RESULTS, f"[\n{lines}\n]\n")


def recordings(options: Taper) -> Iterator[tuple[str, list[Session]]]:
    """Names of the simulated study and of the real recordings, with their sessions."""
    from poyo_jax import open_sessions
    from poyo_jax.data.simulate import simulate_study

    real = open_sessions(options.data, options.recordings)  # a missing name fails at once
    yield SIMULATED, list(simulate_study(0, 4, num_units=(20, 36), duration=120.0))
    for name, session in zip(options.recordings, real, strict=True):
        yield name, [session]


def train(sessions: list[Session], workdir: Path, num_steps: int, seed: int) -> "Pretrained":
    from poyo_jax import load, train_model

    train_model(with_steps(demo(), num_steps, seed, looks=2), sessions, workdir)
    return load(workdir, step=num_steps)


def compare(
    model: "Pretrained", sessions: Sequence[Session], overlaps: Sequence[int]
) -> Iterator[Cell]:
    """Means over the sessions of R2 and of the steps, for every average."""
    for overlap, (name, weigh) in product(overlaps, AVERAGES.items()):
        rows = []
        for session, prediction in zip(
            sessions, predict(model, sessions, overlap, weigh), strict=True
        ):
            std = model.readout(session.id).std
            starts = session.split("test").starts
            steps = trace_steps(prediction, starts, model.config.model.window_length / 2, std)
            rows.append((prediction.r2, *steps))
        means = np.mean(rows, axis=0).round(4).tolist()
        yield {"average": name, "overlap": overlap} | dict(zip(COLUMNS, means, strict=True))


def predict(
    model: "Pretrained", sessions: Sequence[Session], overlap: int, weigh: Weigh
) -> list[Prediction]:
    """Decode the test splits with these weights."""
    from poyo_jax.decoding.predict import make_predict_step, predict_sessions
    from poyo_jax.distributed.mesh import make_mesh, put_params
    from poyo_jax.model.hardware import choose_microbatch, hardware_of

    config, mesh = model.config, make_mesh()
    micro = choose_microbatch(config.model, config.run, hardware_of(mesh))
    predictions = predict_sessions(
        make_predict_step(model.model, mesh, microbatch_windows=micro),
        put_params(model.params, mesh),
        [model.source(session, session.split("test")) for session in sessions],
        config.data,
        config.model.window_length,
        mesh,
        overlap=overlap,
        weigh=weigh,
    )
    return [prediction for (prediction,) in predictions]


def trace_steps(
    prediction: Prediction, starts: np.ndarray, spacing: float, std: Sequence[float]
) -> tuple[float, float]:
    """Mean step of the trace where a window begins or ends, and elsewhere, in SDs.

    Windows begin and end every `spacing` s after the `starts` of the intervals. Steps across gaps
    do not count.
    """
    times = prediction.times
    steps = np.abs(np.diff(prediction.values, axis=0) / std).mean(axis=1)
    begin = starts[np.searchsorted(starts, times, "right") - 1]
    number = np.floor((times - begin) / spacing + 1e-6)
    near = (np.diff(begin) == 0) & (np.diff(times) < 1.5 * np.median(np.diff(times)))
    at_edge = np.diff(number) > 0
    return float(steps[near & at_edge].mean()), float(steps[near & ~at_edge].mean())


def table(cells: Sequence[Cell], options: Taper) -> str:
    """Markdown table of means over the seeds, with the standard deviation of R2."""
    names = (SIMULATED, *options.recordings)
    lines = ["| windows | average | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for overlap, average in product(options.overlaps, AVERAGES):
        row = f"| {overlap} | {average} |"
        for name in names:
            wanted = (name, overlap, average)
            keys = ("recording", "overlap", "average")
            chosen = [cell for cell in cells if tuple(cell[key] for key in keys) == wanted]
            values = np.array([[cell[column] for column in COLUMNS] for cell in chosen])
            r2, at_edges, elsewhere = values.mean(axis=0)
            row += f" {r2:.4f} [{sample_sd(values[:, 0]):.4f}], {at_edges:.3f} / {elsewhere:.3f} |"
        lines.append(row)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
