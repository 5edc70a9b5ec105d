"""A simulated laboratory: monkeys with implanted arrays, recorded day after day at several tasks.

Every session is made when it is asked for, and from its number alone.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from poyo_jax.checks import integer, number
from poyo_jax.data.importers.arrays import Pairs
from poyo_jax.data.session import Session
from poyo_jax.data.simulate.movement import TASKS, Movement, draw_movement
from poyo_jax.data.simulate.neurons import AREAS, Fluctuations, Neurons, neurons_on
from poyo_jax.data.simulate.spikes import draw_trains, rate_grid
from poyo_jax.errors import DataError
from poyo_jax.files import local_path, write_text


class Monkey(NamedTuple):
    """A monkey and how it is recorded."""

    name: str
    sampling_rate: float  # of the behaviour, Hz
    is_sorted: bool  # a unit is one neuron, else all threshold crossings of an electrode


MONKEYS = (
    Monkey("ada", 100.0, True),
    Monkey("bo", 250.0, False),
    Monkey("cleo", 50.0, True),
    Monkey("dex", 200.0, False),
    Monkey("eli", 100.0, False),
    Monkey("fay", 250.0, True),
    Monkey("gus", 50.0, False),
    Monkey("hal", 200.0, True),
)
NOISE_RATES = (1.0, 6.0)  # Hz at which noise crosses the threshold of an electrode
SPIKE_RATES = {True: 14.0, False: 21.0}  # Hz of an electrode, sorted and not, about
SETTINGS = "laboratory.json"
SPIKE_BYTES, SAMPLE_BYTES = 16, 24  # in a file
NEURONS, NOISE, SESSION = 1, 2, 3  # what random numbers are for


class Description(NamedTuple):
    """Names and properties of a session of the laboratory."""

    session_id: str  #: such as "ada_d01_m1_center_out"
    subject_id: str  #: the monkey
    array: str  #: area in which it is implanted
    day: int  #: counted from 0
    task: str  #: "center_out", "random_target" or "maze"
    sampling_rate: float  #: of the behaviour, Hz
    is_sorted: bool  #: a unit is one neuron, else all threshold crossings of an electrode


@dataclass(frozen=True)
class Truth:
    """Ground truth of a session: neurons, movement and the rates that its spikes are drawn from.

    Spikes of neuron n are those of unit `units[n]`: its own, or that of its electrode, which other
    neurons share and which noise crosses `noise_rates` times a second.
    """

    unit_ids: tuple[str, ...]  #: those of the session
    units: Int64[np.ndarray, " neurons"]  #: position of each neuron's unit in `unit_ids`
    noise_rates: Float64[np.ndarray, " units"]  #: Hz
    neurons: Neurons  #: tuning, electrode and first day of each
    fluctuations: Fluctuations  #: of the gain that all neurons share
    movement: Movement  #: of the cursor
    intervals: dict[str, Pairs]  #: trials and their phases, s

    def neuron_rates(
        self, neuron: int, times: Float[np.ndarray, " times"]
    ) -> Float64[np.ndarray, " times"]:
        """Rate in Hz of a neuron at `times` (s), before refractoriness."""
        return self.neurons.rates(neuron, self.movement, self.fluctuations, times)

    def rates(self, times: Float[np.ndarray, " times"]) -> Float64[np.ndarray, "times units"]:
        """Rates in Hz of all units at `times` (s), before refractoriness."""
        rates = np.tile(self.noise_rates, (len(times), 1))
        for neuron, unit in enumerate(self.units):
            rates[:, unit] += self.neuron_rates(neuron, times)
        return rates


@dataclass(frozen=True, kw_only=True)
class Laboratory(Sequence[Session]):
    """Sessions of a simulated laboratory; `laboratory[i]` makes session i.

    Session i does not depend on `num_sessions`.

    Monkeys take turns; each of them is recorded every day, first with its array in M1 and then with
    that in PMd, at reaches from the centre to eight targets ("center_out"), to random targets
    ("random_target"), or along curved ways ("maze"). The units of an electrode have the same ids on
    all days; the neurons behind them drift and are replaced. Behaviour is `cursor.vel`, cm/s.
    Raises DataError when a setting cannot be used.
    """

    num_sessions: int = 40
    """Sessions of all monkeys together."""
    seed: int = 0
    """Decides everything that is drawn."""
    num_monkeys: int = 4
    """Monkeys, each with two arrays; up to eight."""
    num_electrodes: int = 32
    """Electrodes of an array; each hears up to two neurons."""
    duration: float = 120.0
    """Length of a session, s."""
    drift: float = 0.1
    """SD of the change of a neuron's preferred direction (rad) and of the logs of its baseline and
    depth in a day.
    """
    turnover: float = 0.05
    """Chance that a neuron is replaced in a day."""

    def __post_init__(self) -> None:
        bounds = {
            "num_sessions": (1, np.inf),
            "seed": (0, np.inf),
            "num_monkeys": (1, len(MONKEYS)),
            "num_electrodes": (8, np.inf),
            "duration": (20, np.inf),
            "drift": (0, np.inf),
            "turnover": (0, 1),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            whole = name not in ("duration", "drift", "turnover")
            allowed = integer(least, most) if whole else number(at_least=least, at_most=most)
            if not allowed.allows(value):
                expected = f"{least} to {most}" if most < np.inf else f"at least {least}"
                raise DataError(
                    f"{name} is {value}, but a laboratory needs {expected}; give another number."
                )

    def __len__(self) -> int:
        return self.num_sessions

    def describe(self, i: int) -> Description:
        """Describe session i without making it."""
        monkey, array, day = self._place(i)
        name, sampling_rate, is_sorted = MONKEYS[monkey]
        area = list(AREAS)[array]
        task = list(TASKS)[(monkey + array + day) % len(TASKS)]
        session_id = f"{name}_d{day + 1:02d}_{area}_{task}"
        return Description(session_id, name, area, day, task, sampling_rate, is_sorted)

    def truth(self, i: int) -> Truth:
        """Make the ground truth of session i."""
        about = self.describe(i)
        monkey, array, day = self._place(i)
        neurons = neurons_on(
            day,
            (self.seed, NEURONS, monkey, array),
            AREAS[about.array],
            num_electrodes=self.num_electrodes,
            drift=self.drift,
            turnover=self.turnover,
        )
        electrodes = [f"e{electrode:02d}" for electrode in range(self.num_electrodes)]
        if about.is_sorted:
            unit_ids = [
                f"{electrodes[e]}_{slot + 1}"
                for e, slot in zip(neurons.electrodes, neurons.slots, strict=True)
            ]
            units = np.arange(len(unit_ids))
            noise_rates = np.zeros(len(unit_ids))
        else:
            unit_ids, units = electrodes, neurons.electrodes
            rng = np.random.default_rng((self.seed, NOISE, monkey, array))
            noise_rates = rng.uniform(*NOISE_RATES, self.num_electrodes)
        moving, fluctuating, _ = self._streams(i)
        movement, intervals = draw_movement(moving, about.task, self.duration)
        fluctuations = Fluctuations.draw(fluctuating, self.duration)
        return Truth(
            tuple(unit_ids), units, noise_rates, neurons, fluctuations, movement, intervals
        )

    def __getitem__(self, i: int) -> Session:
        """Make session i."""
        about, truth = self.describe(i), self.truth(i)
        grid = rate_grid(self.duration)
        noisy_units = np.flatnonzero(truth.noise_rates)
        sources = np.concatenate([truth.units, noisy_units])
        numbers = range(len(truth.units))
        neurons = (truth.neuron_rates(number, grid) for number in numbers)
        noises = (np.full(len(grid), rate) for rate in truth.noise_rates if rate)
        _, _, spiking = self._streams(i)
        times, fired = draw_trains(spiking, chain(neurons, noises), self.duration)
        count = int(self.duration * about.sampling_rate)
        samples = np.arange(count) / about.sampling_rate
        return Session.from_arrays(
            times,
            sources[fired],
            list(truth.unit_ids),
            samples,
            truth.movement.velocity(samples),
            session_id=about.session_id,
            brainset_id="laboratory",
            subject_id=about.subject_id,
            target_key="cursor.vel",
            target_unit="cm/s",
            intervals=truth.intervals,
            domain=[(0.0, self.duration)],
        )

    def num_bytes(self, indices: Iterable[int] | None = None) -> int:
        """Size of the files of the given sessions, or of all, within about a fifth."""
        total = 0.0
        indices = range(len(self)) if indices is None else indices
        for about in map(self.describe, indices):
            spikes = self.num_electrodes * SPIKE_RATES[about.is_sorted]
            total += self.duration * (SPIKE_BYTES * spikes + SAMPLE_BYTES * about.sampling_rate)
        return int(total)

    def missing(self, folder: str | Path) -> list[int]:
        """List the sessions that have no file in the folder.

        Raises DataError when the folder belongs to another laboratory.
        """
        self._check_settings(local_path(folder) / SETTINGS)
        return [i for i in range(len(self)) if not self._file(folder, i).exists()]

    def save(self, folder: str | Path, indices: Iterable[int] | None = None) -> list[Path]:
        """Write the given or all sessions to "<session id>.h5" and return the paths.

        Sessions that have a file already are not written again. Each file appears complete or not
        at all, so a second call continues an interrupted one.
        Raises DataError when the folder belongs to another laboratory.
        """
        every = range(len(self))
        indices = every if indices is None else [every[i] for i in indices]
        missing = set(self.missing(folder))
        if missing:
            settings = json.dumps(self._settings())
            write_text(local_path(folder) / SETTINGS, settings + "\n")
        for i in indices:
            if i in missing:
                self[i].save(self._file(folder, i))
        return [self._file(folder, i) for i in indices]

    def _file(self, folder: str | Path, i: int) -> Path:
        return local_path(folder) / f"{self.describe(i).session_id}.h5"

    def _settings(self) -> dict[str, float]:
        """Settings that determine each session: all but the number of sessions."""
        settings = asdict(self)
        del settings["num_sessions"]
        return settings

    def _check_settings(self, path: Path) -> None:
        if not path.exists():
            return
        saved = json.loads(path.read_text())
        differing = []
        for name, value in self._settings().items():
            if saved.get(name) != value:
                differing.append(f"{name} {saved.get(name)}, not {value}")
        if differing:
            raise DataError(
                f"{path.parent} holds sessions of another laboratory ({'; '.join(differing)})."
                " Choose another folder, or give the settings that it was made with."
            )

    def _place(self, i: int) -> tuple[int, int, int]:
        """Compute monkey, array and day of session i, all counted from 0.

        Raises IndexError when there is no such session.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(
                f"there is no session {i}; the laboratory has sessions 0 to {len(self) - 1}."
            )
        visit, monkey = divmod(i % len(self), self.num_monkeys)
        day, array = divmod(visit, len(AREAS))
        return monkey, array, day

    def _streams(self, i: int) -> list[np.random.Generator]:
        """Make the random streams of a session: of movement, fluctuations and spikes."""
        key = (self.seed, SESSION, *self._place(i))
        return np.random.default_rng(key).spawn(3)
