"""The format of checkpoints: its version, how older ones are brought up to it, and what proves
parameters whole.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from poyo_jax.errors import CheckpointError


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has a digest of the parameters, and words for what recomputing keeps
    (config.from_dict reads both).
    """
    return {**values, "digest": None}


# Metadata of version n + 1 from those of version n, for n = 1, 2, ... A new version takes a
# function here, and a golden checkpoint (tests/golden_checkpoints).
MIGRATIONS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_1,)
FORMAT_VERSION = len(MIGRATIONS) + 1


def migrated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata in the present format. Raises CheckpointError for a newer one, ValueError for what
    is no version.
    """
    version, values = values["format_version"], dict(values)
    if version < 1:
        raise ValueError(f"format version {version}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint has format version {version}, but this poyo_jax reads up to"
            f" {FORMAT_VERSION}. Update the package."
        )
    for migration in MIGRATIONS[version - 1 :]:
        values = migration(values)
    return values


def digest(params: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values of all parameters."""
    whole = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(params, sep="/").items()):
        array = np.asarray(leaf)
        whole.update(f"{name} {array.dtype} {array.shape}\n".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
