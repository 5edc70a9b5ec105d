"""Choice of how decoders are used in the loop: by the targets that they reach with it.

R2 does not tell it. The subject sees late and corrects what it sees, so that a cursor that obeys it
exactly overshoots. A smaller gain takes the overshoot away, and so does a decoder that looks ahead.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np

from experiments.studies.loop_days import Settings, scaled
from experiments.studies.results import Cell, complete, grouped
from experiments.studies.subject import Block, Decode, Subject
from poyo_jax.errors import DataError

AHEAD = (0.0, 0.06, 0.12)  # s
GAINS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)

Learn = Callable[[Subject, Block], Decode]


def choose_settings(
    path: Path,
    keys: Cell,
    subjects: Sequence[tuple[Subject, Block]],
    make: Callable[[Settings], Learn],
    seconds: float,
) -> tuple[Settings, list[Cell]]:
    """The settings with most targets a minute on average of the subjects, and what was measured.

    Args:
        path: file that keeps the results, so that the same command continues.
        keys: what tells the decoder from others in that file.
        subjects: calibrated subjects, with their blocks.
        make: returns what learns from a block with settings.
        seconds: time for which a decoder moves the cursor with each gain.

    Raises DataError when a trial has failed.
    """
    cells = [
        {**keys, "subject": number, "ahead": ahead}
        for number, ahead in product(range(len(subjects)), AHEAD)
    ]

    def fill(cell: Cell) -> Cell:
        subject, block = deepcopy(subjects[cell["subject"]])
        decode = make(Settings(cell["ahead"]))(subject, block)
        scores = [subject.play(seconds, scaled(decode, gain))[0] for gain in GAINS]
        return {"per_minute": [score.summary()["per_minute"] for score in scores]}

    names = tuple(cells[0])
    results = complete(path, cells, lambda cell: tuple(map(cell.get, names)), fill)
    found = [results[tuple(cell.values())] for cell in cells]
    if failed := [cell["error"] for cell in found if "error" in cell]:
        raise DataError(
            f"the settings of {keys['decoder']} cannot be chosen, because a trial has failed:"
            f" {failed[0]}. The same command tries it again."
        )
    means = mean_targets(found)
    best = max(means, key=means.__getitem__)
    return Settings(*best), found


def mean_targets(cells: Sequence[Cell]) -> dict[tuple[float, float], float]:
    """Targets a minute by look-ahead and gain, mean over the subjects."""
    means = {}
    for ahead, group in grouped(cells, "ahead").items():
        rates = np.mean([cell["per_minute"] for cell in group], axis=0)
        means |= {(ahead, gain): float(rate) for gain, rate in zip(GAINS, rates, strict=True)}
    return means


def settings_table(cells: Sequence[Cell]) -> str:
    """Markdown table of targets a minute by decoder, look-ahead and gain."""
    heads = [f"gain {gain:g}" for gain in GAINS]
    lines = [f"| decoder, labels ahead | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for decoder, group in grouped(cells, "decoder").items():
        means = mean_targets(group)
        for ahead in AHEAD:
            rates = [f"{means[ahead, gain]:.1f}" for gain in GAINS]
            lines.append(f"| {decoder}, {ahead:.2f} s | {' | '.join(rates)} |")
    return "\n".join(lines)
