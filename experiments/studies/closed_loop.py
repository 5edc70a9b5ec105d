"""Let decoders move the cursor of a simulated subject: POYO, Wiener and Kalman in the same loop.

    $ python -m experiments.studies.closed_loop --workdir runs/closed_loop

A subject moves a cursor to targets and holds it there (subject.py). It sees the cursor 0.1 s late.
Its 40 units fire by the velocity that it intends, 50 to 150 ms ahead, with the tuning of
`poyo_jax.data.simulate`. A decoder turns the spikes into a velocity, 50 times a second.

All decoders learn from the same two minutes, labelled with the way to the target, which the
subject must have intended (Gilja et al. 2012). In the first minute the cursor follows the
intention. In the second one a Kalman filter of the first moves it, so that the subject corrects
errors, as it will later. POYO is finetuned, after pretraining on such blocks of other subjects; the
settings of the filters are searched. How far the labels look ahead, and by what the decoded
velocity is multiplied, is chosen for every decoder in the loop of subjects that are not scored
(loop_settings.py). Then each decoder moves the cursor.

In the end half of the units change places. For a minute the experimenter helps: the cursor takes
four fifths of its velocity from the way to the target. Each decoder learns again from this minute.
POYO does so in a second process, while the old one goes on at 50 Hz of real time, and the new
engine is swapped in between two updates.

The model is pretrained once; each seed draws the subject of the day, its targets, and noise.
Finished seeds are kept in `results.jsonl` of the work directory, those of the settings in
`settings.jsonl`, and the same command continues. The tables, their cells and a figure are written
to `closed_loop.md`, `.json` and `.png`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from experiments.studies.filter_loops import KalmanLoop, WienerLoop
from experiments.studies.loop_days import FilterDay, PoyoDay, Settings
from experiments.studies.loop_settings import Learn, choose_settings, settings_table
from experiments.studies.results import Cell, complete, grouped, publish, sample_sd
from experiments.studies.subject import Block, Subject, way_to
from poyo_jax.cli.program import run_command

if TYPE_CHECKING:
    from poyo_jax import Pretrained

PRETRAINED, TODAY, TUNED = 1, 2, 3  # what random numbers are for
MINUTE, HELP = 60.0, 0.8  # s of a block, and share of the help
SETTLE = 10.0  # s after a change that do not count
WINDOW = 0.5  # s: half of the work; Wiener filters are as good with 0.5 s as with 1 s
END_WEIGHT = 20.0  # the last 0.1 s of a window count most: a stream uses nothing else
FILTERS = {"Wiener": WienerLoop, "Kalman": KalmanLoop}
POYO = "POYO"
STATES = ("calibrated", "half shuffled", "calibrated again")


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Decoders that move the cursor of a simulated subject."""

    workdir: Path = Path("runs/closed_loop")
    """Folder for the runs and results."""
    decoders: tuple[Literal["Wiener", "Kalman", "POYO"], ...] = ("Wiener", "Kalman", "POYO")
    """Decoders to compare."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the subject of the day, its targets, and noise."""
    num_subjects: int = 16
    """Other subjects, on whose blocks POYO is pretrained."""
    num_steps: int = 1000
    """Steps of pretraining."""
    num_tuned: int = 2
    """Other subjects, in whose loop each decoder's settings are chosen."""
    seconds: float = 180.0
    """Time for which each decoder moves the cursor, s."""


def main(arguments: list[str] | None = None) -> None:
    run_command(closed_loop, ClosedLoop, arguments, description=__doc__)


def closed_loop(options: ClosedLoop) -> None:
    found: list[Cell] = []
    tried: list[Cell] = []
    for decoder in options.decoders:
        scored, tuned = decoder_results(decoder, options)
        found += scored
        tried += tuned
    text = f"{table(found)}\n\n{settings_table(tried)}"
    publish(options.workdir / "closed_loop", text, found + tried)
    draw(found, options.workdir / "closed_loop.png")
    print(text)


def decoder_results(decoder: str, options: ClosedLoop) -> tuple[list[Cell], list[Cell]]:
    """Results of a decoder, one for each seed, and those among which its settings are chosen."""
    keys: Cell = {"decoder": decoder, "seconds": options.seconds}
    if decoder == POYO:
        keys |= {"num_subjects": options.num_subjects, "num_steps": options.num_steps}
    make = partial(learner, decoder, options)
    path = options.workdir / "settings.jsonl"
    subjects = tuned_subjects(options.num_tuned)
    settings, tried = choose_settings(path, keys, subjects, make, options.seconds)
    chosen = keys | asdict(settings)
    cells = [{**chosen, "seed": seed} for seed in options.seeds]
    names = tuple(cells[0])
    results = complete(
        options.workdir / "results.jsonl",
        cells,
        lambda cell: tuple(map(cell.get, names)),
        lambda cell: run(make(settings), cell["seed"], options.seconds),
    )
    return [results[tuple(cell.values())] for cell in cells], tried


