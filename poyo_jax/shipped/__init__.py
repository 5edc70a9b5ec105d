"""Models that come with the package: their list, and their files by name.

The list has an entry for each: the SHA-256 of NAME.safetensors, and a summary. NAME.md is the
model card. `python -m experiments.tools.ship` adds a model.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from poyo_jax.errors import CheckpointError, suggest

__all__ = ["pretrained_models"]

FOLDER = Path(__file__).parent
LIST = "models.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
FIELDS = ("sha256", "summary")  # of an entry
MAX_BYTES = 8_000_000  # of all files together
_AGAIN = "Install poyo_jax again (pip install --force-reinstall --no-deps, then its wheel)."


def pretrained_models() -> dict[str, str]:
    """The models that come with the package: a sentence about each, by the name that `load` takes.

    Raises CheckpointError when the list in the installed package is damaged.
    """
    return {name: entry["summary"] for name, entry in _entries().items()}


def find_shipped(path: str | os.PathLike[str]) -> Path | None:
    """The file of a model that comes with the package; None for a path or an address.

    A folder of that name in the current one goes before. Raises CheckpointError for a bare name
    that is neither, and for a file that is not the one that the package was made with.
    """
    name = os.fspath(path)
    if not isinstance(name, str) or not NAME.fullmatch(name) or os.path.lexists(name):
        return None
    entries = _entries()
    if name not in entries:
        raise CheckpointError(
            f"there is no folder {name} here, and no model {name!r} comes with"
            f" poyo_jax.{suggest(name, entries)} Give the folder of a run (its --workdir) or of a"
            f" saved model, or a name of poyo_jax.pretrained_models(): {_named(entries)}."
        )
    file = FOLDER / f"{name}.safetensors"
    if _digest(file) != entries[name]["sha256"]:
        raise CheckpointError(
            f"the model {name!r} in the installed package is damaged: the SHA-256 of {file} is not"
            f" the one that is listed. {_AGAIN}"
        )
    return file


def _named(entries: dict[str, dict[str, str]]) -> str:
    return ", ".join(sorted(entries)) or "this version has none"


def _entries() -> dict[str, dict[str, str]]:
    try:
        entries = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
        return {name: {key: entry[key] for key in FIELDS} for name, entry in entries.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"the list of models in the installed package, {FOLDER / LIST}, is damaged"
            f" ({type(error).__name__}). {_AGAIN}"
        ) from error


def _digest(file: Path) -> str:
    """SHA-256 of a file; empty when it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
