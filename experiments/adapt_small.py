"""Strategies of adapting by labelled data, rates, and speed, on sessions that a pretrained model does not know.

    python experiments/adapt_small.py DATA --model runs/real_small/pretrain --workdir runs/adapt_small
    python experiments/adapt_small.py DATA --model RUN --what speed --seeds 0

DATA holds session files: those that the model knows give the map from tuning to embeddings, and --held-out names those
to adapt to. Every choice (rows kept, end of a fit, ridge of the Wiener filter) is made on the valid split, and scores
are of the test split, so rates must be compared on other sessions than those whose scores are quoted. Each fit is
written to `results.jsonl` as it ends, and the same command goes on with what is missing; the tables are drawn from that
file.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import tyro
from results import append_result, read_results
from shell import run_shell

HELD_OUT = ("set1_expt19", "set2_expt11", "m_20140303_100ms")
ALL = 0.0  # seconds, for all of the train split
WIENER = "wiener_filter"
PLAIN_RATES = (1e-3, 3e-3, 1e-2)  # of Adam on rows that start at random


@dataclass(frozen=True, kw_only=True)
class AdaptSmall:
    """Strategies of adapting by labelled data, rates, and speed."""

    data: tyro.conf.Positional[Path]
    """Folder with session files (*.h5), searched with its sub-folders."""
    model: Path
    """Folder of a run or of a saved model."""
    step: int | None = None
    """Checkpoint of the run; None takes the best on the valid splits."""
    workdir: Path = Path("runs/adapt_small")
    """Folder for `results.jsonl`."""
    what: tuple[Literal["table", "rates", "speed"], ...] = ("table", "rates", "speed")
    """Strategy by labelled data; rates of each strategy; steps and seconds until 95 % of the final R2."""
    held_out: tuple[str, ...] = HELD_OUT
    """File names (without .h5) of the sessions to adapt to."""
    strategies: tuple[str, ...] = ("unit_identification", "gradual", "full", "lora", "from_scratch")
    """Strategies to compare."""
    amounts: tuple[float, ...] = (10.0, 30.0, 100.0, ALL)
    """Labelled seconds; 0 for all of the train split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of labels, windows and dropout."""
    factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    """What the rates of rows, or else those of the backbone, are multiplied by; with the first seed alone."""
    num_steps: int | None = None
    """Most steps of every fit; None takes the strategy's."""


Job = dict[str, Any]  # what to compute, by which results are found again


def main(arguments: Sequence[str] | None = None) -> None:
    run_shell(adapt_small, tyro.cli(AdaptSmall, args=arguments, description=__doc__))


def adapt_small(options: AdaptSmall) -> None:
    from poyo_jax import load, open_sessions
    from poyo_jax.finetune import learn_tuning
    from poyo_jax.finetune.config import choose

    for strategy in options.strategies:
        choose(strategy)  # a name that does not exist fails before anything is fitted
    pretrained = load(options.model, step=options.step)
    sessions = open_sessions(options.data)
    held_out = {session.session_id: session for session in open_sessions(options.data, options.held_out)}
    tuned = learn_tuning(pretrained, [session for session in sessions if pretrained.knows(session)])
    path = options.workdir / "results.jsonl"
    done = read_results(path)
    for job in jobs(options, held_out):
        if not any(job.items() <= result.items() for result in done):
            session = held_out[job["session"]]
            result = job | compute(job, tuned, session)
            done.append(result)
            append_result(path, result)
            print(json.dumps({name: value for name, value in result.items() if name != "curve"}), flush=True)
    wanted = list(jobs(options, held_out))
    print_tables([result for result in done if any(job.items() <= result.items() for job in wanted)])


def jobs(options: AdaptSmall, held_out: dict) -> Iterator[Job]:
    """Everything to compute, session by session."""
    rates = [(factor, 1.0) for factor in options.factors] + [(1.0, factor) for factor in options.factors if factor != 1]
    for (name, session), seed in product(held_out.items(), options.seeds):
        common = {"session": name, "seed": seed, "num_steps": options.num_steps}
        if "speed" in options.what:
            yield common | {"what": "speed", "strategy": "unit_identification", "plain_rate": None}
            for rate in PLAIN_RATES:
                yield common | {"what": "speed", "strategy": "unit_identification", "plain_rate": rate}
        if "table" in options.what:
            amounts = [amount for amount in options.amounts if amount <= session.split("train").duration]
            for amount, strategy in product(amounts, (WIENER, *options.strategies)):
                yield common | {"what": "table", "strategy": strategy, "seconds": amount}
        if "rates" in options.what and seed == options.seeds[0]:
            for strategy, (rows, backbone) in product(options.strategies, rates):
                if strategy != "unit_identification" or backbone == 1:
                    yield common | {"what": "rates", "strategy": strategy, "rows": rows, "backbone": backbone}


def compute(job: Job, pretrained, session) -> Job:
    """The result of a job."""
    if job["strategy"] == WIENER:
        return wiener(job, pretrained, session)
    if job.get("plain_rate") is None:
        return fit(job, pretrained, session)
    with plain_descent():
        return fit(job, replace(pretrained, tuning=None), session)


