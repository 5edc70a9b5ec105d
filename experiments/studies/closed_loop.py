"""Let decoders move the cursor of a simulated subject: POYO, Wiener and Kalman in the same loop.

    $ python -m experiments.studies.closed_loop --workdir runs/closed_loop

A subject moves a cursor to targets and holds it there (subject.py). It sees the cursor 0.1 s late.
Its 40 units fire by the velocity that it intends, 50 to 150 ms ahead, with the tuning of
`poyo_jax.data.simulate`. A decoder turns the spikes into a velocity, 50 times a second.

All decoders learn from the same block of two minutes, in which the cursor follows the intention:
POYO fits its units, after pretraining on blocks of eight other subjects; Wiener and Kalman filters
are tuned and fitted. Then each of them moves the cursor. In the end half of the units change
places. For a minute the experimenter helps: the cursor takes four fifths of its velocity from the
way to the target. A second process fits the units to this minute, labelled with that way, while the
decoder goes on at 50 Hz of real time, and the new units are swapped in between two updates.

The model is pretrained once; each seed draws the subject of the day, its targets, and noise.
Finished seeds are kept in `results.jsonl` of the work directory, and the same command continues.
The table and its cells are written to `closed_loop.md` and `closed_loop.json`.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.studies.results import Cell, complete, publish
from experiments.studies.subject import STEP, Decode, Subject, way_to
from poyo_jax import Session
from poyo_jax.cli.program import run_command
from poyo_jax.realtime import Stream

if TYPE_CHECKING:
    from poyo_jax import Pretrained
    from poyo_jax.finetune import FitConfig

PRETRAINED, TODAY = 1, 2  # what random numbers are for
SUBJECTS, BLOCK = 8, 120.0  # to pretrain on, and s of each block
LAST, HELP = 60.0, 0.8  # s to which the units are fitted again, and share of the help
SETTLE = 10.0  # s after a change that do not count
FIT_STEPS, REFIT_STEPS = 400, 200
STAGES = ("POYO", "Wiener", "Kalman", "POYO, half shuffled", "POYO, recalibrated")


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Decoders that move the cursor of a simulated subject."""

    workdir: Path = Path("runs/closed_loop")
    """Folder for the runs and results."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the subject of the day, its targets, and noise."""
    num_steps: int = 400
    """Steps of pretraining."""
    seconds: float = 180.0
    """Time for which each decoder moves the cursor, s."""


def main(arguments: list[str] | None = None) -> None:
    run_command(closed_loop, ClosedLoop, arguments, description=__doc__)


def closed_loop(options: ClosedLoop) -> None:
    cells = [{"seed": seed, "num_steps": options.num_steps} for seed in options.seeds]
    results = complete(
        options.workdir / "results.jsonl",
        cells,
        lambda cell: (cell["seed"], cell["num_steps"]),
        lambda cell: run_seed(options, cell["seed"]),
    )
    found = [results[cell["seed"], cell["num_steps"]] for cell in cells]
    text = table(found)
    publish(options.workdir / "closed_loop", text, found)
    print(text)


def run_seed(options: ClosedLoop, seed: int) -> Cell:
    """Let all decoders of a seed move the cursor."""
    pretrained = pretrain(options)
    block = calibration(Subject((TODAY, seed)), "today")
    fitted = _fit(pretrained, block, options.workdir / f"fitted_{seed}")
    found: Cell = {}
    for name, learn in (("Wiener", WienerLoop), ("Kalman", KalmanLoop)):
        subject = _after_calibration(seed)
        score, _ = subject.play(options.seconds, learn(block))
        found[name] = score.summary()
    subject, stream = _after_calibration(seed), make_stream(fitted, block)
    decode = stream_loop(stream)
    score, _ = subject.play(options.seconds, decode)
    found["POYO"] = score.summary()
    return found | _shuffle(options, subject, fitted, stream, decode)


def pretrain(options: ClosedLoop) -> "Pretrained":
    """Pretrain on blocks of other subjects, for causal use."""
    from poyo_jax import load, train_model
    from poyo_jax.presets import demo, with_steps

    sessions = []
    for number in range(SUBJECTS):
        sessions.append(calibration(Subject((PRETRAINED, number)), f"subject_{number}"))
    config = with_steps(demo(), options.num_steps, looks=2)
    config = replace(config, data=replace(config.data, end_weight=5.0))
    folder = options.workdir / "pretrain"
    train_model(config, sessions, folder, progress=False)
    return load(folder, step=options.num_steps)


