"""Writing files so that they are there whole or not at all."""

import os
from pathlib import Path

from poyo_jax.errors import PoyoError


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with its folder. Raises PoyoError when the disk is full or may not be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True) if os.access(path.parent, os.W_OK) else None
        raise PoyoError(
            f"{path} cannot be written ({error.strerror or error}). Check that the disk has space and that you may write "
            "there, or choose another folder."
        ) from error
