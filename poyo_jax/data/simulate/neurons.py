"""Neurons near the electrodes of an array: their tuning, its drift, and their replacement.

The tuning is drawn from the same distributions in every monkey. Preferred directions gather along
one axis, as those of motor cortex do; depth, gains and latency of a neuron are correlated. A model
that is pretrained on many arrays can know this of the next array.

"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from poyo_jax.data.simulate.movement import REACH, Movement, Times

SLOTS = 2  # neurons that an electrode can hear, at most
OCCUPIED = 0.65  # share of the slots that have a neuron
AXIS, GATHERING = np.pi / 3, 0.2  # rad along which preferred directions gather, and how much
REFERENCE_SPEED = 20.0  # cm/s around which tuning saturates
GAIN_STEP, NOISE_STEP = 2.0, 0.2  # s between independent values of the shared fluctuations
NUM_NOISES = 3  # independent shared noises
GAIN_DEPTH, NOISE_DEPTH = 0.25, 0.12
MAX_RATE = 200.0  # Hz
NUM_CHANCES, NUM_NORMALS = 7, 4 + NUM_NOISES  # numbers that make a neuron

Range = tuple[float, float]
PerNeuron = Float64[np.ndarray, " neurons"]
PerTime = Float64[np.ndarray, " times"]


class Area(NamedTuple):
    """Properties in which the neurons of an area differ from those of other areas."""

    untuned: float  # share of the neurons
    latency: Range  # s by which firing leads the movement
    plan: Range  # depth of tuning to the coming direction during delays


AREAS = {
    "m1": Area(untuned=0.15, latency=(0.04, 0.14), plan=(0.0, 0.3)),
    "pmd": Area(untuned=0.25, latency=(0.08, 0.22), plan=(0.3, 1.2)),
}


@dataclass(frozen=True)
class Fluctuations:
    """Fluctuations that all neurons of an array share: a slow tuning gain and faster noise."""

    gains: Float64[np.ndarray, " gains"]
    noises: Float64[np.ndarray, "noises dims"]

    @classmethod
    def draw(cls, rng: np.random.Generator, duration: float) -> "Fluctuations":
        num_gains = int(duration / GAIN_STEP) + 3
        num_noises = int(duration / NOISE_STEP) + 3
        gains = rng.normal(size=num_gains)
        noises = rng.normal(size=(num_noises, NUM_NOISES))
        return cls(gains, noises)

    def gain(self, times: Times) -> PerTime:
        knots = np.arange(len(self.gains)) * GAIN_STEP
        return np.interp(times, knots, self.gains)

    def noise(self, times: Times) -> Float64[np.ndarray, "times dims"]:
        knots = np.arange(len(self.noises)) * NOISE_STEP
        dims = [np.interp(times, knots, dim) for dim in self.noises.T]
        return np.stack(dims, axis=1)


@dataclass(frozen=True)
class Neurons:
    """The neurons that an array records on one day.

    A neuron has the same electrode, slot and first day on each of its days.
    """

    electrodes: Int64[np.ndarray, " neurons"]
    slots: Int64[np.ndarray, " neurons"]
    first_days: Int64[np.ndarray, " neurons"]
    baselines: PerNeuron  # Hz, at rest
    directions: PerNeuron  # rad; preferred direction at the centre
    depths: PerNeuron  # of the tuning to direction; 0 where a neuron is not tuned at all
    speed_gains: PerNeuron
    places: Float64[np.ndarray, "neurons 2"]  # tuning to position, per REACH
    # rad by which the preferred direction turns when the hand is REACH to its left
    twists: PerNeuron
    plans: PerNeuron  # depth of the tuning to the coming direction
    latencies: PerNeuron  # s
    loadings: Float64[np.ndarray, "neurons dims"]  # of the shared noise

    def rates(
        self, neuron: int, movement: Movement, fluctuations: Fluctuations, times: Times
    ) -> PerTime:
        """Rate in Hz of one neuron at `times` (s), before refractoriness.

        log(rate / baseline) is the sum of the shared noise, and of the following times a shared
        gain: cosine tuning to the direction of movement, whose preferred direction turns with
        posture and whose depth saturates with speed; an effect of speed; an effect of position;
        and, during delays, cosine tuning to the coming direction.
        """
        ahead = times + self.latencies[neuron]
        velocity = movement.velocity(ahead)
        position = movement.position(ahead) / REACH
        speed = np.linalg.norm(velocity, axis=1)
        vigour = np.tanh(speed / REFERENCE_SPEED)
        heading = velocity / np.maximum(speed, 1e-9)[:, None]
        direction = self.directions[neuron]
        leftward = _unit_vector(direction + np.pi / 2)
        preferred = direction + self.twists[neuron] * (position @ leftward)
        cosine = np.sum(heading * _unit_vector(preferred), axis=1)
        planned = movement.plan(ahead) @ _unit_vector(direction)
        drive = self.depths[neuron] * vigour * cosine
        drive += self.speed_gains[neuron] * vigour + position @ self.places[neuron]
        drive += self.plans[neuron] * planned
        gain = np.exp(GAIN_DEPTH * fluctuations.gain(times))
        noise = NOISE_DEPTH * (fluctuations.noise(times) @ self.loadings[neuron])
        rates = self.baselines[neuron] * np.exp(gain * drive + noise)
        return np.minimum(rates, MAX_RATE)


def neurons_on(
    day: int,
    key: tuple[int, ...],
    area: Area,
    *,
    num_electrodes: int,
    drift: float,
    turnover: float,
) -> Neurons:
    """Return the neurons of the array `key` on a day, counted from 0.

    The result does not depend on the other days that a caller asks for.

    `drift` is the SD of the steps that a neuron's preferred direction (rad) and the logarithms of
    its baseline and depth make in a day, and `turnover` the chance that a day replaces a slot's
    neuron, or lack of one, by another.
    """
    days = np.arange(day + 1)[:, None]
    slots = np.arange(num_electrodes * SLOTS)
    shape = (day + 1, len(slots))
    # Each day takes the next numbers of every stream.
    fate, chance, normal, walk = np.random.default_rng(key).spawn(4)
    replaced = (fate.random(shape) < turnover) & (days > 0)
    first_days = np.where(replaced, days, 0).max(axis=0)
    chances = chance.random((*shape, NUM_CHANCES))[first_days, slots]
    normals = normal.normal(size=(*shape, NUM_NORMALS))[first_days, slots]
    steps = drift * walk.normal(size=(*shape, 3))
    lived = days > first_days
    drifted = np.sum(steps * lived[:, :, None], axis=0)
    heard = np.flatnonzero(chances[:, 0] < OCCUPIED)
    return _neurons(
        slots=heard,
        first_days=first_days[heard],
        chances=chances[heard].T,
        normals=normals[heard].T,
        drifted=drifted[heard].T,
        area=area,
    )


def _neurons(
    slots: Int64[np.ndarray, " neurons"],
    first_days: Int64[np.ndarray, " neurons"],
    chances: Float64[np.ndarray, "chances neurons"],
    normals: Float64[np.ndarray, "normals neurons"],
    drifted: Float64[np.ndarray, "3 neurons"],
    area: Area,
) -> Neurons:
    """Make neurons from random numbers and from their drift.

    The numbers in `chances` are uniform in [0, 1); those in `normals` are standard normal.
    """
    _, tuned, direction, depth, speed, latency, plan = chances
    turned, brighter, deeper = drifted
    tuned = tuned >= area.untuned
    angles = 2 * np.pi * direction
    angles -= GATHERING * np.sin(2 * (angles - AXIS))
    places = 0.3 * _unit_vector(angles) + 0.15 * normals[2:4].T
    baselines = 9.0 * np.exp(0.6 * normals[0] + brighter)
    depths = np.exp(deeper) * _between((0.5, 1.7), depth)
    speed_gains = _between((-0.3, 0.7), speed) + 0.3 * depth
    return Neurons(
        electrodes=slots // SLOTS,
        slots=slots % SLOTS,
        first_days=first_days,
        baselines=np.clip(baselines, 1.0, 50.0),
        directions=angles + turned,
        depths=tuned * np.minimum(depths, 2.5),
        speed_gains=tuned * speed_gains,
        places=tuned[:, None] * places,
        twists=tuned * 0.5 * normals[1],
        plans=tuned * _between(area.plan, plan),
        latencies=_between(area.latency, latency),
        loadings=normals[4:].T,
    )


def _between(bounds: Range, share: PerNeuron) -> PerNeuron:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _unit_vector(angles: float | np.floating | np.ndarray) -> Float64[np.ndarray, "*angles 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)
