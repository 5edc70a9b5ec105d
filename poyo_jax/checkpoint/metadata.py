"""Metadata of a checkpoint: what travels with the parameters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from poyo_jax.checkpoint.formats import FORMAT_VERSION, migrated
from poyo_jax.config import Config, differences, from_dict
from poyo_jax.data.readout import Readout
from poyo_jax.data.vocab import Vocab


@dataclass(frozen=True)
class Metadata:
    """What travels with the parameters."""

    config: Config
    units: Vocab
    sessions: Vocab
    readouts: Mapping[str, Readout]  # by session id
    metrics: Mapping[str, float]  # of the step: valid_r2, if it was measured
    digest: str | None = (
        None  # of the parameters of a saved model; hashing those of a run would hold it up
    )

    def to_dict(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "config": asdict(self.config),
            "units": list(self.units.names),
            "sessions": list(self.sessions.names),
            "readouts": {name: asdict(readout) for name, readout in self.readouts.items()},
            "metrics": dict(self.metrics),
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Metadata":
        """What `to_dict` wrote, now or in an older version.

        Raises CheckpointError for a newer format, KeyError, TypeError or ValueError for another
        one.
        """
        values = migrated(values)
        return cls(
            config=from_dict(Config, values["config"]),
            units=Vocab(values["units"]),
            sessions=Vocab(values["sessions"]),
            readouts={
                name: Readout.from_json(json.dumps(value))
                for name, value in values["readouts"].items()
            },
            metrics=values["metrics"],
            digest=values["digest"],
        )

    def differences(self, saved: "Metadata") -> list[str]:
        """One line for everything that keeps a run with this metadata from continuing the `saved`
        one.
        """
        lines = setting_differences(saved.config, self.config)
        lines += name_differences("sessions", saved.sessions.names, self.sessions.names)
        lines = lines or name_differences("units", saved.units.names, self.units.names)
        shared = [name for name in saved.readouts if name in self.readouts]
        return lines + [
            f"readout of {name}: {saved.readouts[name]} in the run, {self.readouts[name]} given"
            for name in shared
            if saved.readouts[name] != self.readouts[name]
        ]


def setting_differences(saved: Config, given: Config) -> list[str]:
    """One line for every setting that must stay the same in a run and does not; those of `run` may
    change.
    """
    return [line for line in differences(saved, given) if not line.startswith("run.")]


def name_differences(what: str, saved: Sequence[str], given: Sequence[str]) -> list[str]:
    """A line with examples unless both are the same names in the same order."""
    if tuple(saved) == tuple(given):
        return []
    missing, new = sorted(set(saved) - set(given)), sorted(set(given) - set(saved))
    parts = [f"without {name}" for name in missing[:1]] + [f"with {name}" for name in new[:1]]
    return [
        f"{what}: {len(saved)} in the run, {len(given)} given,"
        f" {' and '.join(parts) or 'in another order'}"
    ]
