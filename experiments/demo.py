"""Run the whole path on simulated recordings: pretrain, adapt to unseen units, compare, report.

    $ python experiments/demo.py --workdir demo

The demo simulates six sessions of three monkeys and pretrains a small POYO on five of them. Then
`fit_units` learns the unit embeddings of the sixth while all other parameters stay frozen. Every
score is of a test split, on which nothing was trained or chosen. The demo takes a few minutes on
two CPU cores and downloads nothing.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import count_line


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The whole path on simulated recordings."""

    workdir: Path = Path("demo")
    """Folder for sessions, runs and the report; it is continued if it holds an interrupted demo."""
    num_steps: int = 600
    """Steps of pretraining."""
    fit_steps: int = 200
    """Most steps of fitting units."""
    num_sessions: int = 6
    """Sessions to simulate; the last one is held out of pretraining."""
    duration: float = 120.0
    """Length of each session, s."""


def main(arguments: list[str] | None = None) -> None:
    run_command(demo, Demo, arguments, description=__doc__)


def demo(options: Demo) -> None:
    from poyo_jax import evaluate, load, train_model
    from poyo_jax.baselines import wiener_filter
    from poyo_jax.finetune import FitConfig, fit_units, learn_tuning
    from poyo_jax.report import write_report

    began = time.monotonic()
    sessions = simulated_sessions(options)
    *known, new = sessions
    print(
        f"pretraining on {count_line(known)}",
        flush=True,
    )
    train_model(config(options), known, options.workdir / "pretrain")
    pretrained = learn_tuning(load(options.workdir / "pretrain"), known)
    print(
        f"fitting the {len(new.unit_ids)} units of {new.session_id}, which the model has never"
        " seen",
        flush=True,
    )
    fit = fit_units(pretrained, [new], FitConfig(num_steps=options.fit_steps), keep_snapshots=True)
    save_once(fit, options.workdir / "adapted")

    evaluation = evaluate(fit.pretrained, sessions)
    wiener = {s.id: wiener_filter(s, fit.pretrained.readout(s.id)).r2["test"] for s in sessions}
    table = {
        label(session, new): {
            "Wiener filter": wiener[session.id],
            "POYO": evaluation.r2[session.id],
        }
        for session in sessions
    }
    print_table(table)
    report = write_report(
        options.workdir / "report.html",
        fit.pretrained,
        sessions,
        workdir=options.workdir / "pretrain",
        evaluation=evaluation,
        fits={new.id: fit},
        scores={"Wiener filter": wiener},
        title="poyo_jax demo",
    )
    print(f"\n{time.monotonic() - began:.0f} s. Report: {report}")
    print_next(options)


def config(options: Demo):
    from poyo_jax.presets import demo

    preset = demo()
    every = max(options.num_steps // 4, 1)
    return replace(
        preset,
        run=replace(preset.run, num_steps=options.num_steps, eval_every=every, save_every=every),
    )


def simulated_sessions(options: Demo) -> list:
    """Simulated session files in the work directory, made once."""
    from poyo_jax import Session
    from poyo_jax.data.simulate import simulate_study

    folder = options.workdir / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    for session in simulate_study(
        0, options.num_sessions, num_units=(20, 36), duration=options.duration
    ):
        path = folder / f"{session.session_id}.h5"
        if not path.exists():
            session.save(path)
    return [Session.open(path) for path in sorted(folder.glob("*.h5"))]


def save_once(fit, path: Path) -> None:
    if not path.exists():
        fit.save(path)


def label(session, new) -> str:
    return session.session_id + (" (new units)" if session is new else "")


def print_table(table: dict[str, dict[str, float]]) -> None:
    width = max(map(len, table))
    columns = list(next(iter(table.values())))
    print(f"\n{'test R2':{width}}  " + "  ".join(f"{column:>13}" for column in columns))
    for name, scores in table.items():
        print(f"{name:{width}}  " + "  ".join(f"{scores[column]:13.3f}" for column in columns))
    means = [np.mean([scores[column] for scores in table.values()]) for column in columns]
    print(f"{'mean':{width}}  " + "  ".join(f"{mean:13.3f}" for mean in means))


def print_next(options: Demo) -> None:
    folder = options.workdir
    print(
        "\nNext:",
        f"open {folder}/report.html in a browser",
        f".venv/bin/tensorboard --logdir {folder}/pretrain/tb     (pip install tensorboard)",
        f".venv/bin/python -m poyo_jax pretrain demo --data {folder}/sessions --workdir runs/demo",
        f".venv/bin/python -m poyo_jax explore {folder}/adapted --data {folder}/sessions",
        sep="\n  ",
    )


if __name__ == "__main__":
    main()
