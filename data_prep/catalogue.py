"""Catalogue of the data sets to prepare; `data_prep/<data set>.py` holds their entries."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from poyo_jax import Session
from poyo_jax.data import datasets
from poyo_jax.errors import DataError, suggest


@dataclass(frozen=True)
class Dandiset:
    """A published version of a set in the DANDI archive; drafts change, so they are never taken."""

    id: str
    version: str

    def __str__(self) -> str:
        return f"DANDI {self.id}, version {self.version}"


@dataclass(frozen=True)
class ZenodoRecord:
    """A record of Zenodo, of which the files with these endings are taken."""

    id: str
    endings: tuple[str, ...]

    def __str__(self) -> str:
        return f"Zenodo record {self.id}"


@dataclass(frozen=True)
class Form:
    """A site that asks for a form; its files must be fetched by hand."""

    url: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"by hand, {self.url}"


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A set of raw files: its name, archive, licence and size, and its converter."""

    name: str
    title: str
    archive: Dandiset | ZenodoRecord | Form
    licence: str
    convert: Callable[..., Session]  # from the path of a raw file
    raw_files: tuple[str, ...]  # patterns of file names
    num_files: int
    raw_gigabytes: float
    processed_gigabytes: float

    def find(self, folder: Path) -> list[Path]:
        """List the raw files in a folder and below, sorted by name."""
        paths = {path for pattern in self.raw_files for path in folder.rglob(pattern)}
        files = [path for path in paths if path.is_file()]
        return sorted(files, key=lambda path: (path.name, str(path)))


ALIASES = {"pei_pandarinath_nlb_2021": "nlb_mc_maze_small"}  # the name that brainsets uses


@cache
def all_entries() -> dict[str, CatalogueEntry]:
    """Map the name of every entry to the entry: CATALOGUE of `data_prep/<data set>.py`.

    The data sets are those of `poyo_jax.data.datasets`.
    """
    entries = {}
    for data_set in datasets.all_data_sets():
        module = importlib.import_module(f"data_prep.{data_set.id}")
        for entry in module.CATALOGUE:
            entries[entry.name] = entry
    return entries


def find_entry(name: str) -> CatalogueEntry:
    """Return the entry with this name. Raises DataError when there is none."""
    name = ALIASES.get(name, name)
    entries = all_entries()
    if name not in entries:
        raise DataError(
            f"there is no data set {name!r}.{suggest(name, entries)} `python -m data_prep list`"
            " shows them all."
        )
    return entries[name]
