"""Check that a work directory belongs to a run, and write the settings of the run into it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from etils import epath

from poyo_jax.checkpoint.metadata import Metadata, name_differences, setting_differences
from poyo_jax.checkpoint.run import metadata_to_continue
from poyo_jax.config import Config, from_dict
from poyo_jax.distributed.processes import by_process_0
from poyo_jax.errors import ConfigError
from poyo_jax.files import write_text


def claim_workdir(
    workdir: epath.Path, metadata: Metadata, split_digests: Mapping[str, str]
) -> None:
    """Check that the work directory holds no other run, and write the settings of this one.

    `split_digests` are those of the train and valid splits, by session id.

    Raises, on every process, ConfigError when it holds a run with other settings, CheckpointError
    when the newest checkpoint of the run cannot be continued, and PoyoError when the settings
    cannot be written.
    """
    path = workdir / "config.json"
    lines = []
    known = _Settings.read(path) if path.exists() else None
    saved = metadata_to_continue(workdir)
    if saved is not None:
        lines = metadata.differences(saved)
    elif known is not None:
        lines = setting_differences(known.config, metadata.config)
        lines += name_differences("sessions", known.sessions, metadata.sessions.names)
    if known is not None and not lines:
        lines = _split_differences(known.split_digests, split_digests)
    if lines:
        raise ConfigError(
            f"the work directory {workdir} holds another run, which differs in\n  "
            + "\n  ".join(lines)
            + "\nContinue that run with its own settings, or choose another --workdir."
        )
    settings = _Settings(metadata.config, list(metadata.sessions.names), dict(split_digests))
    by_process_0(lambda: write_text(path, settings.as_json()))


def _split_differences(known: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """One line with an example, unless all sessions have the train and valid splits of the run."""
    changed = [name for name, digest in known.items() if given.get(name, digest) != digest]
    if not changed:
        return []
    return [
        f"splits: {len(changed)} of {len(known)} sessions have other train or valid intervals than"
        f" in the run, such as {changed[0]}"
    ]


class _Settings(NamedTuple):
    """What `config.json` holds of a run."""

    config: Config
    sessions: list[str]  # ids
    split_digests: dict[str, str]  # by session id; of older runs there are none

    def as_json(self) -> str:
        values = {"sessions": self.sessions, "splits": self.split_digests, **asdict(self.config)}
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def read(cls, path: epath.Path) -> "_Settings":
        """Read the file. Raises ConfigError when it is damaged."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            sessions = list(values.pop("sessions"))
            split_digests = dict(values.pop("splits", {}))
            return cls(from_dict(Config, values), sessions, split_digests)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}), so the run in its folder is unknown. Restore it,"
                " or choose another --workdir. A run that has checkpoints also continues after you"
                " delete it."
            ) from error