def calibration(subject: Subject, name: str) -> Session:
    """Record a block in which the cursor does what the subject intends."""
    _, block = subject.play(BLOCK, lambda now, times, units: subject.intention)
    return block.session(name, subject.num_units, intended=False)


def _after_calibration(seed: int) -> Subject:
    """The subject of the day after the block; the same targets and noise for every decoder."""
    subject = Subject((TODAY, seed))
    calibration(subject, "today")
    return subject


def _fit(pretrained: "Pretrained", block: Session, folder: Path) -> "Pretrained":
    """Fit the units of the block, or load them if that was done before."""
    from poyo_jax import fit_units, load

    if not folder.exists():
        fit_units(pretrained, block, _settings(FIT_STEPS), progress=False).save(folder)
    return load(folder)


def _settings(num_steps: int) -> "FitConfig":
    from poyo_jax.finetune import STRATEGIES

    return replace(STRATEGIES["unit_identification"], num_steps=num_steps)


def make_stream(pretrained: "Pretrained", block: Session) -> Stream:
    """A warm decoder by the native back end."""
    from poyo_jax import StreamDecoder

    stream = StreamDecoder(pretrained, block, STEP, back_end="native")
    stream.warm_up()
    return stream


def stream_loop(stream: Stream) -> Decode:
    """A stream as a decoder of the loop."""

    def decode(now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        stream.push(times, units)
        velocity = stream.predict(now).values[0]
        stream.prepare()
        return velocity

    return decode


def _shuffle(
    options: ClosedLoop,
    subject: Subject,
    fitted: "Pretrained",
    stream: Stream,
    decode: Decode,
) -> Cell:
    """Shuffle half of the units, and calibrate again while the decoder goes on."""
    from poyo_jax.finetune import Recalibration

    subject.shuffle()
    shuffled, _ = subject.play(options.seconds / 2, decode)

    def helped(now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        way = way_to(subject.target, subject.cursor)
        return HELP * way + (1 - HELP) * decode(now, times, units)

    _, block = subject.play(LAST, helped)
    last = block.session("today, shuffled", subject.num_units, intended=True)
    job = Recalibration(fitted, last, _settings(REFIT_STEPS), hop=STEP)
    pace = Pace()
    began = time.monotonic()

    def go_on(now: float) -> bool:
        if (engine := job.poll()) is not None:
            stream.swap(engine)
        pace.wait()
        return engine is None

    subject.play(3600.0, decode, go_on)
    waited = time.monotonic() - began
    job.close()
    subject.play(SETTLE, decode)
    restored, _ = subject.play(options.seconds, decode)
    return {
        "POYO, half shuffled": shuffled.summary(),
        "POYO, recalibrated": restored.summary(),
        "refit_s": waited,
        "longest_gap_s": pace.longest,
        "updates_meanwhile": pace.count,
    }


class Pace:
    """Keeps updates STEP s of real time apart, and knows the longest time between two."""

    def __init__(self) -> None:
        self._last = self._due = time.monotonic()
        self.longest, self.count = 0.0, 0

    def wait(self) -> None:
        """Sleep until the next update is due."""
        self._due = max(self._due + STEP, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        now = time.monotonic()
        self.longest, self.count = max(self.longest, now - self._last), self.count + 1
        self._last = now


class Recent:
    """Spikes of the last seconds, and their counts in bins that end now."""

    def __init__(self, num_units: int, num_bins: int, bin_size: float):
        self.shape, self._size = (num_units, num_bins), bin_size
        self._hops: deque = deque(maxlen=round(num_bins * bin_size / STEP))

    def counts(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Add spikes, and return the counts [units, bins]."""
        self._hops.append((times, units))
        all_times, all_units = (np.concatenate(part) for part in zip(*self._hops, strict=True))
        counts = np.zeros(self.shape)
        age = np.floor((now - all_times) / self._size).astype(int)
        bins = np.clip(self.shape[1] - 1 - age, 0, self.shape[1] - 1)
        np.add.at(counts, (all_units, bins), 1)
        return counts


class WienerLoop:
    """A causal Wiener filter with the bins and the ridge that are best on the valid split."""

    def __init__(self, block: Session):
        from poyo_jax.baselines import fit_baseline, spike_counts

        chosen = fit_baseline("wiener", block, causal=True, progress=False).settings
        bins, size = round(chosen["past"] / chosen["bin_size"]), chosen["bin_size"]
        times, velocity = _train(block)
        x = spike_counts(block, times, np.arange(-bins, 1) * size).astype(np.float64)
        mean_x, mean_y = x.mean(axis=0), velocity.mean(axis=0)
        xx, xy = np.cov(x.T, bias=True), (x - mean_x).T @ (velocity - mean_y) / len(x)
        penalty = chosen["ridge"] * np.trace(xx) / len(xx) * np.eye(len(xx))
        self._weights = np.linalg.solve(xx + penalty, xy)
        self._offset = mean_y - mean_x @ self._weights
        self._recent = Recent(len(block.unit_ids), bins, size)

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Velocity in cm/s."""
        counts = self._recent.counts(now, times, units)
        return counts.ravel() @ self._weights + self._offset


class KalmanLoop:
    """A Kalman filter with the bins, order and noise that are best on the valid split.

    With bins longer than a step several filters take turns, as in the baseline.
    """

    def __init__(self, block: Session):
        from poyo_jax.baselines import KalmanSearch, fit_baseline, spike_counts
        from poyo_jax.baselines.kalman import fit_kalman

        search = KalmanSearch(bin_sizes=(0.06, 0.1, 0.2), delays=(0.0,))
        fit = fit_baseline("kalman", block, search=search, causal=True, progress=False)
        size, order = fit.settings["bin_size"], int(fit.settings["order"])
        self._ticks = round(size / STEP)
        times, velocity = _train(block)
        first = self._ticks * order
        rows = np.arange(first, len(times))
        lagged = [velocity[rows - self._ticks * lag] for lag in range(order + 1)]
        counts = spike_counts(block, times[rows], np.array([-size, 0.0]))
        kalman = fit_kalman(
            np.concatenate(lagged[:-1], axis=1),
            np.concatenate(lagged[1:], axis=1),
            np.sqrt(counts, dtype=np.float64),
            np.ones(len(rows)),
            fit.settings["shrinkage"],
        )
        noise = fit.settings["scale"] * kalman.observation_noise
        kalman = kalman._replace(observation_noise=noise)
        correction = np.eye(len(kalman.gain)) - kalman.gain @ kalman.observation
        self._kalman, self._gain = kalman, kalman.gain
        self._step = correction @ kalman.transition
        self._states = [np.zeros(len(self._step)) for _ in range(self._ticks)]
        self._recent = Recent(len(block.unit_ids), 1, size)
        self._number = 0

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Velocity in cm/s."""
        counts = np.sqrt(self._recent.counts(now, times, units)[:, 0])
        turn = self._number % self._ticks
        self._number += 1
        innovation = self._gain @ (counts - self._kalman.mean_counts)
        self._states[turn] = self._step @ self._states[turn] + innovation
        return (self._states[turn] + self._kalman.mean_state)[:2]


def _train(block: Session) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and velocities in cm/s of the train split."""
    behaviour = block.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    inside = block.split("train").contains(times)
    return times[inside], behaviour.values(0, behaviour.count)[inside].astype(np.float64)


def table(cells: Sequence[Cell]) -> str:
    """Markdown table of means and standard deviations over the seeds."""
    lines = [
        "| decoder | targets a minute | of targets reached | seconds to a target |",
        "|---|---|---|---|",
    ]
    for stage in STAGES:
        rows = [cell[stage] for cell in cells if stage in cell]
        entries = []
        for name, digits in (("per_minute", 1), ("success", 2), ("seconds", 2)):
            values = np.array([row[name] for row in rows])
            entries.append(f"{np.nanmean(values):.{digits}f} ± {np.nanstd(values):.{digits}f}")
        lines.append(f"| {stage} | {' | '.join(entries)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
