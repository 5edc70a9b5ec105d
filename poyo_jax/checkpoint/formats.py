"""The metadata file of a checkpoint: its fields, its digest, and the formats that can be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.errors import CheckpointError

FORMAT_VERSION = 3
FIELDS_OF_2 = {"format_version", "config", "units", "sessions", "readouts", "metrics", "digest"}


@dataclass(frozen=True)
class Saved:
    """Content of the metadata file of a step."""

    metadata: Metadata
    step: int
    arrays: Mapping[str, str]  # digests of "params" and, in a run, of "opt_state"
    version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """The fields of the file; the digest covers all others."""
        values = {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            **self.metadata.to_dict(),
            "arrays": dict(self.arrays),
        }
        return {**values, "digest": digest_of_values(values)}


def parse(values: Mapping[str, Any], tuning_of_2: Mapping[str, Any] | None = None) -> Saved:
    """The content of a metadata file of format 2 or 3.

    Args:
        values: the fields of the file.
        tuning_of_2: the tuning map that format 2 keeps in another file, if there is one.

    Raises:
        CheckpointError: the format is newer or older.
        KeyError, TypeError, ValueError: the values are not those that were saved.
    """
    version = values["format_version"]
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint has format version {version}, but this poyo_jax reads up to"
            f" {FORMAT_VERSION}. Update the package."
        )
    if version < 2:
        raise CheckpointError(
            f"the checkpoint has format version {version}, but this poyo_jax reads formats from 2"
            f" to {FORMAT_VERSION}. Train or convert the model again."
        )
    if version == 2:
        return _parse_2(values, tuning_of_2)
    content = {name: value for name, value in values.items() if name != "digest"}
    if values.get("digest") is None:
        raise ValueError("its metadata have no digest")
    if values["digest"] != digest_of_values(content):
        raise ValueError("its metadata are not those that were saved: their SHA-256 differs")
    return Saved(Metadata.from_dict(values), values["step"], values["arrays"])


def _parse_2(values: Mapping[str, Any], tuning: Mapping[str, Any] | None) -> Saved:
    """The content of a file of format 2, which tells no step; of a run it has no digest."""
    if set(values) != FIELDS_OF_2:
        raise ValueError("its metadata are not those of format 2")
    metadata = Metadata.from_dict({**values, "tuning": tuning, "fit": None})
    digest = values["digest"]
    return Saved(metadata, -1, {} if digest is None else {"params": digest}, version=2)
