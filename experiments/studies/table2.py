"""Fill Table 2 of the paper: baselines and POYO on sessions that pretraining has not seen.

    $ python -m experiments.studies.table2 sessions/ --poyo-mp runs/poyo_mp --poyo-1 runs/poyo_1
    $ python -m experiments.studies.table2 recordings/ --preset small --held-out monday tuesday

The first command fills the columns of Azabou et al. (2023) from a folder of prepared sessions, and
prints the paper's figures beside them; a column whose sessions are absent says how to get them. The
second makes a column of every data set among the held-out sessions. `--preset small` pretrains on
the other sessions of the folder with the settings of real_small.py: POYO-1 on all of them, POYO-MP
on every second one by name.

Every choice is made on the valid split. Each cell and seed is a line of `results.jsonl`, written
when it is finished, and the same command continues with the cells that are missing or failed. The
table is also written to `table2.md`, its cells to `table2.json`.

Protocols: "random" takes the splits of the files and averages overlapping windows, as the released
code does (eight windows at each sample here, two there). "contiguous" takes the first 70 % of each
session to train, the next 10 % to tune, and the last 20 % to test, and decodes causally: baselines
from the spikes before a sample, POYO from a window that ends at most 50 ms after it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.studies import real_small
from experiments.studies.results import complete, publish, sample_sd
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.leakage import find_leaks

PERICH = (
    "python -m data_prep prepare perich_miller_population_2018 (download 13 GB, prepared 2.9 GB)"
)
# name: prefix of the sessions' ids, a part of the ids, and how to get the sessions
COLUMNS = {
    "Monkey C - CO": ("c_", "center_out", PERICH),
    "Monkey T - CO": ("t_", "center_out", PERICH),
    "Monkey T - RT": ("t_", "random_target", PERICH),
    "NLB-Maze": (
        "jenkins",
        "maze",
        "python -m data_prep prepare nlb_mc_maze_full (download and prepared 0.7 GB)",
    ),
    "NLB-RTT": (
        "indy",
        "RTT",
        "python -m data_prep prepare nlb_mc_rtt (download 0.05 GB, prepared 0.1 GB)",
    ),
}
DETERMINISTIC = ("wiener", "kalman")
# row: title, and mean and SD over sessions in the paper
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "wiener": (
        "Wiener filter",
        ("0.886 ± 0.015", "0.639 ± 0.028", "0.592 ± 0.090", "0.749", "0.544"),
    ),
    "kalman": ("Kalman filter", ()),
    "gru": ("GRU", ("0.931 ± 0.026", "0.804 ± 0.023", "0.697 ± 0.101", "0.889", "0.595")),
    "mlp": ("MLP", ("0.950 ± 0.012", "0.858 ± 0.024", "0.747 ± 0.077", "0.879", "0.695")),
    "poyo_single": (
        "POYO, single session",
        ("0.968 ± 0.011", "0.919 ± 0.019", "0.780 ± 0.070", "0.947", "0.685"),
    ),
    "poyo_mp_unit_identification": (
        "POYO-MP + unit identification",
        ("0.968 ± 0.008", "0.901 ± 0.027", "0.776 ± 0.047", "0.896", "0.711"),
    ),
    "poyo_mp_gradual": (
        "POYO-MP + full finetuning",
        ("0.971 ± 0.012", "0.938 ± 0.019", "0.811 ± 0.056", "0.947", "0.732"),
    ),
    "poyo_1_unit_identification": (
        "POYO-1 + unit identification",
        ("0.968 ± 0.010", "0.903 ± 0.025", "0.779 ± 0.055", "0.933", "0.729"),
    ),
    "poyo_1_gradual": (
        "POYO-1 + finetuning",
        ("0.968 ± 0.012", "0.936 ± 0.013", "0.815 ± 0.050", "0.948", "0.738"),
    ),
}
CAUSAL_STEP = 0.05  # seconds of a window that are decoded under the causal protocol
PARTS = (0.7, 0.8)  # where the valid and the test split begin under the protocol "contiguous"

Job = dict[str, Any]  # of a cell: its key (protocol, row, session, seed, recipe) and its result


@dataclass(frozen=True, kw_only=True)
class Table2:
    """Table 2 of the paper: baselines and POYO on sessions that pretraining has not seen."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/table2")
    """Folder for results and runs."""
    preset: Literal["paper", "small"] = "paper"
    """Models and recipes of the paper, or of real_small.py for recordings of
    minutes.
    """
    poyo_mp: Path | None = None
    """Run or saved model for the rows of POYO-MP; with the preset small one is pretrained if none
    is given.
    """
    poyo_1: Path | None = None
    """The same for the rows of POYO-1."""
    held_out: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to decode; by default those of the paper."""
    protocols: tuple[Literal["random", "contiguous"], ...] = ("random",)
    """A table for each."""
    rows: tuple[Literal[tuple(ROWS)], ...] = tuple(ROWS)  # pyright: ignore[reportInvalidTypeForm]
    """Rows to fill."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of everything that is drawn, pretraining included unless a model is given."""
    num_steps: int | None = None
    """Steps of every training of POYO; None takes the preset's."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(table2, Table2, arguments, description=__doc__)


def table2(options: Table2) -> None:
    columns = find_columns(options)
    sessions = {name: session for some in columns.values() for name, session in some.items()}
    wanted = list(jobs(options, columns))
    results = complete(
        options.workdir / "results.jsonl",
        wanted,
        key,
        lambda job: fill(job, sessions, options),
    )
    found = [results[key(job)] for job in wanted]
    text = "\n\n".join(render(options, protocol, columns, found) for protocol in options.protocols)
    publish(options.workdir / "table2", text, found)
    print(f"\n{text}\n\n{leakage(options, sessions)}")


def find_columns(options: Table2) -> dict[str, dict[str, Session]]:
    """The sessions of every column, by file name; none where they are absent."""
    from poyo_jax import open_sessions
    from poyo_jax.data.datasets.session_lists import find_sessions, held_out_sessions

    if options.held_out is not None:
        columns: dict[str, dict[str, Session]] = {}
        for name, session in zip(
            options.held_out, open_sessions(options.data, options.held_out), strict=True
        ):
            columns.setdefault(session.brainset_id or "sessions", {})[name] = session
        return columns
    found, _ = find_sessions(options.data, held_out_sessions())
    if not found:
        raise DataError(
            f"none of the sessions of Table 2 is in {options.data}. Prepare them with {PERICH}, or"
            " name the sessions to decode with --held-out."
        )
    sessions = dict(zip(found, open_sessions(options.data, found), strict=True))
    return {
        column: {
            name: some
            for name, some in sessions.items()
            if name.startswith(prefix) and part in name
        }
        for column, (prefix, part, _) in COLUMNS.items()
    }


def leakage(options: Table2, sessions: dict[str, Session]) -> str:
    """What the test splits of each protocol share with the train splits."""
    lines = []
    for protocol in options.protocols:
        divided = list(sessions.values())
        if protocol == "contiguous":
            divided = [contiguous(session) for session in divided]
        lines.append(f"{protocol}: {find_leaks(divided)}")
    return "\n".join(lines)


def jobs(options: Table2, columns: dict[str, dict[str, Session]]) -> Iterator[Job]:
    """All cells and seeds, the quick rows first."""
    sessions = [name for some in columns.values() for name in some]
    for protocol, row, name in product(options.protocols, options.rows, sessions):
        for seed in options.seeds[:1] if row in DETERMINISTIC else options.seeds:
            job = {"protocol": protocol, "row": row, "session": name, "seed": seed}
            yield job | {"recipe": recipe(row, options)}


def recipe(row: str, options: Table2) -> str | None:
    """What the models of a row are made of, beside session and seed; None for baselines."""
    from poyo_jax.baselines import BASELINES

    if row in BASELINES:
        return None
    steps = "all steps" if options.num_steps is None else f"{options.num_steps} steps"
    parts = [options.preset, steps]
    if row != "poyo_single":
        given = given_model(row.split("_")[1], options)
        parts.append(str(given or f"without {' '.join(sorted(options.held_out or ()))}"))
    return ", ".join(parts)


def given_model(which: str, options: Table2) -> Path | None:
    return {"mp": options.poyo_mp, "1": options.poyo_1}[which]


def key(job: Job) -> tuple:
    return tuple(job.get(name) for name in ("protocol", "row", "session", "seed", "recipe"))


# --- cells


def contiguous(session: Session) -> Session:
    """The session with its domain cut in three: train, then valid, then test."""
    start, end = session.domain.starts[0], session.domain.ends[-1]
    edges = start + np.array([0.0, *PARTS, 1.0]) * (end - start)
    parts = zip(("train", "valid", "test"), pairwise(edges.tolist()), strict=True)
    return session.with_splits(
        **{name: session.domain.intersect(Intervals.from_pairs([part])) for name, part in parts}
    )


def fill(job: Job, sessions: dict[str, Session], options: Table2) -> Job:
    """Scores of a cell. Raises DataError when a score is not defined."""
    session = sessions[job["session"]]
    result = score(
        job, contiguous(session) if job["protocol"] == "contiguous" else session, options
    )
    if not np.isfinite(result["r2"]):
        raise DataError("the scored samples of the test split do not vary")
    return result


def score(job: Job, session: Session, options: Table2) -> Job:
    from poyo_jax.baselines import BASELINES

    if job["row"] in BASELINES:
        causal = job["protocol"] == "contiguous"
        return score_baseline(job["row"], session, job["seed"], causal=causal)
    model = (
        single(job, session, options)
        if job["row"] == "poyo_single"
        else adapted(job, session, options)
    )
    step = causal_step(job["protocol"])
    return {"r2": real_small.score_model(model, session, causal_step=step)}


def score_baseline(name: str, session: Session, seed: int, *, causal: bool = False) -> Job:
    """Test R2 of a searched baseline, its choice and its trials."""
    from poyo_jax.baselines import fit_baseline

    found = fit_baseline(name, session, causal=causal, seed=seed)
    trials = [trial.settings | {"valid_r2": trial.valid_r2} for trial in found.trials]
    return {"r2": found.r2["test"], "chosen": found.describe(), "trials": trials}


def causal_step(protocol: str) -> float | None:
    """Step (s) of causal decoding under the protocol; None with look-ahead."""
    return CAUSAL_STEP if protocol == "contiguous" else None


def single(job: Job, session: Session, options: Table2) -> Any:
    """The model of this session alone."""
    from poyo_jax import load, train_model
    from poyo_jax.presets import poyo_single, with_steps

    name = "{protocol}-{session}-{seed}".format(**job)
    workdir = (
        options.workdir / "single" / f"{name}-{options.preset}-{options.num_steps or 'all'}_steps"
    )
    if options.preset == "small":
        steps = real_small.SINGLE_STEPS if options.num_steps is None else [options.num_steps]
        step = causal_step(job["protocol"])
        return real_small.train_alone(session, workdir, job["seed"], steps, causal_step=step)
    train_model(with_steps(poyo_single(), options.num_steps, job["seed"]), [session], workdir)
    return load(workdir)


def adapted(job: Job, session: Session, options: Table2) -> Any:
    from poyo_jax.finetune import STRATEGIES, finetune

    _, which, strategy = job["row"].split("_", 2)
    config, steps = replace(STRATEGIES[strategy], seed=job["seed"]), options.num_steps
    if steps is not None:
        config = replace(config, num_steps=steps, unit_steps=min(config.unit_steps, steps // 2))
    return finetune(pretrained(which, job["seed"], options), [session], config).pretrained


@cache
def pretrained(which: str, seed: int, options: Table2) -> Any:
    """The model that a row starts from: "mp" or "1"; with this seed, unless a model is given."""
    from poyo_jax import load, open_sessions

    given = given_model(which, options)
    if given is not None:
        return load(given)
    if options.preset == "paper" or options.held_out is None:
        raise ConfigError(
            "no model is given for this row: pretrain one (python -m poyo_jax pretrain"
            f" poyo_{which} --data {options.data} --workdir RUN), and pass --poyo-{which} RUN."
        )
    others = [
        some
        for some in open_sessions(options.data)
        if some.path and some.path.stem not in options.held_out
    ]
    others = others[::2] if which == "mp" else others
    steps = options.num_steps or real_small.PRETRAIN_STEPS
    ids = "\n".join(session.id for session in others)
    digest = hashlib.sha256(ids.encode()).hexdigest()[:8]
    workdir = options.workdir / f"pretrain_{which}_{digest}_{seed}_{steps}_steps"
    return real_small.pretrain(others, workdir, steps, seed)


# --- table


def render(
    options: Table2,
    protocol: str,
    columns: dict[str, dict[str, Session]],
    found: Sequence[Job],
) -> str:
    """Format the table in Markdown, with missing and failed cells listed below.

    Of several data sets, a last column has the mean over all.
    """
    if options.held_out is not None and len(columns) > 1:
        columns = columns | {
            "all": {name: session for some in columns.values() for name, session in some.items()}
        }
    titles = [f"{name} ({len(some)})" for name, some in columns.items()]
    beside = " (paper)" if options.held_out is None else ""
    lines = [
        f"Test R2, protocol {protocol}: mean ± SD over sessions [mean over sessions of the SD over"
        f" seeds]{beside}",
        "",
    ]
    lines += [f"| method | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for row in options.rows:
        title, paper = ROWS[row]
        cells = []
        for place, sessions in enumerate(columns.values()):
            known = options.held_out is None and len(paper) > place
            of_row = [job for job in found if (job["protocol"], job["row"]) == (protocol, row)]
            ours = cell([job for job in of_row if job["session"] in sessions], sessions)
            cells.append(f"{ours} ({paper[place]})" if known else ours)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    absent = [
        f"- {name}: absent. {COLUMNS[name][2]}." for name, some in columns.items() if not some
    ]
    failed = [
        f"- {ROWS[job['row']][0]}, {job['session']}, seed {job['seed']}: {job['error']}"
        for job in found
        if "error" in job and job["protocol"] == protocol
    ]
    return "\n".join(lines + [""] * bool(absent or failed) + absent + failed)


def cell(found: list[Job], sessions: dict[str, Session]) -> str:
    """Mean and SD of the sessions' means over seeds, and the mean of their SDs over seeds."""
    if not sessions:
        return "absent"
    scores = [
        [job["r2"] for job in found if job["session"] == name and "r2" in job] for name in sessions
    ]
    scores = [some for some in scores if some]
    failures = sum("error" in job for job in found)
    note = f"{failures} failed" if failures else ""
    if not scores:
        return note or "missing"
    means = [np.mean(some) for some in scores]
    spread = f" ± {sample_sd(means):.3f}" if len(means) > 1 else ""
    seeds = (
        f" [{np.mean([sample_sd(some) for some in scores]):.3f}]"
        if max(map(len, scores)) > 1
        else ""
    )
    return f"{np.mean(means):.3f}{spread}{seeds}" + (f", {note}" if note else "")


if __name__ == "__main__":
    main()
