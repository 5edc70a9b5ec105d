"""Compare models of several outputs with models of one kind, adapt to new outputs, check intervals.

    $ python -m experiments.studies.outputs FOLDER --workdir runs/outputs

FOLDER holds the real recordings; without it only simulated sessions are used. Three kinds of
sessions: velocity; direction classes; velocity and 12 muscles (simulated), or velocity and
direction classes (real, where directions follow from the velocity).

- "together": one model of all sessions, against a model of the sessions of each kind alone with as
  many steps for its share of the windows. Scores are of the test splits.
- "adapt": `--seconds` of labels of a new output in a new session: the model of velocity with a new
  head, against a model from scratch.
- "intervals": coverage of the 80 % interval of learned standard deviations, calibrated on the valid
  splits, on the test splits of the sessions of training and of a held-out session.

Models are those of the preset "demo", made smaller (SIZE), so that one trains in a minute or two.

Every cell is written to `results.jsonl` when it ends, and the same command continues with those
that are missing; all of one seed come before those of the next. The tables are written to
`outputs.md`, their values to `outputs.json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.studies.results import Cell, complete, publish, sample_sd
from poyo_jax import Readout, Session, measure_readout, with_outputs
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.cli.options import MaybeFolder
from poyo_jax.cli.program import run_command
from poyo_jax.presets import demo, with_steps

if TYPE_CHECKING:
    from poyo_jax import Pretrained

SIMULATED, REAL = "simulated", "real"
KEYS = {
    "velocity": ("cursor.vel", "continuous"),
    "direction": ("reach.direction", "classes"),
    "emg": ("emg.envelope", "continuous"),
}
KINDS = {
    SIMULATED: (("velocity",), ("direction",), ("velocity", "emg")),
    REAL: (("velocity",), ("direction",), ("velocity", "direction")),
}
RECORDINGS = (  # two of each kind, and the one that training does not see
    ("set1_expt10", "set1_expt11", "set1_expt18", "set2_expt02", "set2_expt03", "set2_expt04"),
    "set2_expt11",
)
STRATEGIES = ("head", "gradual", "from_scratch")
NEW = {SIMULATED: ("emg", "direction"), REAL: ("direction",)}
KEY = ("what", "source", "seed", "model", "output")
WINDOWS = 16  # of a step
SIZE = {"dim": 16, "depth": 1, "head_dim": 16, "cross_heads": 1, "self_heads": 1, "num_latents": 4}


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Models of several outputs, adapting to new outputs, and intervals."""

    data: MaybeFolder = None
    """Folder with the real recordings; None takes simulated sessions alone."""
    workdir: Path = Path("runs/outputs")
    """Folder for the runs and results."""
    what: tuple[str, ...] = ("together", "adapt", "intervals")
    """Comparisons to make."""
    num_steps: int = 200
    """Steps of a model of one kind; the model of all kinds makes three times as many."""
    seconds: float = 30.0
    """Labels of a new output."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of trainings and fits."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(outputs, Outputs, arguments, description=__doc__)


def outputs(options: Outputs) -> None:
    sources = [SIMULATED, REAL] if options.data else [SIMULATED]
    recordings = {source: sessions_of(source, options) for source in sources}
    wanted = list(cells(options, sources))
    results = complete(
        options.workdir / "results.jsonl",
        wanted,
        key,
        lambda cell: compute(cell, recordings[cell["source"]], options),
    )
    found = [results[key(cell)] for cell in wanted]
    text = "\n".join(tables(found))
    publish(options.workdir / "outputs", text, found)
    print(text)


def key(cell: Cell) -> tuple:
    return tuple(cell[name] for name in KEY)


def cells(options: Outputs, sources: Sequence[str]) -> Iterator[Cell]:
    """Everything to compute."""
    for seed, source in product(options.seeds, sources):
        common = {"source": source, "seed": seed, "output": ""}
        if "together" in options.what:
            for model in ("together", *map("+".join, KINDS[source])):
                yield common | {"what": "together", "model": model}
        if "adapt" in options.what:
            for output, strategy in product(NEW[source], STRATEGIES):
                yield common | {"what": "adapt", "model": strategy, "output": output}
        if "intervals" in options.what:
            yield common | {"what": "intervals", "model": "together"}


# --- sessions


def sessions_of(source: str, options: Outputs) -> tuple[list[Session], Session]:
    """Sessions of training, two of each kind in turn, and the one that training does not see."""
    from poyo_jax import open_sessions
    from poyo_jax.data.simulate import add_behaviours, simulate_study

    if source == SIMULATED:
        study = simulate_study(0, 7, num_units=(20, 36), duration=150.0)
        every = [add_behaviours(session, number) for number, session in enumerate(study)]
        return every[:6], every[6]
    known, new = RECORDINGS
    assert options.data is not None
    opened = open_sessions(options.data, (*known, new))
    every = [with_directions(session) for session in opened]
    return every[:6], every[6]


def with_directions(session: Session) -> Session:
    """The session with the quadrant of its velocity where that is not small."""
    velocity = session.behaviour("cursor.vel")
    times = velocity.times_at(np.arange(velocity.count))
    values = velocity.values(0, velocity.count)
    speed = np.linalg.norm(values, axis=1)
    quarter = np.round(np.arctan2(values[:, 1], values[:, 0]) / (np.pi / 2)).astype(int) % 4
    names: list[str | None] = [("E", "N", "W", "S")[number] for number in quarter]
    moving = speed > np.nanmedian(speed)
    labels = [name if moves else None for name, moves in zip(names, moving, strict=True)]
    return session.with_behaviour("reach.direction", times, labels)


def readouts_of(sessions: Sequence[Session], source: str) -> dict[str, list[Readout]]:
    """The readouts of each session of training, by the kinds in turn."""
    kinds = KINDS[source]
    return {
        session.id: [readout_of(session, name) for name in kinds[place % len(kinds)]]
        for place, session in enumerate(sessions)
    }


def readout_of(session: Session, name: str) -> Readout:
    value_key, kind = KEYS[name]
    return measure_readout(session, value_key, name=name, kind=kind)  # pyright: ignore[reportArgumentType]


# --- cells


def compute(cell: Cell, recordings: tuple[list[Session], Session], options: Outputs) -> Cell:
    """Compute the outcome of a cell."""
    compute_of = {"together": together, "adapt": adapt, "intervals": intervals}
    return compute_of[cell["what"]](cell, *recordings, options)


def together(cell: Cell, sessions: list[Session], new: Session, options: Outputs) -> Cell:
    """Test scores by kind and output: of the model of all kinds, or of one kind."""
    chosen = readouts_of(sessions, cell["source"])
    if cell["model"] != "together":
        kind = tuple(cell["model"].split("+"))
        chosen = {name: own for name, own in chosen.items() if names_of(own) == kind}
    model = train(cell, sessions, chosen, options)
    return {"scores": scores_by_kind(model, sessions, chosen)}


def adapt(cell: Cell, sessions: list[Session], new: Session, options: Outputs) -> Cell:
    """Test score of a new output in a session that the model of velocity does not know."""
    from poyo_jax import evaluate
    from poyo_jax.finetune import STRATEGIES as SETTINGS
    from poyo_jax.finetune import finetune

    chosen = {session.id: [readout_of(session, "velocity")] for session in sessions}
    model = train(cell | {"model": "velocity_of_all"}, sessions, chosen, options)
    settings = replace(
        SETTINGS[cell["model"]],
        batch_size=WINDOWS,
        num_labelled_seconds=options.seconds,
        seed=cell["seed"],
    )
    readouts = {new.id: readout_of(new, cell["output"])}
    fit = finetune(model, new, settings, readouts=readouts, progress=False)
    evaluation = evaluate(fit.pretrained, new)
    return {"metric": evaluation.metric.name, "score": evaluation.mean}


def intervals(cell: Cell, sessions: list[Session], new: Session, options: Outputs) -> Cell:
    """Coverage and expected calibration error, on known sessions and on one after `fit_units`."""
    from poyo_jax import evaluate_outputs, fit_units

    chosen = readouts_of(sessions, cell["source"])
    model = train(cell | {"model": "spread"}, sessions, chosen, options, spread=True)
    readouts = {new.id: [readout_of(new, name) for name in KINDS[cell["source"]][2]]}
    fit = fit_units(model, new, readouts=readouts, progress=False).pretrained
    found = {}
    for where, evaluations in (
        ("known", evaluate_outputs(model, sessions)),
        ("held out", evaluate_outputs(fit, new)),
    ):
        for name, evaluation in evaluations.items():
            claims = evaluation.calibration
            if claims is not None:
                coverage = {f"{level:g}": share for level, share in claims.coverage.items()}
                found[f"{where}, {name}"] = {"coverage": coverage, "error": claims.error}
    return {"intervals": found}


def train(
    cell: Cell,
    sessions: Sequence[Session],
    readouts: Mapping[str, list[Readout]],
    options: Outputs,
    *,
    spread: bool = False,
) -> "Pretrained":
    """A model of the sessions that have readouts, after its last step; trained once."""
    from poyo_jax import load, train_model

    used = [session for session in sessions if session.id in readouts]
    steps = options.num_steps * len(used) // 2
    workdir = options.workdir / cell["source"] / f"{cell['model']}_{cell['seed']}"
    if steps not in saved_steps(workdir):
        config = with_steps(demo(), steps, cell["seed"], looks=1)
        model, data = replace(config.model, **SIZE), replace(config.data, batch_size=WINDOWS)
        config = replace(config, model=model, data=data)
        config = with_outputs(config, readouts, used, spread=spread)
        train_model(config, used, workdir, readouts=readouts, progress=False)
    return load(workdir, step=steps)


def scores_by_kind(
    model: "Pretrained", sessions: Sequence[Session], readouts: Mapping[str, list[Readout]]
) -> dict[str, dict[str, float]]:
    """Mean test score by kind of session, and output."""
    from poyo_jax import evaluate_outputs

    kinds: dict[str, list[Session]] = {}
    for session in sessions:
        if session.id in readouts:
            kinds.setdefault("+".join(names_of(readouts[session.id])), []).append(session)
    scores: dict[str, dict[str, float]] = {}
    for kind, own in kinds.items():
        evaluations = evaluate_outputs(model, own)
        scores[kind] = {name: each.mean for name, each in evaluations.items()}
        if len(evaluations) == 1:  # a model of one output
            scores[kind] = dict(zip(kind.split("+"), scores[kind].values(), strict=True))
    return scores


def names_of(readouts: Sequence[Readout]) -> tuple[str, ...]:
    return tuple(readout.name for readout in readouts)


# --- tables


def tables(results: Sequence[Cell]) -> Iterator[str]:
    """Lines of Markdown: means over seeds [standard deviation]."""
    done = [cell for cell in results if "error" not in cell]
    yield from together_table([cell for cell in done if cell["what"] == "together"])
    yield from adapt_table([cell for cell in done if cell["what"] == "adapt"])
    yield from intervals_table([cell for cell in done if cell["what"] == "intervals"])
    for cell in results:
        if "error" in cell:
            yield f"- {' '.join(map(str, key(cell)))}: {cell['error']}"


def together_table(results: Sequence[Cell]) -> Iterator[str]:
    if not results:
        return
    yield "\nTest R2, or accuracy of directions\n"
    yield "| sessions | kind | output | one model of all | a model of the kind | difference |"
    yield "|---|---|---|---|---|---|"
    for source in sources_in(results):
        own = [cell for cell in results if cell["source"] == source]
        for kind in map("+".join, KINDS[source]):
            for output in kind.split("+"):
                both = [score_of(own, model, kind, output) for model in ("together", kind)]
                row = [spread_of(each) for each in both]
                seeds = sorted(both[0].keys() & both[1].keys())
                difference = [both[0][seed] - both[1][seed] for seed in seeds]
                mean = f"{np.mean(difference):+.3f}" if difference else "–"
                yield f"| {source} | {kind} | {output} | {row[0]} | {row[1]} | {mean} |"


def score_of(results: Sequence[Cell], model: str, kind: str, output: str) -> dict[int, float]:
    """Scores by seed."""
    return {
        cell["seed"]: cell["scores"][kind][output] for cell in results if cell["model"] == model
    }


def adapt_table(results: Sequence[Cell]) -> Iterator[str]:
    if not results:
        return
    yield "\nA new output in a new session: test R2, or accuracy of directions\n"
    yield f"| sessions | output | {' | '.join(STRATEGIES)} |"
    yield f"|---|---|{'---|' * len(STRATEGIES)}"
    for source in sources_in(results):
        for output in NEW[source]:
            row = []
            for strategy in STRATEGIES:
                wanted = (source, output, strategy)
                scores: dict[int, Any] = {
                    cell["seed"]: cell["score"]
                    for cell in results
                    if (cell["source"], cell["output"], cell["model"]) == wanted
                }
                row.append(spread_of(scores))
            yield f"| {source} | {output} | {' | '.join(row)} |"


def intervals_table(results: Sequence[Cell]) -> Iterator[str]:
    if not results:
        return
    yield "\nCoverage of learned intervals, and expected calibration error\n"
    yield "| sessions | where, output | 50 % | 80 % | 95 % | error |"
    yield "|---|---|---|---|---|---|"
    for source in sources_in(results):
        own = [cell["intervals"] for cell in results if cell["source"] == source]
        for name in own[0]:
            row = []
            for level in own[0][name]["coverage"]:
                shares = [100 * each[name]["coverage"][level] for each in own]
                row.append(f"{np.mean(shares):.1f} [{np.ptp(shares) / 2:.1f}]")
            row = row or ["–"] * 3  # classes have no intervals
            error = np.mean([each[name]["error"] for each in own])
            yield f"| {source} | {name} | {' | '.join(row)} | {error:.3f} |"


def sources_in(results: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell["source"] for cell in results))


def spread_of(scores: Mapping[int, float]) -> str:
    values = list(scores.values())
    return f"{np.mean(values):.3f} [{sample_sd(values):.3f}]" if values else "–"


if __name__ == "__main__":
    main()