@cache
def tuned_subjects(count: int) -> list[tuple[Subject, Block]]:
    """Calibrated subjects that are not scored."""
    subjects = [Subject((TUNED, number)) for number in range(count)]
    return [(subject, calibration(subject)) for subject in subjects]


def learner(decoder: str, options: ClosedLoop, settings: Settings) -> Learn:
    """What learns from blocks, and then moves the cursor."""
    if decoder != POYO:
        return FilterDay(FILTERS[decoder], settings)
    from poyo_jax.finetune import STRATEGIES

    return PoyoDay(pretrain(options), STRATEGIES["gradual"], settings)


def run(learn: Learn, seed: int, seconds: float) -> Cell:
    """Let a decoder move the cursor of the subject of a day."""
    subject = Subject((TODAY, seed))
    scores = day(subject, learn, calibration(subject), seconds)
    return scores | (learn.measured if isinstance(learn, PoyoDay) else {})


def calibration(subject: Subject) -> Block:
    """Record a minute in which the cursor follows the intention, and one of a Kalman filter."""
    _, watched = subject.play(MINUTE, lambda now, times, units: subject.intention)
    kalman = KalmanLoop(watched.session("first minute", subject.num_units))
    _, moved = subject.play(MINUTE, kalman)
    return watched + moved


def day(subject: Subject, learn: Learn, block: Block, seconds: float) -> Cell:
    """Scores of a decoder in all states."""
    decode = learn(subject, block)
    scores = [subject.play(seconds, decode)[0]]
    subject.shuffle()
    scores.append(subject.play(seconds, decode)[0])

    def helped(now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        way = way_to(subject.target, subject.cursor)
        return HELP * way + (1 - HELP) * decode(now, times, units)

    _, last_minute = subject.play(MINUTE, helped)
    decode = learn(subject, last_minute)
    subject.play(SETTLE, decode)
    scores.append(subject.play(seconds, decode)[0])
    return {state: score.summary() for state, score in zip(STATES, scores, strict=True)}


@cache
def pretrain(options: ClosedLoop) -> "Pretrained":
    """Pretrain on blocks of other subjects, for causal use."""
    from poyo_jax import load, train_model
    from poyo_jax.presets import demo, with_steps

    sessions = []
    for number in range(options.num_subjects):
        subject = Subject((PRETRAINED, number))
        name = f"subject_{number:02d}"
        sessions.append(calibration(subject).session(name, subject.num_units))
    config = with_steps(demo(), options.num_steps, looks=2)
    config = replace(
        config,
        model=replace(config.model, window_length=WINDOW, attention_dropout=0.0),
        data=replace(config.data, end_weight=END_WEIGHT),
        optim=replace(config.optim, unit_start="tuning"),
    )
    folder = options.workdir / "pretrain"
    train_model(config, sessions, folder, progress=False)
    return load(folder, step=options.num_steps)


def table(cells: Sequence[Cell]) -> str:
    """Markdown table of means and standard deviations over the seeds."""
    lines = [
        "| decoder | targets a minute | of targets reached | seconds to a target |",
        "|---|---|---|---|",
    ]
    for state, (name, rows) in product(STATES, grouped(cells, "decoder").items()):
        entries = []
        for score, digits in (("per_minute", 1), ("success", 2), ("seconds", 2)):
            values = np.array([row[state][score] for row in rows])
            values = values[np.isfinite(values)]  # no target reached, no time to it
            shown = (
                f"{values.mean():.{digits}f} ± {sample_sd(values):.{digits}f}"
                if len(values)
                else ""
            )
            entries.append(shown)
        lines.append(f"| {name}, {state} | {' | '.join(entries)} |")
    return "\n".join(lines)


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Targets a minute of every decoder in every state: a bar for the mean, a dot for each seed."""
    from matplotlib import pyplot as plt

    from poyo_jax import plots

    figure, ax = plt.subplots(figsize=(plots.WIDTH, 3.2), layout="constrained")
    for shift, (name, rows) in enumerate(grouped(cells, "decoder").items()):
        places = np.arange(len(STATES)) + 0.27 * (shift - 1)
        rates = [[row[state]["per_minute"] for row in rows] for state in STATES]
        color = plots.COLORS[shift]
        ax.bar(places, np.mean(rates, axis=1), 0.24, color=color, alpha=0.5, label=name)
        ax.plot(np.repeat(places, len(rows)), np.ravel(rates), ".", color=color)
    ax.set(ylabel="targets a minute")
    ax.set_xticks(range(len(STATES)), STATES)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
