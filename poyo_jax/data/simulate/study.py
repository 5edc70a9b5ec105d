"""Sessions of simulated monkeys: smooth reaches, and units tuned to the velocity of the cursor.

A unit's log rate is linear in the velocity (cosine tuning whose depth grows with speed) and in the
speed, read some tens of milliseconds ahead, because motor cortex leads the hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from poyo_jax.checks import SEED, check_number, integer, number
from poyo_jax.data.importers.arrays import Pairs
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.simulate.spikes import Sources, Spikes, draw_trains, rate_grid
from poyo_jax.errors import DataError

TASKS = ("center_out", "random_target")
SAMPLING_RATES = (100.0, 250.0, 50.0)  # Hz
SUBJECTS = ("ada", "bo", "cleo")

UNTUNED = 0.15  # share of the units
REFERENCE_SPEED = 20.0  # cm/s at which the gains below apply

Times = Float[np.ndarray, " times"]
Generator = np.random.Generator


@dataclass(frozen=True)
class Reaches:
    """Straight reaches, one after the other, with rests between them."""

    starts: Float64[np.ndarray, " reaches"]  #: s
    lengths: Float64[np.ndarray, " reaches"]  #: s
    displacements: Float64[np.ndarray, "reaches 2"]  #: cm

    def velocity(self, times: Times) -> Float64[np.ndarray, "times 2"]:
        """Velocity of the cursor in cm/s: minimum-jerk within a reach, zero outside.

        Source: Flash and Hogan 1985.
        """
        current = np.searchsorted(self.starts, times, side="right") - 1
        current = np.clip(current, 0, None)
        lengths = self.lengths[current]
        phase = (times - self.starts[current]) / lengths
        phase = np.clip(phase, 0.0, 1.0)
        profile = 30 * phase**2 * (1 - phase) ** 2 / lengths  # 1/s, integrates to 1
        return profile[:, None] * self.displacements[current]


@dataclass(frozen=True)
class Tuning:
    """Tuning of the units to the velocity of the cursor.

    rate = baseline * exp((gains · velocity + speed_gains * speed) / REFERENCE_SPEED).
    """

    baselines: Float64[np.ndarray, " units"]  #: Hz, at rest
    gains: Float64[np.ndarray, "units 2"]  #: of the velocity
    speed_gains: Float64[np.ndarray, " units"]  #: of the speed
    latencies: Float64[np.ndarray, " units"]  #: s by which the unit leads the movement


def simulate_session(
    seed: int | Sequence[int],
    *,
    session_id: str = "session",
    subject_id: str = "ada",
    num_units: int = 40,
    duration: float = 150.0,
    sampling_rate: float = 100.0,
    task: str = "center_out",
) -> Session:
    """Simulate a session of `duration` (s) with cursor velocity `cursor.vel` in cm/s.

    The velocity is sampled at `sampling_rate` (Hz).

    The task is "center_out", reaches to eight targets and back with holds between, or
    "random_target", reach after reach. A centre-out session also has the intervals `trials`,
    `movement_phases.hold_period` and `movement_phases.reach_period`. The result depends on the
    arguments alone.

    Raises:
        DataError: an unknown task, no unit, a duration below 20 s, or a sampling rate below 1 Hz.
    """
    _check(num_units, duration, sampling_rate, task)
    rng = np.random.default_rng(seed)
    reaches, intervals = (
        _center_out(rng, duration) if task == "center_out" else _random_target(rng, duration)
    )
    tuning = draw_tuning(rng, num_units)
    spike_times, spike_units = draw_spikes(rng, tuning, reaches, duration)
    times = np.arange(int(duration * sampling_rate)) / sampling_rate
    return Session.from_arrays(
        spike_times,
        spike_units,
        [f"unit_{unit:02d}" for unit in range(num_units)],
        times,
        reaches.velocity(times),
        session_id=session_id,
        brainset_id="simulated",
        subject_id=subject_id,
        target_key="cursor.vel",
        target_unit="cm/s",
        intervals=intervals,
        domain=Intervals.from_pairs([(0.0, duration)]),
    )


def simulate_study(
    seed: int,
    num_sessions: int = 8,
    *,
    num_units: tuple[int, int] = (20, 60),
    duration: float = 150.0,
) -> list[Session]:
    """Simulate sessions of three monkeys that alternate between tasks and sampling rates.

    Each session has its own units, between `num_units[0]` and `num_units[1]` of them. Session i
    does not depend on `num_sessions`.

    Raises:
        DataError: the bounds of `num_units` are reversed, or for a reason of `simulate_session`.
    """
    check_number("num_sessions", num_sessions, integer(0))
    check_number("seed", seed, SEED)
    if num_units[0] > num_units[1]:
        raise DataError(
            f"num_units is {num_units}, but must be (fewest, most) units of a session; swap the"
            " two."
        )
    return [_study_session(seed, i, num_units, duration) for i in range(num_sessions)]


def _study_session(seed: int, i: int, num_units: tuple[int, int], duration: float) -> Session:
    subject = SUBJECTS[i % len(SUBJECTS)]
    task = TASKS[i % len(TASKS)]
    rng = np.random.default_rng((seed, i, 1))
    fewest, most = num_units
    return simulate_session(
        (seed, i),
        session_id=f"{subject}_{i + 1:02d}_{task}",
        subject_id=subject,
        num_units=int(rng.integers(fewest, most + 1)),
        duration=duration,
        sampling_rate=SAMPLING_RATES[i // len(TASKS) % len(SAMPLING_RATES)],
        task=task,
    )


def _check(num_units: int, duration: float, sampling_rate: float, task: str) -> None:
    check_number("num_units", num_units, integer(1, 10**6))
    check_number("duration", duration, number(at_least=20, at_most=10**6))
    check_number("sampling_rate", sampling_rate, number(at_least=1, at_most=10**6))
    if task not in TASKS:
        raise DataError(
            f"task is {task!r}, but only {' and '.join(map(repr, TASKS))} can be simulated; choose"
            " one."
        )


# --- reaches


def _center_out(rng: Generator, duration: float) -> tuple[Reaches, dict[str, Pairs]]:
    """Draw reaches from the centre to one of eight targets and back, with holds between them."""
    count = int(duration / 1.7)  # a trial lasts at least 1.7 s
    shortest = np.array([0.4, 0.5, 0.3, 0.5])[:, None]  # s
    longest = np.array([0.9, 0.9, 0.6, 0.9])[:, None]  # s
    hold, out, wait, back = rng.uniform(shortest, longest, (4, count))
    ends = np.cumsum(hold + out + wait + back)
    starts = np.concatenate([[0.0], ends[:-1]])
    angles = rng.integers(8, size=count) * (np.pi / 4)
    angles = angles + rng.normal(0.0, 0.05, count)
    distances = rng.normal(8.0, 0.3, count)
    targets = distances[:, None] * _unit_vectors(angles)
    # [trials, out and back]
    reach_starts = np.stack([starts + hold, ends - back], axis=1)
    lengths = np.stack([out, back], axis=1)
    displacements = np.stack([targets, -targets], axis=1)
    reaches = Reaches(
        starts=reach_starts.ravel(),
        lengths=lengths.ravel(),
        displacements=displacements.reshape(-1, 2),
    )
    whole = ends <= duration
    bounds = {
        "trials": (starts, ends),
        "movement_phases.hold_period": (starts, starts + hold),
        "movement_phases.reach_period": (starts + hold, starts + hold + out),
    }
    intervals = {}
    for name, (begins, stops) in bounds.items():
        intervals[name] = Intervals.from_arrays(begins[whole], stops[whole])
    return reaches, intervals


def _unit_vectors(angles: np.ndarray) -> Float64[np.ndarray, "angles 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _random_target(rng: Generator, duration: float) -> tuple[Reaches, dict[str, Pairs]]:
    """Draw reaches to targets anywhere in a square of 16 cm, with short pauses between them."""
    count = int(duration / 0.4)  # a reach lasts at least 0.4 s
    targets = rng.uniform(-8.0, 8.0, (count + 1, 2))
    displacements = np.diff(targets, axis=0)
    distances = np.linalg.norm(displacements, axis=1)
    lengths = 0.4 + 0.04 * distances + rng.uniform(0.0, 0.1, count)
    pauses = rng.uniform(0.0, 0.15, count)
    starts = np.cumsum(lengths + pauses) - lengths
    return Reaches(starts, lengths, displacements), {}


# --- units


def draw_tuning(rng: Generator, num_units: int) -> Tuning:
    """Draw the tuning of `num_units` units; a share UNTUNED of them fires at a constant rate."""
    tuned = rng.random(num_units) >= UNTUNED
    directions = rng.uniform(0.0, 2 * np.pi, num_units)
    depths = tuned * rng.uniform(0.2, 1.1, num_units)
    baselines = rng.lognormal(np.log(6.0), 0.6, num_units)
    return Tuning(
        baselines=np.clip(baselines, 3.0, 25.0),
        gains=depths[:, None] * _unit_vectors(directions),
        speed_gains=tuned * rng.uniform(-0.2, 0.8, num_units),
        latencies=rng.uniform(0.05, 0.15, num_units),
    )


def unit_rates(
    tuning: Tuning, reaches: Reaches, unit: int, times: Times
) -> Float64[np.ndarray, " times"]:
    """Rate in Hz of one unit at `times` (s), before refractoriness."""
    velocity = reaches.velocity(times + tuning.latencies[unit])
    speed = np.linalg.norm(velocity, axis=1)
    drive = velocity @ tuning.gains[unit] + tuning.speed_gains[unit] * speed
    return tuning.baselines[unit] * np.exp(drive / REFERENCE_SPEED)


def draw_spikes(
    rng: Generator, tuning: Tuning, reaches: Reaches, duration: float
) -> tuple[Spikes, Sources]:
    """Draw the sorted times (s) and the units of the spikes in [0, duration)."""
    grid = rate_grid(duration)
    units = range(len(tuning.baselines))
    rates = (unit_rates(tuning, reaches, unit, grid) for unit in units)
    return draw_trains(rng, rates, duration)
