"""Decode a monkey months after pretraining: 23 sessions to learn from, six later ones to decode.

    $ python -m experiments.studies.indy sessions/ --workdir runs/indy
    $ python -m experiments.studies.indy sessions/ --rows wiener unit_identification --seconds 30

The recordings are those of the monkey Indy (O'Doherty, Makin et al.), which POYO-1 pretrains on.
poyo_small is pretrained on all sessions that are earlier than the held-out ones. Each held-out
session is then decoded by baselines and a POYO of that session alone, and by the pretrained model,
whose new rows start from the best of several guesses, rows of the same electrodes among them, or
("new rows") from their tuning alone, or ("units that fire alike") from rows that need no labels.

The Wiener filter of fixed lags has 10 bins before a sample and 2 after it; that of the search
chooses them. Every choice is made on the valid split. With `--seconds`, decoders learn from as many
seconds of the train split, the same for all; 0 stands for all of it.

Each cell is a line of `results.jsonl`, written when it ends, and the same command continues with
the cells that are missing or failed. After every cell the table is written to `indy.md`, its
values to `indy.json`, and R2 against the days since pretraining to `indy.png`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies import real_small, table2
from experiments.studies.electrodes import in_one_order
from experiments.studies.results import (
    Cell,
    complete,
    means_by_session,
    paired_difference,
    publish,
    sample_sd,
)
from experiments.studies.sessions import beginning
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.errors import DataError

if TYPE_CHECKING:
    from poyo_jax import Pretrained

PREPARE = "python -m data_prep prepare odoherty_sabes_nonhuman_2017"
HELD_OUT = (
    "indy_20161206_02",
    "indy_20161207_02",
    "indy_20161212_02",
    "indy_20170123_02",
    "indy_20170124_01",
    "indy_20170131_02",
)
NAME = re.compile(r"indy_(\d{4})(\d{2})(\d{2})_\d{2}")
ALL = 0.0  # seconds, for all of the train split
NO_LABELS = "no_labels"  # begins the rows without a fit
NEW_ROWS = "_new_rows"  # ends the rows of fits that do not try trained rows of the same units
MINUTE = 60.0  # s
ALIKE = "_alike"  # ends the rows that start from units of the same ids that fire alike
ROWS = {  # the quickest and most telling first
    "wiener_fixed": "Wiener filter, fixed lags",
    "wiener": "Wiener filter",
    "unit_identification": "POYO + unit identification",
    "no_labels": "POYO, mean rows of the same units, no labels",
    "no_labels_alike": "POYO, rows of units that fire alike, no labels",
    "no_labels_minute": "POYO, rows of units that fire alike in the first minute, no labels",
    "gradual": "POYO + finetuning",
    "unit_identification_new_rows": "POYO + unit identification, new rows",
    "unit_identification_alike": "POYO + unit identification, from units that fire alike",
    "poyo_single": "POYO, single session",
    "gru": "GRU",
    "gradual_new_rows": "POYO + finetuning, new rows",
    "gradual_alike": "POYO + finetuning, from units that fire alike",
    "kalman": "Kalman filter",
    "mlp": "MLP",
}
DETERMINISTIC = ("wiener_fixed", *table2.DETERMINISTIC)


@dataclass(frozen=True, kw_only=True)
class Indy:
    """Decoding of one monkey, months after pretraining."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/indy")
    """Folder for results and runs."""
    held_out: tuple[str, ...] = HELD_OUT
    """File names (without .h5) of the sessions to decode; pretraining takes all earlier ones."""
    rows: tuple[Literal[tuple(ROWS)], ...] = tuple(ROWS)  # pyright: ignore[reportInvalidTypeForm]
    """Rows to fill."""
    seconds: tuple[float, ...] = (ALL, 30.0)
    """Labelled seconds; 0 for all of the train split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of everything that is drawn, pretraining included."""
    pretrain_steps: int = 1500
    """Steps of pretraining."""
    single_steps: int = 2000
    """Steps of a model of a session alone."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(indy, Indy, arguments, description=__doc__)


def indy(options: Indy) -> None:
    earlier, held_out = find_recordings(options)
    wanted = list(cells(options))
    results: dict[tuple, Cell] = {}
    text = ""
    for cell in wanted:
        path = options.workdir / "results.jsonl"
        results = complete(path, [cell], key, lambda cell: fill(cell, earlier, held_out, options))
        found = [results[key(each)] for each in wanted if key(each) in results]
        text = render(found, wanted)
        publish(options.workdir / "indy", text, found)
        draw(found, days_after(held_out, earlier), options.workdir / "indy.png")
    print(f"\n{text}")


# --- data


def find_recordings(options: Indy) -> tuple[dict[str, Session], dict[str, Session]]:
    """The sessions to pretrain on and the held-out ones, by file name.

    Raises DataError where one is missing, or is not of this data set.
    """
    there = names_in(options.data)
    missing = [name for name in options.held_out if name not in there]
    first = min(map(day, options.held_out))
    earlier = [name for name in there if NAME.fullmatch(name) and day(name) < first]
    if missing or not earlier:
        lacks = ", ".join(missing) or f"sessions from before {first}"
        raise DataError(
            f"{options.data} lacks recordings of the monkey Indy: {lacks}. Make the session files"
            f" with `{PREPARE}` and give their folder, or name others with --held-out."
        )
    recordings = open_named(options.data, [*earlier, *options.held_out])
    held_out = {name: recordings.pop(name) for name in options.held_out}
    return recordings, held_out


def names_in(folder: Path) -> list[str]:
    """File names (without .h5) of the sessions in a folder, sorted."""
    return sorted({path.stem for path in folder.rglob("*.h5")})


def open_named(folder: Path, names: Sequence[str]) -> dict[str, Session]:
    """The sessions of these names, by name, with their electrodes in one order."""
    from poyo_jax import open_sessions

    return in_one_order(dict(zip(names, open_sessions(folder, names), strict=True)))


def day(name: str) -> date:
    """Day of a recording. Raises DataError where its name does not tell it."""
    if not (match := NAME.fullmatch(name)):
        raise DataError(
            f"session {name!r} does not tell its day; the recordings of this study are called"
            " indy_YYYYMMDD_NN. Name such sessions with --held-out."
        )
    return date(*map(int, match.groups()))


def days_after(held_out: Mapping[str, Session], earlier: Mapping[str, Session]) -> dict[str, int]:
    """Days from the last session of pretraining to every held-out one."""
    last = max(map(day, earlier))
    return {name: (day(name) - last).days for name in held_out}


# --- cells


def cells(options: Indy) -> Iterator[Cell]:
    """All cells, in the order of what they tell."""
    for seed, seconds, row in product(options.seeds, options.seconds, options.rows):
        if row.startswith(NO_LABELS) and seconds != ALL:
            continue
        same = seconds == ALL and row in DETERMINISTIC  # few labels differ between seeds
        if same and seed != options.seeds[0]:
            continue
        for name in options.held_out:
            cell = {"row": row, "session": name, "seconds": seconds, "seed": seed}
            yield cell | {"num_steps": num_steps(row, options)}


def num_steps(row: str, options: Indy) -> int | None:
    """Steps of the model of a row before it is adapted; None of a baseline."""
    from poyo_jax.baselines import BASELINES

    if row == "wiener_fixed" or row in BASELINES:
        return None
    return options.single_steps if row == "poyo_single" else options.pretrain_steps


def key(cell: Cell) -> tuple:
    return tuple(cell.get(name) for name in ("row", "session", "seconds", "seed", "num_steps"))


def fill(
    cell: Cell, earlier: dict[str, Session], held_out: dict[str, Session], options: Indy
) -> Cell:
    from poyo_jax.baselines import BASELINES

    row, seed = cell["row"], cell["seed"]
    session = labelled(held_out[cell["session"]], cell["seconds"], seed)
    if row == "wiener_fixed":
        return {"r2": real_small.wiener(session)}
    if row in BASELINES:
        return table2.score_baseline(row, session, seed)
    if row == "poyo_single":
        folder = "{session}-{seconds:g}/seed_{seed}".format(**cell)
        workdir, steps = options.workdir / "single" / folder, (options.single_steps,)
        model = real_small.train_alone(session, workdir, seed, steps)
    else:
        recordings = tuple(earlier.values())
        model = adapted(row, session, seed, pretrained(recordings, seed, options), recordings)
    return {"r2": real_small.score_model(model, session)}


def labelled(session: Session, seconds: float, seed: int) -> Session:
    """The session with so many seconds of its train split alone, or with ALL of it."""
    from poyo_jax.finetune import labelled_intervals
    from poyo_jax.presets import poyo_small

    if seconds == ALL:
        return session
    window = poyo_small().model.window_length
    part = labelled_intervals(session, window, num_seconds=seconds, seed=seed)
    return session.with_splits(train=part)


@cache
def pretrained(sessions: tuple[Session, ...], seed: int, options: Indy) -> "Pretrained":
    workdir = options.workdir / "pretrain" / f"seed_{seed}"
    return real_small.pretrain(list(sessions), workdir, options.pretrain_steps, seed)


def adapted(
    row: str,
    session: Session,
    seed: int,
    pretrained: "Pretrained",
    earlier: Sequence[Session],
) -> "Pretrained":
    """The pretrained model after a fit to the session, or with rows from no labels of it."""
    from poyo_jax.finetune import STRATEGIES, adapt_without_labels, finetune

    if row == NO_LABELS:
        return adapt_without_labels(pretrained, session)
    if row == NO_LABELS + "_minute":
        return adapt_without_labels(pretrained, beginning(session, MINUTE), earlier)
    if row.endswith(ALIKE):
        pretrained = adapt_without_labels(pretrained, session, earlier)
    if row.startswith(NO_LABELS):
        return pretrained
    config = replace(STRATEGIES[row.removesuffix(NEW_ROWS).removesuffix(ALIKE)], seed=seed)
    start_from = {} if row.endswith(NEW_ROWS) else None
    known = "refit" if row.endswith(ALIKE) else "refuse"
    fit = finetune(pretrained, [session], config, start_from=start_from, known=known)
    return fit.pretrained


# --- results


def render(found: list[Cell], wanted: list[Cell]) -> str:
    """Markdown: a table for every amount of labels, what failed, and what has not been run."""
    lines = []
    for seconds in dict.fromkeys(cell["seconds"] for cell in found):
        lines += table([cell for cell in found if cell["seconds"] == seconds], amount(seconds))
    lines += [
        f"- {ROWS[cell['row']]}, {cell['session']}, {amount(cell['seconds'])}, seed {cell['seed']}:"
        f" {cell['error']}"
        for cell in found
        if "error" in cell
    ]
    return "\n".join([*lines, *not_run(found, wanted)])


def amount(seconds: float) -> str:
    return "all labels" if seconds == ALL else f"{seconds:g} s of labels"


def table(found: list[Cell], labels: str) -> list[str]:
    """R2 of every row and session: mean over seeds, and the differences from the Wiener filter.

    That is the searched one, or the one of fixed lags as long as the search has not been run.
    """
    names = list(dict.fromkeys(cell["session"] for cell in found))
    heads = ["method", *names, "mean [SD over seeds, seeds]", "minus Wiener ± SE", "ahead in"]
    lines = [f"Test R2, {labels}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    floor = session_means(found, "wiener") or session_means(found, "wiener_fixed")
    for row in dict.fromkeys(cell["row"] for cell in found):
        means = session_means(found, row)
        if not means:
            continue
        scores = [f"{means[name]:.3f}" if name in means else "" for name in names]
        whole = mean_and_spread(found, row) if len(means) == len(names) else ""
        paired = [means[name] - floor[name] for name in means if name in floor]
        ahead = f"{sum(gap > 0 for gap in paired)} of {len(paired)}"
        shown = paired and not row.startswith("wiener")
        compared = [paired_difference(paired), ahead] if shown else ["", ""]
        lines.append(f"| {' | '.join([ROWS[row], *scores, whole, *compared])} |")
    return [*lines, ""]


def session_means(found: list[Cell], row: str) -> dict[str, float]:
    """Mean over seeds of every session that has a score."""
    return means_by_session(cell for cell in found if cell["row"] == row)


def mean_and_spread(found: list[Cell], row: str) -> str:
    """Mean over sessions; its spread over the seeds that have all of them."""
    by_seed: dict[int, list[float]] = {}
    for cell in found:
        if cell["row"] == row and "r2" in cell:
            by_seed.setdefault(cell["seed"], []).append(cell["r2"])
    longest = max(map(len, by_seed.values()))
    means = [np.mean(some) for some in by_seed.values() if len(some) == longest]
    total = np.mean(list(session_means(found, row).values()))
    spread = f" [{sample_sd(means):.3f}, {len(means)}]" if len(means) > 1 else ""
    return f"{total:.3f}{spread}"


def not_run(found: list[Cell], wanted: list[Cell]) -> list[str]:
    """A sentence about the cells that have no result yet, by labels and seed."""
    done = {key(cell) for cell in found}
    groups: dict[str, list[Cell]] = {}
    for cell in wanted:
        name = f"{amount(cell['seconds'])}, seed {cell['seed']}"
        groups.setdefault(name, []).append(cell)
    listed = []
    for name, group in groups.items():
        missing = [ROWS[cell["row"]] for cell in group if key(cell) not in done]
        if missing:
            counts = [f"{title} ({missing.count(title)})" for title in dict.fromkeys(missing)]
            whole = len(missing) == len(group)
            listed.append(f"{name}: {'everything' if whole else ', '.join(counts)}")
    if not listed:
        return []
    return [f"Not run yet (number of sessions): {'; '.join(listed)}. The same command continues."]


def draw(found: list[Cell], days: dict[str, int], path: Path) -> None:
    """R2 against the days since pretraining: a line for every row, a panel for every amount."""
    from matplotlib import pyplot as plt

    from poyo_jax import plots

    panels = list(dict.fromkeys(cell["seconds"] for cell in found)) or [ALL]
    num_columns = min(2, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    size = (plots.WIDTH * num_columns, 3 * num_rows + 1.6)
    figure, grid = plt.subplots(
        num_rows, num_columns, figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    axes = grid.ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    styles = list(product(("-", "--", ":"), plots.COLORS))
    for ax, seconds in zip(axes, panels, strict=False):
        for (dash, color), row in zip(styles[: len(ROWS)], ROWS, strict=True):
            means = session_means([cell for cell in found if cell["seconds"] == seconds], row)
            places = sorted(means, key=days.__getitem__)
            if places:
                x, y = [days[name] for name in places], [means[name] for name in places]
                ax.plot(x, y, dash, marker="o", markersize=3, color=color, label=ROWS[row])
        ax.set(xlabel="days since the last session of pretraining", title=amount(seconds))
        ax.set(ylabel="test R²")
    lines = {str(line.get_label()): line for ax in figure.axes for line in ax.lines}
    place = {"loc": "outside lower center", "ncols": 2, "handlelength": 4, "frameon": False}
    figure.legend(lines.values(), lines, fontsize=7, **place)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
