"""Further behaviours of a simulated session: direction of the reach, muscles, events."""

import numpy as np
from jaxtyping import Float64

from poyo_jax.checks import SEED, check_number
from poyo_jax.data.session import Session

DIRECTIONS = ("E", "NE", "N", "NW", "W", "SW", "S", "SE")
LABEL_RATE = 20.0  # Hz
EMG_RATE = 200.0  # Hz
EVENT_STEP = 0.1  # s, of a bin in which events are counted
NUM_MUSCLES = 12
SLOW = 3.0  # cm/s; a slower hand has no direction
USUAL = 10.0  # cm/s
LEAD = 0.03  # s by which muscles lead the hand


def add_behaviours(session: Session, seed: int = 0) -> Session:
    """Return a session with cursor.vel (cm/s) and three behaviours that follow from it.

    reach.direction are classes at 20 Hz: one of eight directions of the velocity, and none where
    the hand is slow. emg.envelope are 12 muscles at 200 Hz, in mV, each of which pulls in a
    direction of its own, with noise. events.count are counts in bins of 0.1 s, at their centres:
    events are the more frequent, the faster the hand. The result depends on the arguments alone.

    Raises SessionError when the session has no cursor.vel, and ConfigError for a seed that is none.
    """
    check_number("seed", seed, SEED)
    rng = np.random.default_rng([seed, 6])
    hand = session.behaviour("cursor.vel")
    known = hand.times_at(np.arange(hand.count))
    velocity = hand.values(0, hand.count)
    first, last = session.domain.starts[0], session.domain.ends[-1]

    def velocity_at(times: np.ndarray) -> Float64[np.ndarray, "times 2"]:
        return np.stack([np.interp(times, known, column) for column in velocity.T], axis=1)

    times = np.arange(first, last, 1 / LABEL_RATE)
    session = session.with_behaviour("reach.direction", times, _directions(velocity_at(times)))
    times = np.arange(first, last, 1 / EMG_RATE)
    muscles = _muscles(rng, velocity_at(times + LEAD))
    session = session.with_behaviour("emg.envelope", times, muscles, unit="mV")
    times = np.arange(first + EVENT_STEP / 2, last, EVENT_STEP)
    speed = np.linalg.norm(velocity_at(times), axis=1)
    counts = rng.poisson(0.2 + 3 * speed / USUAL)
    return session.with_behaviour("events.count", times, counts)


def _directions(velocity: Float64[np.ndarray, "times 2"]) -> list[str | None]:
    """Names of the directions; None where the hand is slow."""
    turns = np.arctan2(velocity[:, 1], velocity[:, 0]) / (2 * np.pi)
    numbers = np.round(turns * len(DIRECTIONS)).astype(int) % len(DIRECTIONS)
    moving = np.linalg.norm(velocity, axis=1) > SLOW
    names = zip(numbers.tolist(), moving.tolist(), strict=True)
    return [DIRECTIONS[number] if moves else None for number, moves in names]


def _muscles(
    rng: np.random.Generator, velocity: Float64[np.ndarray, "times 2"]
) -> Float64[np.ndarray, "times muscles"]:
    """Activity above a small tone where the hand moves in the direction of the muscle."""
    angles = 2 * np.pi * (np.arange(NUM_MUSCLES) + rng.uniform(-0.3, 0.3, NUM_MUSCLES))
    angles /= NUM_MUSCLES
    pulling = velocity @ np.stack([np.cos(angles), np.sin(angles)])
    noise = rng.normal(0, 0.02, pulling.shape)
    return np.abs(0.05 + 0.5 * np.maximum(pulling, 0) / USUAL + noise)
