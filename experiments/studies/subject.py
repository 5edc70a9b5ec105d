"""A simulated subject that moves a cursor to targets, and the task that it is set."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from poyo_jax import Session
from poyo_jax.data.simulate import Tuning, draw_tuning
from poyo_jax.data.simulate.study import REFERENCE_SPEED

STEP = 0.02  # s: 50 Hz
SIDE = 16.0  # cm, of the square of targets
NEAREST = 4.0  # cm from one target to the next
RADIUS = 1.5  # cm of a target
HOLD, TIMEOUT = 0.3, 6.0  # s inside a target until it is reached, and until it is given up
SEEN_LATE = 5  # steps until the subject sees the screen
LEAD = 0.15  # s from an intention to its movement; units fire by it at their latencies before
TIME_CONSTANT, FASTEST = 0.4, 25.0  # s and cm/s of the way to a target

# From the end of a step in s, and the times (s) and units of its spikes, to a velocity in cm/s.
Decode = Callable[[float, np.ndarray, np.ndarray], np.ndarray]


def way_to(target: np.ndarray, cursor: np.ndarray) -> np.ndarray:
    """Velocity in cm/s at which a subject wants to go from the cursor to a target (cm)."""
    velocity = (target - cursor) / TIME_CONSTANT
    speed = np.linalg.norm(velocity)
    return velocity * min(1.0, FASTEST / max(speed, 1e-9))


@dataclass
class Score:
    """Targets of a stretch of the task."""

    reached: int = 0
    missed: int = 0
    steps: int = 0
    seconds: list[float] = field(default_factory=list)  # to each target that was reached

    def summary(self) -> dict[str, float]:
        """Targets per minute, share of targets that were reached, and mean s to these."""
        tries = max(1, self.reached + self.missed)
        return {
            "per_minute": 60 * self.reached / (self.steps * STEP),
            "success": self.reached / tries,
            "seconds": float(np.mean(self.seconds)) if self.seconds else float("nan"),
        }


@dataclass
class Block:
    """What was recorded: spikes, and the way to the target that was seen before them."""

    times: list[np.ndarray] = field(default_factory=list)
    units: list[np.ndarray] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # s, of the steps
    way: list[np.ndarray] = field(default_factory=list)  # cm/s, by an experimenter

    def __add__(self, later: "Block") -> "Block":
        """This block and the one that followed it."""
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return Block(*(before + after for before, after in pairs))

    def session(self, name: str, num_units: int, ahead: float = 0.0) -> Session:
        """A session whose behaviour is the way, cm/s: what the subject must have intended.

        The label of a time is the way `ahead` s later.
        """
        first, last = self.ends[0] - STEP, self.ends[-1] + STEP
        shift = round(ahead / STEP)
        session = Session.from_arrays(
            np.concatenate(self.times),
            np.concatenate(self.units),
            [f"unit_{unit:02d}" for unit in range(num_units)],
            np.array(self.ends[: len(self.ends) - shift]),
            np.array(self.way[shift:]),
            session_id=name,
            brainset_id="closed_loop",
            target_key="cursor.vel",
            target_unit="cm/s",
            domain=[(first, last)],
        )
        parts = first + (last - first) * np.array([0.0, 0.8, 0.9, 1.0])
        names = ("train", "valid", "test")
        splits = {name: [pair] for name, pair in zip(names, pairwise(parts.tolist()), strict=True)}
        return session.with_splits(**splits)


class Subject:
    """Intends to reach targets, and fires; its time goes on from one stretch to the next."""

    def __init__(self, seed: tuple[int, ...], num_units: int = 40):
        self._rng = np.random.default_rng(seed)
        self.tuning: Tuning = draw_tuning(self._rng, num_units)
        self.num_units, self.number = num_units, 0  # of the next step
        self.cursor, self.target = np.zeros(2), np.zeros(2)
        late, lead = SEEN_LATE + 1, round(LEAD / STEP) + 1
        self._ways = deque([np.zeros(2)] * late, maxlen=late)  # of the screen, latest last
        self._plans = deque([np.zeros(2)] * lead, maxlen=lead)
        self._age = self._held = 0.0
        self._next_target()

    def shuffle(self) -> None:
        """Half of the units change places."""
        changed = self._rng.permutation(self.num_units)[: self.num_units // 2]
        order = np.arange(self.num_units)
        order[changed] = np.roll(changed, 1)
        parts = {name: value[order] for name, value in vars(self.tuning).items()}
        self.tuning = replace(self.tuning, **parts)

    @property
    def intention(self) -> np.ndarray:
        """Velocity in cm/s that the subject intended for now."""
        return self._plans[0]

    def play(
        self,
        seconds: float,
        decode: Decode,
        after: Callable[[float], bool] = lambda now: True,
    ) -> tuple[Score, Block]:
        """Let a decoder move the cursor, for so long or until `after` a step is False."""
        score, block = Score(), Block()
        for _ in range(round(seconds / STEP)):
            self._ways.append(way_to(self.target, self.cursor))
            self._plans.append(self._ways[0])
            times, units = self._fire()
            self.number += 1
            now = self.number * STEP
            velocity = decode(now, times, units)
            limit = SIDE / 2 + NEAREST
            self.cursor = np.clip(self.cursor + velocity * STEP, -limit, limit)
            self._judge(score)
            block.times.append(times)
            block.units.append(units)
            block.ends.append(now)
            block.way.append(self.intention)
            if not after(now):
                break
        return score, block

    def _fire(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted times in s and units of the spikes in this step."""
        tuning = self.tuning
        # A unit leads its movement by its latency, so it fires by an older plan than the last.
        age = np.round((LEAD - tuning.latencies) / STEP).astype(int)
        velocity = np.array(self._plans)[len(self._plans) - 1 - age]  # [units, 2]
        speed = np.linalg.norm(velocity, axis=1)
        drive = np.sum(velocity * tuning.gains, axis=1) + tuning.speed_gains * speed
        rates = tuning.baselines * np.exp(drive / REFERENCE_SPEED)
        units = np.repeat(np.arange(self.num_units), self._rng.poisson(rates * STEP))
        times = self.number * STEP + STEP * self._rng.random(len(units))
        order = np.argsort(times)
        return times[order], units[order]

    def _judge(self, score: Score) -> None:
        """Count the step, and set the next target when this one is reached or given up."""
        score.steps += 1
        self._age += STEP
        inside = np.linalg.norm(self.target - self.cursor) <= RADIUS
        self._held = self._held + STEP if inside else 0.0
        if self._held >= HOLD - STEP / 2:
            score.reached += 1
            score.seconds.append(self._age)
        elif self._age >= TIMEOUT:
            score.missed += 1
        else:
            return
        self._next_target()

    def _next_target(self) -> None:
        self._age = self._held = 0.0
        before = self.target
        while np.linalg.norm(self.target - before) < NEAREST:
            self.target = self._rng.uniform(-SIDE / 2, SIDE / 2, 2)