@contextmanager
def plain_descent() -> Iterator[None]:
    """Rows start at random, as in torch_brain, and move along their own axes."""
    from poyo_jax.finetune import job, stage, start

    with (
        patch.object(start, "mean_row", lambda table: np.zeros(table.shape[1])),
        patch.object(job, "with_session_rows", lambda predict, params, *_: params),
        patch.object(stage, "coordinates", lambda table: np.eye(table.shape[1], dtype=np.float32)),
    ):
        yield


def fit(job: Job, pretrained, session) -> Job:
    """Scores, steps and wall time of a fit."""
    from poyo_jax import evaluate
    from poyo_jax.finetune import STRATEGIES, finetune

    config = STRATEGIES[job["strategy"]]
    changes: dict[str, Any] = {"seed": job["seed"], "num_labelled_seconds": job.get("seconds") or None}
    if job["num_steps"] is not None:
        changes |= {"num_steps": job["num_steps"], "unit_steps": min(config.unit_steps, job["num_steps"] // 2)}
    if job["what"] == "speed":
        changes |= {"eval_every": 10, "patience": 1000, "learning_rate": job["plain_rate"] or config.learning_rate}
    if job["what"] == "rates":
        changes["learning_rate"] = job["rows"] * config.learning_rate
        changes["backbone_rates"] = {name: job["backbone"] * rate for name, rate in config.backbone_rates.items()}
    began = time.monotonic()
    result = finetune(pretrained, [session], replace(config, **changes))
    seconds = time.monotonic() - began
    return {
        "valid_r2": result.valid_r2,
        "test_r2": evaluate(result.pretrained, [session]).mean,
        "steps": result.history[-1]["step"],
        "wall_s": round(seconds, 1),
        "curve": [[look["step"], look["seconds"], look["valid_r2"]] for look in result.history],
    }


def wiener(job: Job, pretrained, session) -> Job:
    """Scores of the Wiener filter with the labels that a fit of the same seed has."""
    from poyo_jax.baselines import wiener_filter
    from poyo_jax.data.readout import default_readout
    from poyo_jax.finetune import labelled_intervals

    window = pretrained.config.model.window_length
    labels = labelled_intervals(session, window, num_seconds=job["seconds"] or None, seed=job["seed"])
    found = wiener_filter(session, default_readout(session, labels), labels=labels)
    return {"valid_r2": found.r2["valid"], "test_r2": found.r2["test"], "steps": 0, "wall_s": 0.0}


# --- tables ----------------------------------------------------------------------------------------------------------


def print_tables(results: list[Job]) -> None:
    of = {what: [result for result in results if result["what"] == what] for what in ("table", "rates", "speed")}
    if of["table"]:
        print("\nTest R2 by labelled data, mean ± SD over seeds")
        print_grid(of["table"], ("session", "strategy"), "seconds", "test_r2", lambda x: f"{x:g} s" if x else "all")
    if of["rates"]:
        print("\nTest R2 by rates: rows down, backbone across, in multiples of the defaults; mean ± SD over sessions")
        print_grid(of["rates"], ("strategy", "rows"), "backbone", "test_r2", lambda x: f"{x:g}")
    if of["speed"]:
        print_speed(of["speed"])


def print_grid(results: list[Job], rows: tuple[str, ...], column: str, score: str, label: Callable) -> None:
    """Markdown table of the mean and spread of a score."""
    columns = sorted({result[column] for result in results}, key=lambda x: (x == ALL, x))
    keys = list(dict.fromkeys(tuple(result[name] for name in rows) for result in results))
    print(f"\n| {' | '.join((*rows, *map(label, columns)))} |\n|{'---|' * (len(rows) + len(columns))}")
    for key in keys:
        chosen = [result for result in results if tuple(result[name] for name in rows) == key]
        cells = [cell([result[score] for result in chosen if result[column] == value]) for value in columns]
        print(f"| {' | '.join((*map(str, key), *cells))} |", flush=True)


def cell(scores: list[float]) -> str:
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}" if scores else ""


def print_speed(results: list[Job]) -> None:
    """Steps and seconds until 95 % of the best validation R2 that plain descent reaches at any rate."""
    print("\nUnit identification: until 95 % of what plain gradient descent from random rows reaches at its best rate")
    print("\n| session | seed | descent | first R2 | best valid R2 | test R2 | steps | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    best: dict = {}
    for r in results:
        if r["plain_rate"] is not None:
            best[r["session"], r["seed"]] = max(r["valid_r2"], best.get((r["session"], r["seed"]), -np.inf))
    for r in results:
        goal = 0.95 * best.get((r["session"], r["seed"]), np.inf)
        reached = next(((step, round(seconds)) for step, seconds, score in r["curve"] if score >= goal), ("", ""))
        scores = [f"{value:.3f}" for value in (r["curve"][0][2], r["valid_r2"], r["test_r2"])]
        name = "ours" if r["plain_rate"] is None else f"plain, rate {r['plain_rate']:g}"
        print(f"| {' | '.join(map(str, (r['session'], r['seed'], name, *scores, *reached)))} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
