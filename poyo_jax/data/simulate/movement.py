"""Movements of the simulated laboratory: reaches made of overlapping minimum-jerk submovements.

A straight reach falls a little short or wide of its target and is corrected on the way (Meyer et
al. 1988); a reach through a maze is bent by way of two points. Overlapping submovements make curved
paths of realistic speed (Flash and Henis 1991).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from poyo_jax.data.importers.arrays import Pairs
from poyo_jax.data.intervals import Intervals

Generator = np.random.Generator
Planar = Float64[np.ndarray, "times 2"]
Times = Float[np.ndarray, " times"]
Bounds = tuple[float, float]
Targets = Float64[np.ndarray, "reaches 2"]  # cm

REACH = 8.0  # cm, of a centre-out target, and half the side of the square of random targets
OVERLAP = 3  # submovements that can be under way at the same time: all those of a reach
ONSET = 0.6  # share of a submovement after which the next one begins
SHORTEST = 0.25  # s that any submovement lasts, at least


def _eight_directions(rng: Generator, count: int) -> Targets:
    angles = rng.integers(8, size=count) * (np.pi / 4)
    return _around(angles, np.full(count, REACH))


def _any_direction(rng: Generator, count: int) -> Targets:
    angles = rng.uniform(0.0, 2 * np.pi, count)
    radii = rng.uniform(0.7 * REACH, 1.4 * REACH, count)
    return _around(angles, radii)


def _in_a_square(rng: Generator, count: int) -> Targets:
    return rng.uniform(-REACH, REACH, (count, 2))


def _around(angles: np.ndarray, radii: np.ndarray) -> Targets:
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return radii[:, None] * directions


@dataclass(frozen=True, kw_only=True)
class Task:
    """Distributions that the reaches of a task are drawn from."""

    targets: Callable[[Generator, int], Targets]
    returns: bool  # every second reach goes back to the centre
    hold: Bounds  # s from the end of a reach until the next target appears
    delay: Bounds  # s from then to the go cue; none before a return
    stops: tuple[float, ...]  # where the submovements but the last one end, as shares of the way
    width: float  # SD of how far beside the straight line they end, as a share of the way


TASKS = {
    "center_out": Task(
        targets=_eight_directions,
        returns=True,
        hold=(0.2, 0.5),
        delay=(0.2, 0.6),
        stops=(0.9,),
        width=0.07,
    ),
    "random_target": Task(
        targets=_in_a_square,
        returns=False,
        hold=(0.0, 0.15),
        delay=(0.0, 0.0),
        stops=(0.9,),
        width=0.1,
    ),
    "maze": Task(
        targets=_any_direction,
        returns=True,
        hold=(0.2, 0.4),
        delay=(0.3, 0.8),
        stops=(0.35, 0.75),
        width=0.4,
    ),
}


@dataclass(frozen=True)
class Movement:
    """The cursor's path from the centre as submovements in order of their starts, and the cues."""

    starts: Float64[np.ndarray, " submovements"]  # s
    lengths: Float64[np.ndarray, " submovements"]  # s
    displacements: Float64[np.ndarray, "submovements 2"]  # cm
    cues: Float64[np.ndarray, " reaches"]  # s at which the target appears
    gos: Float64[np.ndarray, " reaches"]  # s at which the reach begins
    directions: Float64[np.ndarray, "reaches 2"]  # from the cursor to the target, of length 1

    def velocity(self, times: Times) -> Planar:
        """Velocity of the cursor, cm/s."""
        rows, phases = self._under_way(times)
        lengths = self.lengths[rows]
        profiles = 30 * phases**2 * (1 - phases) ** 2 / lengths  # 1/s; integrates to 1
        return np.einsum("ts,tsc->tc", profiles, self.displacements[rows])

    def position(self, times: Times) -> Planar:
        """Position of the cursor relative to the centre, cm."""
        rows, phases = self._under_way(times)
        travelled = np.cumsum(self.displacements, axis=0)
        before = np.concatenate([np.zeros((1, 2)), travelled])
        progress = phases**3 * (10 - 15 * phases + 6 * phases**2)
        moved = np.einsum("ts,tsc->tc", progress, self.displacements[rows])
        return before[rows[:, -1]] + moved

    def plan(self, times: Times) -> Planar:
        """Direction to the target from its appearance to the go cue; zero at other times."""
        rows = np.searchsorted(self.cues, times, side="right") - 1
        rows = np.clip(rows, 0, None)
        waiting = (times >= self.cues[rows]) & (times < self.gos[rows])
        return self.directions[rows] * waiting[:, None]

    def _under_way(
        self, times: Times
    ) -> tuple[np.ndarray, Float64[np.ndarray, "times submovements"]]:
        """Find the latest submovements at each time, newest first, and their progress (0 to 1)."""
        newest = np.searchsorted(self.starts, times, side="right") - 1
        newest = np.clip(newest, OVERLAP - 1, None)
        rows = newest[:, None] - np.arange(OVERLAP)  # [times, OVERLAP]
        phases = (times[:, None] - self.starts[rows]) / self.lengths[rows]
        return rows, np.clip(phases, 0.0, 1.0)


