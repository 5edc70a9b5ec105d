"""Check that a work directory belongs to a run, and write the settings of the run into it."""

import json
from dataclasses import asdict

from etils import epath

from poyo_jax.checkpoint.metadata import Metadata, name_differences, setting_differences
from poyo_jax.checkpoint.run import metadata_to_continue
from poyo_jax.config import Config, from_dict
from poyo_jax.distributed.processes import by_process_0
from poyo_jax.errors import ConfigError
from poyo_jax.files import write_text


def claim_workdir(workdir: epath.Path, metadata: Metadata) -> None:
    """Check that the work directory holds no other run, and write the settings of this one.

    Raises, on every process, ConfigError when it holds a run with other settings, CheckpointError
    when the newest checkpoint of the run cannot be continued, and PoyoError when the settings
    cannot be written.
    """
    path = workdir / "config.json"
    lines = []
    saved = metadata_to_continue(workdir)
    if saved is not None:
        lines = metadata.differences(saved)
    elif path.exists():
        config, sessions = _read_config(path)
        lines = setting_differences(config, metadata.config)
        lines += name_differences("sessions", sessions, metadata.sessions.names)
    if lines:
        raise ConfigError(
            f"the work directory {workdir} holds another run, which differs in\n  "
            + "\n  ".join(lines)
            + "\nContinue that run with its own settings, or choose another --workdir."
        )
    names = list(metadata.sessions.names)
    settings = {"sessions": names, **asdict(metadata.config)}
    by_process_0(lambda: write_text(path, json.dumps(settings, indent=2) + "\n"))


def _read_config(path: epath.Path) -> tuple[Config, list[str]]:
    """Configuration and session ids of the run whose `config.json` is at `path`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sessions = list(values.pop("sessions"))
        return from_dict(Config, values), sessions
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}), so the run in its folder is unknown. Restore it, or"
            " choose another --workdir."
        ) from error
