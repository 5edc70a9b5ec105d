"""The metadata file of a checkpoint: its fields, its digest, and the formats that can be read.

To change what a checkpoint holds, edit metadata.py, raise `FORMAT_VERSION`, and add a module like
format_2.py that reads the format before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from etils import epath

from poyo_jax.checkpoint import format_2
from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.errors import CheckpointError

FORMAT_VERSION = 3
# Each has parse, from_saved, as_saved and digest_of_params.
OLDER: dict[int, ModuleType] = {2: format_2}


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


def parse(values: Mapping[str, Any], folder: epath.Path | None = None) -> Saved:
    """The content of the metadata of a checkpoint.

    Args:
        values: the fields of the metadata.
        folder: that of the step; None for a model that is one file, which format 2 did not have.

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
    if version in OLDER and folder is not None:
        metadata, digests = OLDER[version].parse(values, folder)
        return Saved(metadata, int(folder.name), digests, version)
    if version < FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint has format version {version}, but this poyo_jax reads formats from"
            f" {min(OLDER)} to {FORMAT_VERSION}. Train or convert the model again."
        )
    content = {name: value for name, value in values.items() if name != "digest"}
    if values.get("digest") is None:
        raise ValueError("its metadata have no digest")
    if values["digest"] != digest_of_values(content):
        raise ValueError("its metadata are not those that were saved: their SHA-256 differs")
    if folder is not None and values["step"] != int(folder.name):
        raise ValueError(f"it is step {values['step']} in a folder of another name")
    return Saved(Metadata.from_dict(values), values["step"], values["arrays"])