def draw_movement(rng: Generator, name: str, duration: float) -> tuple[Movement, dict[str, Pairs]]:
    """Draw reaches of the task `name` for at least `duration` (s), and their intervals (s).

    The intervals are those of the reaches that end within `duration`: `trials` and
    `movement_phases.hold_period`, `.delay_period`, `.reach_period` and `.return_period`, as far as
    the task has them.
    """
    task = TASKS[name]
    pairs = int(duration / (task.hold[0] + SHORTEST) / 2)
    count = 2 * pairs + 4  # even: there and back
    targets = task.targets(rng, count)
    holds = rng.uniform(*task.hold, count)
    delays = rng.uniform(*task.delay, count)
    if task.returns:
        targets[1::2] = 0.0
        delays[1::2] = 0.0
    ways = np.diff(targets, axis=0, prepend=np.zeros((1, 2)))
    parts = _submovements(rng, task, ways)  # [reaches, parts, 2]
    vigour = rng.lognormal(0.0, 0.15, (count, 1))
    distances = np.linalg.norm(parts, axis=2)
    extra = rng.uniform(0.0, 0.1, parts.shape[:2])
    lengths = SHORTEST + (0.025 * distances + extra) / vigour
    onsets = np.cumsum(ONSET * lengths, axis=1) - ONSET * lengths
    durations = np.max(onsets + lengths, axis=1)
    ends = np.cumsum(holds + delays + durations)
    begins = np.concatenate([[0.0], ends[:-1]])
    cues = begins + holds
    gos = begins + holds + delays
    way_lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    movement = Movement(
        starts=(gos[:, None] + onsets).ravel(),
        lengths=lengths.ravel(),
        displacements=parts.reshape(-1, 2),
        cues=cues,
        gos=gos,
        directions=ways / way_lengths,
    )
    return movement, _intervals(task, begins, cues, gos, ends, ends <= duration)


def _submovements(
    rng: Generator, task: Task, ways: np.ndarray
) -> Float64[np.ndarray, "reaches parts 2"]:
    shape = (len(ways), len(task.stops), 1)
    along = rng.normal(np.array(task.stops)[:, None], 0.04, shape)
    beside = rng.normal(0.0, task.width, shape)
    across = ways[:, ::-1] * np.array([-1.0, 1.0])
    stops = along * ways[:, None] + beside * across[:, None]
    origins = np.zeros((len(ways), 1, 2))
    return np.diff(stops, axis=1, prepend=origins, append=ways[:, None])


def _intervals(
    task: Task,
    begins: np.ndarray,
    cues: np.ndarray,
    gos: np.ndarray,
    ends: np.ndarray,
    whole: Bool[np.ndarray, " reaches"],
) -> dict[str, Pairs]:
    step = 2 if task.returns else 1
    there = slice(0, None, step)
    back = slice(step - 1, None, step)
    bounds = {
        "trials": (begins[there], ends[back]),
        "movement_phases.hold_period": (begins[there], cues[there]),
        "movement_phases.delay_period": (cues[there], gos[there]),
        "movement_phases.reach_period": (gos[there], ends[there]),
    }
    if task.returns:
        bounds["movement_phases.return_period"] = (gos[back], ends[back])
    kept = whole[back]
    intervals = {}
    for name, (starts, stops) in bounds.items():
        rows = Intervals.from_overlapping(starts[kept], stops[kept])  # drops delays of no length
        if len(rows):
            intervals[name] = rows
    return intervals
