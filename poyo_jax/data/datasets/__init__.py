"""The data sets that POYO knows, one module each, named by the data set's id (brainset_id)."""

import importlib
import pkgutil
from functools import cache

from poyo_jax.data.datasets.record import DataSet


def find(brainset_id: str | None) -> DataSet | None:
    """Return the record of a data set, or None when there is no module of this name."""
    return _records().get(brainset_id or "")


def all_data_sets() -> tuple[DataSet, ...]:
    """Return the records of all data sets, sorted by id."""
    return tuple(_records().values())


@cache
def _records() -> dict[str, DataSet]:
    """Map the id of every data set to its record, the constant DATA_SET of its module."""
    records = {}
    for file in sorted(pkgutil.iter_modules(__path__), key=lambda file: file.name):
        module = importlib.import_module(f"{__name__}.{file.name}")
        if hasattr(module, "DATA_SET"):
            records[module.DATA_SET.id] = module.DATA_SET
    return records
