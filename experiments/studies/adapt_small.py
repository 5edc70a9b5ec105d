"""Compare strategies of adaptation by labelled data, learning rate, and speed.

    $ python -m experiments.studies.adapt_small DATA --model runs/real_small/pretrain
    $ python -m experiments.studies.adapt_small DATA --model RUN --what speed --seeds 0

DATA holds session files; --held-out names those to adapt to. A model without a map from tuning to
embeddings gets one from the sessions in DATA that it knows.

Every choice (rows kept, end of a fit, ridge of the Wiener filter) is made on the valid split, and
scores are of the test split. Compare rates therefore on other sessions than those whose scores are
quoted. Each fit is written to `results.jsonl` when it ends, and the same command continues with the
fits that are missing or failed. The tables are written to `adapt_small.md`, their values to
`adapt_small.json`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.studies.results import complete, publish, sample_sd
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.errors import ConfigError

HELD_OUT = ("set1_expt19", "set2_expt11", "m_20140303_100ms")
ALL = 0.0  # seconds, for all of the train split
WIENER = "wiener_filter"
ROWS_ALONE = "unit_identification"
GRU = "gru"  # searched, on the same labels
AUTO = "auto"  # takes one of the strategies by cross-validation on the labels
PLAIN_RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # of Adam on rows that start at random
SCORES = {2: "valid_r2", 3: "test_r2"}  # place in the curve of a fit for speed


@dataclass(frozen=True, kw_only=True)
class AdaptSmall:
    """Strategies of adapting by labelled data, rates, and speed."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    model: Path
    """Folder of a run or of a saved model."""
    step: int | None = None
    """Checkpoint of the run; None takes the best on the valid splits."""
    workdir: Path = Path("runs/adapt_small")
    """Folder for results."""
    what: tuple[Literal["table", "rates", "speed"], ...] = ("table", "rates", "speed")
    """Strategy by labelled data; rates of each strategy; steps and seconds until 95 % of the final
    R2.
    """
    held_out: tuple[str, ...] = HELD_OUT
    """File names (without .h5) of the sessions to adapt to."""
    strategies: tuple[str, ...] = (ROWS_ALONE, "gradual", "full", "lora", "from_scratch")
    """Strategies to compare; "auto" makes ten fits, and "gru" searches a GRU."""
    amounts: tuple[float, ...] = (10.0, 30.0, 100.0, ALL)
    """Labelled seconds; 0 for all of the train split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of labels, windows and dropout."""
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 8e-3)
    """Rates of the backbone to compare, with the first seed alone."""
    row_rates: tuple[float, ...] = (0.015, 0.05, 0.15)
    """Rates of the rows to compare, in standard deviations of the trained rows, for unit
    identification.
    """
    num_steps: int | None = None
    """Most steps of every fit; None takes the strategy's."""


Job = dict[str, Any]  # keys of a fit (purpose and settings), and its outcome
KEY = ("what", "session", "seed", "strategy", "seconds", "rate", "plain", "num_steps")


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(adapt_small, AdaptSmall, arguments, description=__doc__)


def adapt_small(options: AdaptSmall) -> None:
    from poyo_jax import load, open_sessions
    from poyo_jax.finetune import learn_tuning
    from poyo_jax.finetune.strategies import choose

    if AUTO in options.strategies and options.num_steps is not None:
        raise ConfigError('"auto" compares strategies with steps of their own: no --num-steps.')
    for strategy in {*options.strategies} - {AUTO, GRU}:
        choose(strategy)  # a name that does not exist fails before anything is fitted
    pretrained = load(options.model, step=options.step)
    held_out = {
        session.session_id: session for session in open_sessions(options.data, options.held_out)
    }
    if pretrained.tuning is None:
        known = [each for each in open_sessions(options.data) if pretrained.knows(each)]
        pretrained = learn_tuning(pretrained, known)
    wanted = list(jobs(options, held_out))
    results = complete(
        options.workdir / "results.jsonl",
        wanted,
        key,
        lambda job: compute(job, pretrained, held_out[job["session"]]),
    )
    found = [results[key(job)] for job in wanted]
    text = "\n".join(tables(found))
    publish(options.workdir / "adapt_small", text, found)
    print(text)


