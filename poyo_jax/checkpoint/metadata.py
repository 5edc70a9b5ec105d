"""Metadata of a checkpoint: everything but arrays that is needed to use a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from poyo_jax.config import Config, differences, from_dict, to_dict
from poyo_jax.data.vocab import Vocab
from poyo_jax.fit_config import FitConfig
from poyo_jax.tasks.choose import choosing_metric
from poyo_jax.tuning import TuningMap
from poyo_jax.types import Readout, Readouts


@dataclass(frozen=True)
class Metadata:
    """Everything but arrays that is needed to use a model."""

    config: Config
    units: Vocab
    sessions: Vocab
    readouts: Mapping[str, Readouts]  # by session id
    metrics: Mapping[str, float] = field(default_factory=dict)  # the score, if it was measured
    tuning: TuningMap | None = None  # from the tuning of units to their embeddings
    fit: FitConfig | None = None  # settings of the fit that made the model
    calibration: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Factors of learned standard deviations, by output."""
    session_calibration: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Those of single sessions, by session id and output."""

    @property
    def rank(self) -> float | None:
        """Rank of the validation score, if it was measured; the highest one is the best."""
        metric = choosing_metric(self.config.model)
        score = self.metrics.get(metric.key("valid"))
        return None if score is None else metric.rank(score)

    def to_dict(self) -> dict[str, Any]:
        """All fields as values that JSON can hold."""
        values = {
            "config": to_dict(self.config),
            "units": list(self.units.names),
            "sessions": list(self.sessions.names),
            "readouts": {name: _as_json(readouts) for name, readouts in self.readouts.items()},
            "metrics": dict(self.metrics),
            "tuning": None if self.tuning is None else self.tuning.to_dict(),
            "fit": None if self.fit is None else asdict(self.fit),
        }
        if self.calibration:
            values["calibration"] = _lists(self.calibration)
        if self.session_calibration:
            of_sessions = {name: _lists(own) for name, own in self.session_calibration.items()}
            values["session_calibration"] = of_sessions
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Metadata":
        """The metadata that `to_dict` wrote; KeyError, TypeError or ValueError for other values."""
        readouts = values["readouts"].items()
        tuning, fit = values["tuning"], values["fit"]
        for name in ("units", "sessions"):
            if not isinstance(values[name], list):
                raise TypeError(f"{name} is {values[name]!r}, not a list of names")
        of_sessions = values.get("session_calibration", {}).items()
        metadata = cls(
            config=from_dict(Config, values["config"]),
            units=Vocab(values["units"]),
            sessions=Vocab(values["sessions"]),
            readouts={name: _from_json(of_session) for name, of_session in readouts},
            metrics=values["metrics"],
            tuning=None if tuning is None else TuningMap.from_dict(tuning),
            fit=None if fit is None else from_dict(FitConfig, fit),
            calibration=_tuples(values.get("calibration", {})),
            session_calibration={name: _tuples(own) for name, own in of_sessions},
        )
        _check_types(metadata)
        return metadata

    def differences(self, saved: "Metadata") -> list[str]:
        """One line for every difference that keeps a run from continuing the `saved` one."""
        lines = setting_differences(saved.config, self.config)
        lines += name_differences("sessions", saved.sessions.names, self.sessions.names)
        lines = lines or name_differences("units", saved.units.names, self.units.names)
        for name, readout in saved.readouts.items():
            given = self.readouts.get(name, readout)
            if given != readout:
                lines.append(f"readout of {name}: {readout} in the run, {given} given")
        return lines


def _lists(calibration: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: list(factors) for name, factors in calibration.items()}


def _tuples(calibration: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(factors) for name, factors in calibration.items()}


def _as_json(readouts: Readouts) -> Any:
    """The fields of the only readout, or a list of the fields of several."""
    if isinstance(readouts, Readout):
        return readouts.to_dict()
    return [readout.to_dict() for readout in readouts]


def _from_json(values: Any) -> Readouts:
    if not isinstance(values, list):
        return Readout.from_json(json.dumps(values))
    return tuple(Readout.from_json(json.dumps(each)) for each in values)


def _check_types(metadata: Metadata) -> None:
    """Raise ValueError unless all fields have their types, and every session has a readout."""
    for vocab in (metadata.units, metadata.sessions):
        if wrong := [name for name in vocab.names if not isinstance(name, str)]:
            raise ValueError(f"{wrong[0]!r} is no name of a unit or session")
    if missing := [name for name in metadata.sessions.names if name not in metadata.readouts]:
        raise ValueError(f"session {missing[0]!r} has no readout")
    for name, value in metadata.metrics.items():
        if type(value) not in (int, float):
            raise ValueError(f"the metric {name!r} is {value!r}, not a number")
    for calibration in (metadata.calibration, *metadata.session_calibration.values()):
        for name, factors in calibration.items():
            if not all(type(factor) is float and factor > 0 for factor in factors):
                raise ValueError(
                    f"the calibration of {name!r} is {factors!r}, not positive numbers"
                )
    if (tuning := metadata.tuning) is not None:
        tuning.check(metadata.config.model.dim)


def setting_differences(saved: Config, given: Config) -> list[str]:
    """One line for every setting that differs, but for those of `run`, which may change."""
    return [line for line in differences(saved, given) if not line.startswith("run.")]


def name_differences(kind: str, saved: Sequence[str], given: Sequence[str]) -> list[str]:
    """A line with examples, unless both are the same names in the same order."""
    if tuple(saved) == tuple(given):
        return []
    missing, new = sorted(set(saved) - set(given)), sorted(set(given) - set(saved))
    examples = [f"without {name}" for name in missing[:1]] + [f"with {name}" for name in new[:1]]
    difference = " and ".join(examples) or "in another order"
    return [f"{kind}: {len(saved)} in the run, {len(given)} given, {difference}"]
