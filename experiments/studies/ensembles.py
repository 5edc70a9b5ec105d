"""Average the decoded behaviour of models that differ in their seed alone.

    $ python -m experiments.studies.ensembles DATA --sessions set1_expt19 set2_expt02
    $ python -m experiments.studies.ensembles sessions/ --sessions indy_20161207_02 --num-steps 2000

DATA holds session files. On each session, POYO (poyo_small, a fixed number of steps) and the
searched GRU are trained with several seeds. The table has the test R2 of one of them, of the mean
of what several decode, and of the mean of two kinds. Softmax attention is blind to absolute rates.
Two arms show them: "poyo_clock" sees one more unit, which spikes 50 times a second, and
"poyo_levels" sees counts in place of spikes, a token for every unit and 100 ms with an embedding
for every count up to five. Two arms differ in how many units a training window keeps: in
"poyo_fewer" 8 to 120, in "poyo_relative" half of those of the session to all of them.

Each training is a line of `results.jsonl`, written when it ends, its predictions are kept beside,
and the same command continues with those that are missing or failed. The tables have all kinds and
seeds that the work directory holds of these sessions, also those of earlier commands, so that one
kind may have more seeds than another. They are written to `ensembles.md`; `ensembles.json` has the
score of every training, and then those of every average.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies import real_small
from experiments.studies.results import Cell, complete, paired_difference, publish
from experiments.studies.sessions import with_spikes
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import UnitDropoutConfig

if TYPE_CHECKING:
    from poyo_jax.types import Prediction

TITLES = {
    "poyo": "POYO",
    "poyo_clock": "POYO with a clock",
    "poyo_levels": "POYO on counts",
    "poyo_relative": "POYO on half of the units or more",
    "poyo_fewer": "POYO on 8 to 120 units",
    "gru": "GRU",
}
MIXED = (("poyo", "gru"), ("poyo", "poyo_levels"))  # kinds that are also averaged with each other
CLOCK_RATE = 50.0  # Hz
BIN, MOST = 0.1, 5  # s of the bins of counts, and the highest count; more are as that


@dataclass(frozen=True, kw_only=True)
class Ensembles:
    """Averages of the predictions of models with different seeds."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    sessions: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to decode; by default all."""
    workdir: Path = Path("runs/ensembles")
    """Folder for results and runs."""
    arms: tuple[Literal[tuple(TITLES)], ...] = tuple(TITLES)  # pyright: ignore[reportInvalidTypeForm]
    """Kinds of models."""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Seeds of the members."""
    num_steps: int = 400
    """Steps of every POYO."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(ensembles, Ensembles, arguments, description=__doc__)


def ensembles(options: Ensembles) -> None:
    from poyo_jax import open_sessions

    opened = open_sessions(options.data, options.sessions)
    sessions = {session.session_id: session for session in opened}
    wanted = list(cells(options, sessions))
    path = options.workdir / "results.jsonl"
    results = complete(path, wanted, key, lambda cell: fill(cell, sessions, options))
    found = of_sessions(results.values(), list(sessions), options.num_steps)
    columns = averages(found, options)
    text = render(found, columns)
    publish(options.workdir / "ensembles", text, [*found, *summaries(columns)])
    print(f"\n{text}")


def of_sessions(results: Iterable[Cell], sessions: list[str], num_steps: int) -> list[Cell]:
    """The results of these sessions in their order, by kind and seed; POYOs of `num_steps`."""
    found = [
        cell
        for cell in results
        if cell["session"] in sessions and cell["num_steps"] in (None, num_steps)
    ]
    arms = list(TITLES)

    def place(cell: Cell) -> tuple[int, int, int]:
        return sessions.index(cell["session"]), arms.index(cell["arm"]), cell["seed"]

    return sorted(found, key=place)