def jobs(options: AdaptSmall, held_out: dict) -> Iterator[Job]:
    """Everything to compute, session by session."""
    for (name, session), seed in product(held_out.items(), options.seeds):
        common = {"session": name, "seed": seed, "num_steps": options.num_steps}
        common |= {"seconds": ALL, "rate": None, "plain": False}
        if "speed" in options.what:
            speed = common | {"what": "speed", "strategy": ROWS_ALONE}
            yield speed
            for rate in PLAIN_RATES:
                yield speed | {"rate": rate, "plain": True}
        if "table" in options.what:
            amounts = [
                amount for amount in options.amounts if amount <= session.split("train").duration
            ]
            for amount, strategy in product(amounts, (WIENER, *options.strategies)):
                yield common | {"what": "table", "strategy": strategy, "seconds": amount}
        if "rates" in options.what and seed == options.seeds[0]:
            for strategy in [name for name in options.strategies if name != AUTO]:
                for rate in options.row_rates if strategy == ROWS_ALONE else options.rates:
                    yield common | {"what": "rates", "strategy": strategy, "rate": rate}


def key(job: Job) -> tuple:
    return tuple(job[name] for name in KEY)


# --- fits


def compute(job: Job, pretrained, session) -> Job:
    """Compute the outcome of a job."""
    if job["strategy"] in (WIENER, GRU):
        return baseline(job, pretrained, session)
    if job["strategy"] == AUTO:
        return fit_auto(job, pretrained, session)
    return fit(job, pretrained, session)


