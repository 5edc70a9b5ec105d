"""Choose settings of a session by cross-validation, in place of its one valid split.

    $ python -m experiments.studies.cross_validated DATA --sessions set1_expt19 set2_expt02

DATA holds session files. The valid split of a short recording is half a minute, which ranks
settings badly. Here its train and valid splits together are cut into folds, each with pieces from
all over the recording. A setting learns from all folds but one and is scored on that one. The one
of the highest mean score is taken, and learns once more from the splits of the file. So POYO
(poyo_small) chooses its number of steps, and the GRU one of the trials of its usual search. Scores
are test R2; compare them with those of `ensembles`, where POYO has a fixed number of steps, and
the valid split of the file chooses the trial of the GRU.

Each choice is a line of `results.jsonl`, written when it ends, and the same command continues with
those that are missing or failed. The table and its cells are written to `cross_validated.md` and
`cross_validated.json`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies import real_small
from experiments.studies.results import Cell, complete, means_by_session, publish
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.errors import DataError
from poyo_jax.finetune.labels import cut_folds

if TYPE_CHECKING:
    from poyo_jax import Pretrained

ARMS = {"poyo": "POYO", "gru": "GRU"}


@dataclass(frozen=True, kw_only=True)
class CrossValidated:
    """Settings of a session, chosen by cross-validation."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    sessions: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to decode; by default all."""
    workdir: Path = Path("runs/cross_validated")
    """Folder for results and runs."""
    arms: tuple[Literal[tuple(ARMS)], ...] = tuple(ARMS)  # pyright: ignore[reportInvalidTypeForm]
    """Kinds of models."""
    steps: tuple[int, ...] = (200, 400, 800)
    """Numbers of steps that POYO chooses from."""
    num_folds: int = 2
    """Folds of the train and valid splits."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the fits."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(cross_validated, CrossValidated, arguments, description=__doc__)


def cross_validated(options: CrossValidated) -> None:
    from poyo_jax import open_sessions

    opened = open_sessions(options.data, options.sessions)
    sessions = {session.session_id: session for session in opened}
    wanted = list(cells(options, list(sessions)))
    path = options.workdir / "results.jsonl"
    results = complete(
        path, wanted, key, lambda cell: fill(cell, sessions[cell["session"]], options)
    )
    found = [results[key(cell)] for cell in wanted]
    text = render(found)
    publish(options.workdir / "cross_validated", text, found)
    print(f"\n{text}")


def cells(options: CrossValidated, names: Sequence[str]) -> Iterator[Cell]:
    """All choices, by seed, session and kind of model."""
    for seed, name, arm in product(options.seeds, names, options.arms):
        steps = list(options.steps) if arm == "poyo" else None
        yield {
            "session": name,
            "arm": arm,
            "seed": seed,
            "num_folds": options.num_folds,
            "steps": steps,
        }


def key(cell: Cell) -> tuple:
    steps = cell["steps"] and tuple(cell["steps"])
    return cell["session"], cell["arm"], cell["seed"], cell["num_folds"], steps


# --- choices


def fill(cell: Cell, session: Session, options: CrossValidated) -> Cell:
    """Scores of the folds by setting, the setting that was taken, and its test R2."""
    inner = hold_out(session, options.num_folds)
    if cell["arm"] == "gru":
        return choose_trial(session, inner, cell["seed"])
    return choose_steps(session, inner, cell["seed"], options)


def hold_out(session: Session, num_folds: int) -> list[Session]:
    """The session with each fold of its train and valid splits in turn as valid split.

    The other folds are its train split; the test split stays as it is. Raises DataError when the
    splits are too short for the folds.
    """
    both = session.split("train").union(session.split("valid"))
    folds = cut_folds(both, real_small.poyo_small().model.window_length, num_folds)
    if not len(folds[-1]):
        raise DataError(
            f"the train and valid splits of session {session.id} have {both.duration:g} s, too few"
            f" for {num_folds} folds. Take fewer folds or a longer recording."
        )
    return [session.with_splits(train=both.subtract(held), valid=held) for held in folds]


def choose_steps(
    session: Session, inner: Sequence[Session], seed: int, options: CrossValidated
) -> Cell:
    """Choose the number of steps of a POYO."""

    def train(one: Session, num_steps: int, name: str) -> "Pretrained":
        folder = options.workdir / "runs" / f"{session.session_id}-{seed}-{num_steps}-{name}"
        return real_small.train_alone(one, folder, seed, [num_steps])

    def score_fold(num_steps: int, fold: int) -> float:
        model = train(inner[fold], num_steps, f"fold_{fold}_of_{len(inner)}")
        return real_small.score_model(model, inner[fold], "valid")

    folds = {
        str(num_steps): [score_fold(num_steps, fold) for fold in range(len(inner))]
        for num_steps in options.steps
    }
    taken = best(folds)
    model = train(session, int(taken), "all")
    return {"folds": folds, "taken": taken, "r2": real_small.score_model(model, session)}


def choose_trial(session: Session, inner: Sequence[Session], seed: int) -> Cell:
    """Choose the trial of a search of GRUs, which is then trained alone."""
    from poyo_jax.baselines import NetworkSearch, fit_baseline

    searches = [fit_baseline("gru", one, seed=seed, progress=False).trials for one in inner]
    settings = [trial.settings for trial in searches[0]]
    scores = zip(*([trial.valid_r2 for trial in trials] for trials in searches), strict=True)
    folds = {str(place): list(some) for place, some in enumerate(scores)}
    taken = settings[int(best(folds))]
    search = NetworkSearch(
        network="gru",
        hidden=(int(taken["hidden"]),),
        bin_sizes=(taken["bin_size"],),
        reaches=((taken["past"], taken["future"]),),
        num_draws=1,
        log_learning_rates=only(np.log10(taken["learning_rate"])),
        log_weight_decays=only(np.log10(taken["weight_decay"])),
        dropouts=only(taken["dropout"]),
        unit_dropouts=only(taken["unit_dropout"]),
    )
    found = fit_baseline("gru", session, search=search, seed=seed, progress=False)
    return {"folds": folds, "taken": taken, "r2": found.r2["test"]}


def only(value: float) -> tuple[float, float]:
    """Bounds of a search that allow one value."""
    return float(value), float(value)


def best(folds: dict[str, list[float]]) -> str:
    """The setting of the highest mean score; one without a score in a fold is never taken."""
    return max(folds, key=lambda name: np.nan_to_num(fmean(folds[name]), nan=-np.inf))


# --- results


def render(found: Sequence[Cell]) -> str:
    """Markdown: mean test R2 over the seeds of every session, and their mean; what failed."""
    arms = list(dict.fromkeys(cell["arm"] for cell in found))
    scores = {arm: means_by_session(cell for cell in found if cell["arm"] == arm) for arm in arms}
    shared = [name for name in scores[arms[0]] if all(name in scores[arm] for arm in arms)]
    lines = [f"| session | {' | '.join(ARMS[arm] for arm in arms)} | steps of POYO |"]
    lines.append("|---" * (len(arms) + 2) + "|")
    for name in shared:
        entries = [f"{scores[arm][name]:.3f}" for arm in arms]
        lines.append(f"| {name} | {' | '.join(entries)} | {steps_taken(found, name)} |")
    if shared:
        means = [f"{fmean(scores[arm][name] for name in shared):.3f}" for arm in arms]
        lines.append(f"| mean | {' | '.join(means)} |  |")
    lines.append("")
    lines += ["- {arm}, {session}: {error}".format(**cell) for cell in found if "error" in cell]
    return "\n".join(lines).rstrip()


def steps_taken(found: Sequence[Cell], session: str) -> str:
    """Numbers of steps that POYOs of the session took, one for each seed."""
    chosen = [cell for cell in found if (cell["session"], cell["arm"]) == (session, "poyo")]
    return ", ".join(cell["taken"] for cell in chosen if "taken" in cell)


if __name__ == "__main__":
    main()
