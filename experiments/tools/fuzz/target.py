"""The base of all targets: files to damage, and what reading them must give."""

import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np


class OtherValue(Exception):
    """A damaged file gave a value that is neither the right one nor a valid one."""


class Target:
    """Files of one kind, one way to damage them, and a check of what is read from them.

    `make` writes the files into the folder; `warm_up` reads them in the process that tries the
    mutations; `attempt` reads them after the mutation of this number. It raises OtherValue, or
    whatever the reader raises.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed

    def make(self) -> None:
        raise NotImplementedError

    def warm_up(self) -> None:
        raise NotImplementedError

    def attempt(self, number: int) -> None:
        raise NotImplementedError

    def rng(self, number: int) -> np.random.Generator:
        """The random numbers of a mutation."""
        return np.random.default_rng((self.seed, zlib.crc32(self.name.encode()), number))

    def write(self, name: str, content: bytes) -> Path:
        """Write a file as a new one: HDF5 keeps files open, and knows them by their inode."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        return path


def need(holds: bool, text: str) -> None:
    if not holds:
        raise OtherValue(text)
