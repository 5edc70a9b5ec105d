"""Decode the days after a recording with what was learned from it: when are new labels needed?

    $ python -m experiments.studies.months sessions/ --workdir runs/months
    $ python -m experiments.studies.months sessions/ --arms poyo_minute wiener_minute \
        --sessions indy_20160419_01 indy_20170131_02

The recordings are those of the monkey Indy, as in the study `indy`. Decoders learn from one of
them, the first by default, and then decode the test split of each later one in order.

Without labels, the filter and the networks take the units of a later day for those of the same ids
on the first one; units that only one day has are left out. POYO gives a unit the row that its id
had (`adapt_without_labels`). With a minute of labels of the later day, POYO fits new rows to it,
and a Wiener filter is trained on it alone. The minute is of the train split; the valid split of
that day chooses, besides, where POYO starts and stops, and the ridge of the filter.

Each cell is a line of `results.jsonl`, and the same command continues. The table, its values and a
figure are written to `months.md`, `.json` and `.png`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies import real_small, table2
from experiments.studies.indy import MINUTE, NAME, PREPARE, day, labelled, names_in, open_named
from experiments.studies.results import Cell, complete, means_by_session, publish
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.data.readout import default_readout
from poyo_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from poyo_jax import Pretrained

ARMS = {
    "wiener": "Wiener filter, no labels",
    "poyo": "POYO, no labels",
    "gru": "GRU, no labels",
    "wiener_minute": "Wiener filter, a minute of labels",
    "poyo_minute": "POYO, a minute of labels",
}
FALL = 0.1  # of R2, after which a decoder is said to have failed
GAP = 10.0  # s between two sessions that are joined


@dataclass(frozen=True, kw_only=True)
class Months:
    """Decoding of later days with what was learned on one."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/months")
    """Folder for results and runs."""
    source: str | None = None
    """File name (without .h5) of the session to learn from; by default the first."""
    sessions: tuple[str, ...] | None = None
    """File names of later sessions to decode; by default all."""
    arms: tuple[Literal[tuple(ARMS)], ...] = ("wiener", "poyo")  # pyright: ignore[reportInvalidTypeForm]
    """Decoders."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the models."""
    num_steps: int = 2000
    """Steps of POYO on the first recording."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(months, Months, arguments, description=__doc__)


def months(options: Months) -> None:
    source, later = chosen_sessions(options)
    recordings = open_named(options.data, [source, *later])
    cells = [
        {"arm": arm, "source": source, "session": name, "seed": seed, "steps": options.num_steps}
        for seed, arm, name in product(options.seeds, options.arms, (source, *later))
        if not (name == source and arm.endswith("minute"))
    ]

    def fill(cell: Cell) -> Cell:
        days = (day(cell["session"]) - day(source)).days
        r2 = score(cell, recordings[source], recordings[cell["session"]], options)
        return {"days": days, "r2": r2}

    path = options.workdir / "results.jsonl"
    results = complete(path, cells, key, fill)
    found = [results[key(cell)] for cell in cells]
    text = render(found, source)
    publish(options.workdir / "months", text, found)
    draw(found, options.workdir / "months.png")
    print(f"\n{text}")


def chosen_sessions(options: Months) -> tuple[str, list[str]]:
    """Names of the session to learn from and of those to decode, in order.

    Raises DataError where the recordings are missing, and ConfigError for one that is not later.
    """
    names = [name for name in names_in(options.data) if NAME.fullmatch(name)]
    source = options.source or (names[0] if names else "")
    if source not in names:
        raise DataError(
            f"{options.data} lacks recordings of the monkey Indy{f', {source}' if source else ''}."
            f" Make the session files with `{PREPARE}` and give their folder."
        )
    later = [name for name in names if day(name) > day(source)]
    wanted = later if options.sessions is None else options.sessions
    if wrong := [name for name in wanted if name not in later]:
        raise ConfigError(
            f"--sessions names {', '.join(wrong)}, but sessions from after {day(source)} in"
            f" {options.data} are {', '.join(later)}. Name some of these."
        )
    return source, [name for name in later if name in wanted]


def key(cell: Cell) -> tuple:
    return tuple(cell.get(name) for name in ("arm", "source", "session", "seed", "steps"))


# --- decoders


def score(cell: Cell, first: Session, later: Session, options: Months) -> float:
    """Test R2 on the later session, which may be the first one itself."""
    arm, seed = cell["arm"], cell["seed"]
    if arm == "wiener_minute":
        return real_small.wiener(labelled(later, MINUTE, seed))
    if arm in ("wiener", "gru"):
        joined = first if later is first else followed_by(first, later)
        if arm == "wiener":
            return real_small.wiener(joined)
        return table2.score_baseline(arm, joined, seed)["r2"]
    model = trained(first, seed, options)
    if arm == "poyo_minute":
        from poyo_jax.finetune import STRATEGIES, finetune

        later = labelled(later, MINUTE, seed)
        config = replace(STRATEGIES["unit_identification"], seed=seed)
        model = finetune(model, later, config).pretrained
    elif later is not first:
        from poyo_jax.finetune import adapt_without_labels

        model = adapt_without_labels(model, later)
    return real_small.score_model(model, later)


@cache
def trained(first: Session, seed: int, options: Months) -> "Pretrained":
    """POYO of the first recording."""
    workdir = options.workdir / "poyo" / f"{first.session_id}_{seed}"
    return real_small.train_alone(first, workdir, seed, [options.num_steps])


def followed_by(first: Session, later: Session) -> Session:
    """One session whose train and valid splits are of the first, and whose test is of the later.

    It has the units whose ids are in both. The times of the later one follow those of the first.
    Raises DataError where no id is in both.
    """
    shared = [unit for unit in first.unit_ids if unit in set(later.unit_ids)]
    if not shared:
        raise DataError(
            f"sessions {first.id} and {later.id} have no unit id in common, so a decoder of the"
            " first cannot read the other. Name another source or other sessions."
        )
    shift = float(first.domain.ends[-1] - later.domain.starts[0]) + GAP
    readout = default_readout(first)
    parts = [
        pieces(first, shared, readout.value_key, 0.0),
        pieces(later, shared, readout.value_key, shift),
    ]
    spike_times, spike_units, times, values, domain = zip(*parts, strict=True)
    joined = Session.from_arrays(
        np.concatenate(spike_times),
        np.concatenate(spike_units),
        shared,
        np.concatenate(times),
        np.concatenate(values),
        session_id=f"{first.session_id}_then_{later.session_id}",
        brainset_id=first.brainset_id,
        target_key=readout.value_key,
        domain=[*domain[0], *domain[1]],
    )
    test = [(low + shift, high + shift) for low, high in later.split("test")]
    return joined.with_splits(
        train=list(first.split("train")), valid=list(first.split("valid")), test=test
    )


def pieces(session: Session, units: list[str], key: str, shift: float) -> tuple:
    """Arrays of a session with these units alone, in this order, and with later times.

    Times and units of the spikes, times and values of the behaviour `key`, and the domain.
    """
    session = session.select_units(units)
    order = [session.unit_ids.index(unit) for unit in units]
    behaviour = session.behaviour(key)
    return (
        np.asarray(session.spike_times) + shift,
        np.argsort(order)[np.asarray(session.spike_units)],
        behaviour.times_at(np.arange(behaviour.count)) + shift,
        behaviour.values(0, behaviour.count),
        [(start + shift, end + shift) for start, end in session.domain],
    )


# --- results


def render(cells: Sequence[Cell], source: str) -> str:
    """Markdown: R2 of every day and decoder, and the days until it has fallen."""
    arms = list(dict.fromkeys(cell["arm"] for cell in cells))
    lines = [
        f"Test R2 of decoders that learn from {source}, mean over seeds",
        "",
        f"| session | days later | {' | '.join(ARMS[arm] for arm in arms)} |",
        "|---" * (len(arms) + 2) + "|",
    ]
    curves = {arm: curve(cells, arm) for arm in arms}
    days = days_of(cells)
    for name in days:
        scores = [f"{curves[arm][name]:.3f}" if name in curves[arm] else "" for arm in arms]
        lines.append(f"| {name} | {days[name]} | {' | '.join(scores)} |")
    lines.append("")
    for arm in arms:
        if source in curves[arm]:
            lines.append(f"- {ARMS[arm]}: {fallen(curves[arm], days, source)}")
    failed = [cell for cell in cells if "error" in cell]
    lines += ["- {arm}, {session}, seed {seed}: {error}".format(**cell) for cell in failed]
    return "\n".join(lines)


def curve(cells: Sequence[Cell], arm: str) -> dict[str, float]:
    """R2 by session, mean over seeds."""
    means = means_by_session(cell for cell in cells if cell["arm"] == arm)
    return {name: means[name] for name in days_of(cells) if name in means}


def days_of(cells: Sequence[Cell]) -> dict[str, int]:
    """Days after the first recording by session, in order."""
    days = {cell["session"]: cell["days"] for cell in cells if "days" in cell}
    return dict(sorted(days.items(), key=lambda item: item[1]))


def fallen(scores: dict[str, float], days: dict[str, int], source: str) -> str:
    """The first day on which R2 is lower than on the first one by FALL."""
    for name, value in scores.items():
        if value < scores[source] - FALL:
            return f"lower by more than {FALL:g} after {days[name]} days"
    return f"never lower by more than {FALL:g}"


def draw(cells: Sequence[Cell], path: Path) -> None:
    """R2 against the days since the first recording, a line for every decoder."""
    from matplotlib import pyplot as plt

    from poyo_jax import plots

    figure, ax = plt.subplots(figsize=(plots.WIDTH, 3.2), layout="constrained")
    days = days_of(cells)
    for color, (arm, title) in zip(plots.COLORS, ARMS.items(), strict=False):
        scores = curve(cells, arm)
        if scores:
            places = [days[name] for name in scores]
            ax.plot(places, list(scores.values()), "-o", markersize=3, color=color, label=title)
    ax.set(xlabel="days after the recording that was learned from", ylabel="test R²")
    ax.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