def fit(job: Job, pretrained, session) -> Job:
    """Scores, steps and the curve (step, seconds, valid R2; for speed also test R2) of a fit."""
    from poyo_jax import evaluate
    from poyo_jax.finetune import STRATEGIES, finetune

    config = STRATEGIES[job["strategy"]]
    changes: dict[str, Any] = {"seed": job["seed"], "num_labelled_seconds": job["seconds"] or None}
    if job["num_steps"] is not None:
        changes |= {
            "num_steps": job["num_steps"],
            "unit_steps": min(config.unit_steps, job["num_steps"] // 2),
        }
    if job["what"] == "speed":
        changes |= {"eval_every": 10, "patience": 1000}
    if job["plain"]:
        changes |= {"starts": "random", "coordinates": "plain", "prior_weight": 0.0}
    if job["rate"] is not None:
        alone = job["strategy"] == ROWS_ALONE
        changes |= (
            {"learning_rate": job["rate"]} if alone else {"backbone_rates": {"": job["rate"]}}
        )
    speed = job["what"] == "speed"
    result = finetune(pretrained, [session], replace(config, **changes), keep_snapshots=speed)
    curve = [[int(look["step"]), look["seconds"], look["valid_r2"]] for look in result.history]
    return {
        "valid_r2": result.valid_r2,
        "test_r2": evaluate(result.pretrained, [session], stitch="mean").mean,
        "steps": curve[-1][0],
        "curve": (
            [[*look, evaluate(result.at(look[0]), [session], stitch="mean").mean] for look in curve]
            if speed
            else curve
        ),
    }


def fit_auto(job: Job, pretrained, session) -> Job:
    """Scores of the strategy that cross-validation takes, its name, and the scores of the folds."""
    from poyo_jax import evaluate
    from poyo_jax.finetune import Auto, finetune

    auto = Auto(num_labelled_seconds=job["seconds"] or None, seed=job["seed"])
    result = finetune(pretrained, [session], auto)
    assert result.choice is not None
    return {
        "valid_r2": result.valid_r2,
        "test_r2": evaluate(result.pretrained, [session], stitch="mean").mean,
        "taken": result.choice.strategy,
        "folds": dict(result.choice.scores) | {WIENER: result.choice.wiener},
    }


def baseline(job: Job, pretrained, session) -> Job:
    """Scores of a baseline with the labels that a fit of the same seed has."""
    from poyo_jax.baselines import fit_baseline, wiener_filter
    from poyo_jax.data.readout import default_readout
    from poyo_jax.finetune import labelled_intervals

    window = pretrained.config.model.window_length
    labels = labelled_intervals(
        session, window, num_seconds=job["seconds"] or None, seed=job["seed"]
    )
    readout = default_readout(session, labels)
    if job["strategy"] == WIENER:
        found = wiener_filter(session, readout, labels=labels)
    else:
        found = fit_baseline(
            "gru", session.with_splits(train=labels), readout, seed=job["seed"], progress=False
        )
    return {"valid_r2": found.r2["valid"], "test_r2": found.r2["test"]}


# --- tables


def tables(results: list[Job]) -> Iterator[str]:
    """Lines of Markdown."""
    of = {
        what: [job for job in results if job["what"] == what]
        for what in ("table", "rates", "speed")
    }
    if of["table"]:
        yield "\nTest R2 by labelled data, mean ± SD over seeds\n"
        yield from grid(
            of["table"], ("session", "strategy"), "seconds", lambda x: f"{x:g} s" if x else "all"
        )
        yield "\nMean over sessions ± SD over seeds of that mean\n"
        yield from grid(
            mean_session(of["table"]),
            ("strategy",),
            "seconds",
            lambda x: f"{x:g} s" if x else "all",
        )
    if of["rates"]:
        yield (
            "\nTest R2 by rate (of the rows for unit identification, else of the backbone), mean ±"
            " SD over sessions"
        )
        for alone in (True, False):
            some = [job for job in of["rates"] if (job["strategy"] == ROWS_ALONE) == alone]
            if some:
                yield ""
                yield from grid(some, ("strategy",), "rate", lambda x: f"{x:g}")
    if of["speed"]:
        yield from speed_table(of["speed"])
    yield from (
        f"- {job['what']}, {job['session']}, {job['strategy']}: {job['error']}"
        for job in failed(results)
    )


def failed(results: list[Job]) -> list[Job]:
    return [job for job in results if "error" in job]


def grid(results: list[Job], rows: tuple[str, ...], column: str, label: Callable) -> Iterator[str]:
    """Mean and spread of the test scores in every cell."""
    columns = sorted({job[column] for job in results}, key=lambda x: (x == ALL, x))
    keys = list(dict.fromkeys(tuple(job[name] for name in rows) for job in results))
    yield f"| {' | '.join((*rows, *map(label, columns)))} |"
    yield f"|{'---|' * (len(rows) + len(columns))}"
    for names in keys:
        chosen = [
            job
            for job in results
            if tuple(job[name] for name in rows) == names and "test_r2" in job
        ]
        cells = [
            cell([job["test_r2"] for job in chosen if job[column] == value]) for value in columns
        ]
        yield f"| {' | '.join((*names, *cells))} |"


def mean_session(results: list[Job]) -> list[Job]:
    """The mean over sessions of every strategy, amount and seed that all sessions have."""
    sessions = {job["session"] for job in results}
    groups: dict[tuple, list[float]] = {}
    for job in results:
        if "test_r2" in job:
            groups.setdefault((job["strategy"], job["seconds"], job["seed"]), []).append(
                job["test_r2"]
            )
    return [
        {"strategy": strategy, "seconds": seconds, "test_r2": float(np.mean(scores))}
        for (strategy, seconds, _), scores in groups.items()
        if len(scores) == len(sessions)
    ]


def cell(scores: list[float]) -> str:
    return f"{np.mean(scores):.3f} ± {sample_sd(scores):.3f}" if scores else ""


def speed_table(results: Iterable[Job]) -> Iterator[str]:
    """Count steps and seconds until a fit reaches the goal.

    The goal is 95 % of the score of plain descent at the rate that is best on the valid split.
    """
    yield (
        "\nUnit identification: until 95 % of what plain descent from random rows comes to at its"
        " best rate\n"
    )
    yield (
        "| session | seed | descent | first test R2 | valid R2 | test R2 | until 95 % of valid R2 |"
        " of test R2 |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    fits = [job for job in results if "curve" in job]
    for job in fits:
        plain = [
            fit
            for fit in fits
            if fit["plain"] and (fit["session"], fit["seed"]) == (job["session"], job["seed"])
        ]
        best = max(plain, key=lambda fit: fit["valid_r2"], default=None)
        reached = [
            until(job["curve"], place, best[name]) if best else "" for place, name in SCORES.items()
        ]
        scores = [f"{value:.3f}" for value in (job["curve"][0][3], job["valid_r2"], job["test_r2"])]
        name = f"plain, rate {job['rate']:g}" if job["plain"] else "ours"
        yield f"| {' | '.join(map(str, (job['session'], job['seed'], name, *scores, *reached)))} |"


def until(curve: list[list], place: int, final: float) -> str:
    """Find the first evaluation that scores 95 % of `final`."""
    reached = (f"{look[0]} steps, {look[1]:.0f} s" for look in curve if look[place] >= 0.95 * final)
    return next(reached, "never")


if __name__ == "__main__":
    main()
