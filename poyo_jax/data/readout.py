"""What a session's behaviour is decoded to: which series, how it is scaled, and which times count
how much.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError, DataError, SessionError, suggest

FALLBACK_KEYS = ("cursor.vel", "hand.vel")


@dataclass(frozen=True, kw_only=True)
class Readout:
    """What is decoded: (value - mean) / std of `value_key`, per channel, with values in the units
    of the file.

    The weight of a target is the product of the weights of all listed intervals that contain its
    time, and 1 outside them. Metrics count only times inside `eval_interval`, if there is one.
    Raises ConfigError when the numbers cannot be used.
    """

    value_key: str  #: behaviour, "<series>.<column>"
    mean: tuple[float, ...]  #: of every channel
    std: tuple[float, ...]  #: of every channel
    interval_weights: tuple[tuple[str, float], ...] = ()  #: pairs of intervals and their weight
    eval_interval: str | None = None  #: intervals that are scored

    def __post_init__(self) -> None:
        weights = tuple((str(name), float(weight)) for name, weight in self.interval_weights)
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        object.__setattr__(self, "interval_weights", weights)
        seen = f"readout of {self.value_key} has mean {self.mean} and std {self.std}"
        if not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(f"{seen}; pass one of each per channel.")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ConfigError(f"{seen}; means must be finite and stds positive.")
        for name, weight in weights:
            if not 0 <= weight < math.inf:
                raise ConfigError(
                    f"readout of {self.value_key} weights {name} by {weight}; pass zero or more."
                )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Readout":
        """The readout that `to_json` wrote. Raises ConfigError when the text is not one."""
        known = cls.__dataclass_fields__
        try:
            fields = dict(json.loads(text))
            if unknown := [name for name in fields if name not in known]:
                raise ConfigError(
                    f"a readout has no field {unknown[0]!r}; it has"
                    f" {', '.join(known)}.{suggest(unknown[0], known)}"
                )
            return cls(**{name: _as_tuple(value) for name, value in fields.items()})
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{str(text)[:80]!r} is not the JSON of a readout ({error}); use to_json."
            ) from error


def _as_tuple(value: Any) -> Any:
    """Lists, also nested ones, as tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _planar(
    value_key: str,
    std: float,
    weights: dict[str, float] | None = None,
    eval_interval: str | None = None,
) -> Readout:
    return Readout(
        value_key=value_key,
        mean=(0.0, 0.0),
        std=(std, std),
        interval_weights=tuple((weights or {}).items()),
        eval_interval=eval_interval,
    )


# The readouts of POYO (torch_brain v0.1.0, configs/dataset); velocities in the units of the files.
CENTER_OUT = _planar(
    "cursor.vel",
    20.0,  # cm/s
    {
        "movement_phases.random_period": 1.0,
        "movement_phases.hold_period": 0.1,
        "movement_phases.reach_period": 5.0,
        "movement_phases.return_period": 1.0,
        "movement_phases.invalid": 0.1,
        "cursor_outlier_segments": 0.0,
    },
    "movement_phases.reach_period",
)
RANDOM_TARGET = _planar(
    "cursor.vel",
    20.0,  # cm/s
    {
        "movement_phases.random_period": 1.0,
        "movement_phases.hold_period": 0.1,
        "cursor_outlier_segments": 0.0,
    },
    "movement_phases.random_period",
)
MAZE = _planar(
    "cursor.vel",
    800.0,  # mm/s
    {
        "movement_phases.hold_period": 0.1,
        "movement_phases.reach_period": 5.0,
        "movement_phases.return_period": 1.0,
        "cursor_outlier_segments": 1.0,
    },
)
FINGER = _planar("finger.vel", 200.0)  # mm/s
KNOWN_READOUTS = {
    "churchland_shenoy_neural_2012": MAZE,
    "odoherty_sabes_nonhuman_2017": _planar("cursor.vel", 200.0),  # mm/s
    "flint_slutzky_accurate_2012": _planar("hand.vel", 0.4),
    "pei_pandarinath_nlb_2021": _planar(
        "hand.vel", 100.0, eval_interval="nlb_eval_intervals"
    ),  # mm/s
}


def known_readout(brainset_id: str | None, session_id: str) -> Readout | None:
    """The readout that POYO has for a session of one of its data sets; None for other data sets."""
    if brainset_id == "perich_miller_population_2018":
        return RANDOM_TARGET if "random_target" in session_id else CENTER_OUT
    if brainset_id == "pei_pandarinath_nlb_2021" and "RTT" in session_id:
        return FINGER
    return KNOWN_READOUTS.get(brainset_id or "")


def default_readout(session: Session, intervals: Intervals | None = None) -> Readout:
    """The readout of POYO for its data sets; for others cursor.vel, hand.vel or the only behaviour
    there is.

    The latter is scaled by mean and standard deviation of the finite samples inside `intervals`, by
    default the train split. Raises SessionError when it is unclear what to decode or the session
    lacks what the readout names, DataError when there is no sample.
    """
    readout = known_readout(session.brainset_id, session.session_id)
    if readout is None:
        return _measured_readout(session, intervals)
    session.behaviour(readout.value_key)
    for name in (*dict(readout.interval_weights), *filter(None, [readout.eval_interval])):
        session.intervals(name)
    return readout


def _measured_readout(session: Session, intervals: Intervals | None) -> Readout:
    keys = session.behaviour_keys
    value_key = next(
        (key for key in FALLBACK_KEYS if key in keys), keys[0] if len(keys) == 1 else None
    )
    if value_key is None:
        raise SessionError(
            f"session {session.id} has neither cursor.vel nor hand.vel but"
            f" {', '.join(keys) or 'no behaviour'}; pass a Readout that names what to decode."
        )
    behaviour = session.behaviour(value_key)
    intervals = session.split("train") if intervals is None else intervals
    pieces = [behaviour.values(*behaviour.range(start, stop)) for start, stop in intervals]
    samples = np.concatenate(pieces).astype(np.float64)  # [samples, channels]
    samples = samples[np.isfinite(samples).all(axis=1)]
    if not len(samples):
        raise DataError(
            f"{value_key} of session {session.id} has no finite sample in the train split; "
            "pass a Readout or drop the session."
        )
    std = samples.std(axis=0)
    std[std == 0] = 1.0  # a channel that never changes is only centred
    return Readout(value_key=value_key, mean=tuple(samples.mean(axis=0)), std=tuple(std))


def sample_weights(
    session: Session, readout: Readout, times: ArrayLike
) -> Float32[np.ndarray, " times"]:
    """Loss weights of targets at `times` [times], in seconds of session time.

    Each is the product of the weights of the listed intervals with start <= time < end. Raises
    SessionError when the session lacks a listed interval.
    """
    weights = np.ones(np.shape(times), np.float32)
    for name, weight in readout.interval_weights:
        weights[session.intervals(name).contains(times)] *= np.float32(weight)
    return weights