def cells(options: Ensembles, sessions: dict[str, Session]) -> Iterator[Cell]:
    """All trainings, the first seed of every session first."""
    for seed, name, arm in product(options.seeds, sessions, options.arms):
        num_steps = None if arm == "gru" else options.num_steps
        yield {"arm": arm, "session": name, "seed": seed, "num_steps": num_steps}


def key(cell: Cell) -> tuple:
    return tuple(cell.get(name) for name in ("arm", "session", "seed", "num_steps"))


# --- cells


def fill(cell: Cell, sessions: dict[str, Session], options: Ensembles) -> Cell:
    """Train a model, keep what it decodes of the test split, and return its test R2."""
    session = sessions[cell["session"]]
    if cell["arm"] == "gru":
        decoded = decode_gru(session, cell["seed"])
    else:
        decoded = decode_poyo(session, cell, options)
    path = prediction_path(cell, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    scored = decoded.scored
    np.savez(path, values=decoded.values[scored], targets=decoded.targets[scored])
    return {"r2": decoded.r2}


def decode_gru(session: Session, seed: int) -> "Prediction":
    from poyo_jax.baselines import fit_baseline

    return fit_baseline("gru", session, seed=seed).prediction


def decode_poyo(session: Session, cell: Cell, options: Ensembles) -> "Prediction":
    from poyo_jax import decode

    workdir = options.workdir / "runs" / "{arm}-{session}-{seed}-{num_steps}".format(**cell)
    if cell["arm"] in SEEN:
        session = SEEN[cell["arm"]](session)
    dropout, steps = unit_dropout(cell["arm"], session), [options.num_steps]
    model = real_small.train_alone(session, workdir, cell["seed"], steps, dropout)
    return decode(model, session, overlap=real_small.OVERLAP, stitch="mean")


def with_clock(session: Session) -> Session:
    """The session with a unit that spikes at a fixed rate."""
    ticks = np.arange(session.domain.starts[0], session.domain.ends[-1], 1 / CLOCK_RATE)
    times = np.concatenate([session.spike_times, ticks])
    clock = np.full(len(ticks), len(session.unit_ids))
    units = np.concatenate([session.spike_units, clock])
    return with_spikes(session, times, units, [*session.unit_ids, "clock"])


def as_levels(session: Session) -> Session:
    """The session with an event for every unit and bin: one of the unit's counts, 0 to MOST."""
    num_units, levels = len(session.unit_ids), MOST + 1
    start, end = session.domain.starts[0], session.domain.ends[-1]
    bins = np.arange(start, end - BIN, BIN)
    counts = np.zeros((len(bins), num_units), int)
    places = np.floor((np.asarray(session.spike_times) - start) / BIN).astype(int)
    inside = (places >= 0) & (places < len(bins))
    np.add.at(counts, (places[inside], np.asarray(session.spike_units)[inside]), 1)
    events = np.arange(num_units) * levels + np.minimum(counts, MOST)  # [bins, units]
    times = np.repeat(bins + BIN / 2, num_units)
    names = [f"{unit}/{level}" for unit, level in product(session.unit_ids, range(levels))]
    return with_spikes(session, times, events.ravel(), names)


def unit_dropout(arm: str, session: Session) -> UnitDropoutConfig | None:
    """How many units the training windows of an arm keep; None for what poyo_small does."""
    if arm == "poyo_fewer":
        return UnitDropoutConfig(min_units=8, mode_units=50, max_units=120)
    if arm != "poyo_relative":
        return None
    count = len(session.unit_ids)
    return UnitDropoutConfig(min_units=count // 2, mode_units=3 * count // 4, max_units=count)


SEEN = {"poyo_clock": with_clock, "poyo_levels": as_levels}  # the other kinds see the spikes


def prediction_path(cell: Cell, options: Ensembles) -> Path:
    return options.workdir / "predictions" / "{arm}-{session}-{seed}-{num_steps}.npz".format(**cell)


# --- results

Columns = dict[str, dict[str, float]]  # test R2 by what is averaged, such as "2 POYO", and session


def averages(found: list[Cell], options: Ensembles) -> Columns:
    """The columns that every session has: each kind alone, then two kinds, of 1, 2, 4, ... each."""
    sessions = list(dict.fromkeys(cell["session"] for cell in found))
    decoded = {name: Decoded.read(found, name, options) for name in sessions}
    arms = [arm for arm in TITLES if any(cell["arm"] == arm for cell in found)]
    columns = {}
    for kinds in [*((arm,) for arm in arms), *MIXED]:
        for size in sizes(len({cell["seed"] for cell in found})):
            scores = {name: decoded[name].score(kinds, size) for name in sessions}
            if None not in scores.values():
                columns[title(kinds, size)] = scores
    return columns


@dataclass(frozen=True)
class Decoded:
    """What the models of a session decode of its test split."""

    targets: np.ndarray
    values: dict[str, list[np.ndarray]]  # by kind, one for each seed

    @classmethod
    def read(cls, found: list[Cell], session: str, options: Ensembles) -> "Decoded":
        targets, values = np.empty(0), {}
        for cell in found:
            if cell["session"] == session and "r2" in cell:
                with np.load(prediction_path(cell, options)) as stored:
                    values.setdefault(cell["arm"], []).append(stored["values"])
                    targets = stored["targets"]
        return cls(targets, values)

    def score(self, kinds: Sequence[str], size: int) -> float | None:
        """Mean test R2 over all choices of `size` seeds of each kind; None if one has fewer."""
        from poyo_jax.metrics import r2_score

        members = [self.values.get(kind, []) for kind in kinds]
        if min(map(len, members)) < size:
            return None
        choices = product(*(combinations(some, size) for some in members))
        means = [np.mean([one for some in choice for one in some], axis=0) for choice in choices]
        return float(np.mean([r2_score(self.targets, mean) for mean in means]))


def sizes(num_seeds: int) -> list[int]:
    """Sizes of ensembles: 1, 2, 4, ... up to all seeds."""
    return [size for size in (2**power for power in range(10)) if size <= num_seeds]


def title(kinds: Sequence[str], size: int) -> str:
    return " + ".join(f"{size} {TITLES[kind]}" for kind in kinds)


def summaries(columns: Columns) -> list[Cell]:
    """A line for every column: what is averaged, its mean test R2, and that of each session."""
    return [
        {"average": name, "mean_r2": float(np.mean([*scores.values()])), "r2": scores}
        for name, scores in columns.items()
    ]


def render(found: list[Cell], columns: Columns) -> str:
    """Markdown: a row for every session, then means and differences, and what failed."""
    lines = [f"| session | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(cell["session"] for cell in found):
        row = " | ".join(f"{scores[name]:.3f}" for scores in columns.values())
        lines.append(f"| {name} | {row} |")
    means = " | ".join(f"{np.mean([*scores.values()]):.3f}" for scores in columns.values())
    lines += [f"| mean | {means} |", ""]
    failed = [cell for cell in found if "error" in cell]
    lines += ["- {arm}, {session}, seed {seed}: {error}".format(**cell) for cell in failed]
    return "\n".join([*lines, *differences(columns)]).rstrip()


def differences(columns: Columns) -> list[str]:
    """Every column against one POYO and against as many GRUs, over sessions."""
    lines = ["| what | against | difference ± SE over sessions | ahead in |", "|---" * 4 + "|"]
    for name, scores in columns.items():
        members = sum(int(part.split()[0]) for part in name.split(" + "))
        for other in dict.fromkeys((title(["poyo"], 1), title(["gru"], members))):
            if other in columns and other != name and len(scores) > 1:
                gaps = [r2 - columns[other][session] for session, r2 in scores.items()]
                ahead = f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}"
                lines.append(f"| {name} | {other} | {paired_difference(gaps)} | {ahead} |")
    return lines if len(lines) > 2 else []


if __name__ == "__main__":
    main()
