"""Choose units of a session by a mask or by their ids."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from poyo_jax.data.importers.spike_forms import unit_names
from poyo_jax.data.io.layout import Node
from poyo_jax.errors import DataError, suggest


def chosen_units(units: Any, ids: Sequence[str], session: str) -> Bool[np.ndarray, " units"]:
    """Return a mask of the chosen units [units].

    Raises DataError for an unknown id, an id that is given twice, a mask of another length, or
    when no unit is chosen.
    """
    array = np.asarray(units)
    if array.ndim != 1:
        raise DataError(
            f"select_units got an array of shape {array.shape}; pass a mask [units], or a list of"
            " unit ids."
        )
    if array.dtype == bool:
        if len(array) != len(ids):
            raise DataError(
                f"the mask has {len(array)} entries, but session {session} has {len(ids)} units;"
                " pass one per unit."
            )
        mask = array.copy()
    else:
        mask = _mask_of_ids(unit_names(array), ids, session)
    if not mask.any():
        raise DataError(f"none of the {len(ids)} units of session {session} is chosen; keep one.")
    return mask


def rows_of(table: Node, mask: Bool[np.ndarray, " rows"]) -> Node:
    """Return a table, or a series with its domain, with the rows of the mask [rows]."""
    members: dict[str, Any] = {}
    for name, member in table.members.items():
        is_column = not isinstance(member, Node)
        members[name] = table.column(name)[mask] if is_column else member
    return replace(table, members=members)


def _mask_of_ids(
    chosen: Sequence[str], ids: Sequence[str], session: str
) -> Bool[np.ndarray, " units"]:
    for unit in chosen:
        if unit not in ids:
            raise DataError(
                f"session {session} has no unit {unit!r}; pass ids such as {ids[0]!r}, or a mask."
                f"{suggest(unit, ids)}"
            )
    if len(set(chosen)) < len(chosen):
        twice = next(unit for unit in chosen if chosen.count(unit) > 1)
        raise DataError(f"unit {twice!r} is chosen twice; name every unit once.")
    return np.isin(np.array(ids, object), np.array(chosen, object))
