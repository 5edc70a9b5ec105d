"""Embeddings of units and sessions in the plane of their first two principal components."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.pca import Plane
from poyo_jax.pretrained import Pretrained
from poyo_jax.report.numbers import Content, packed, packed_columns

MAX_UNITS = 4000  # points of a picture that browsers draw at once
UNKNOWN = "unknown"


def embeddings(pretrained: Pretrained, sessions: Sequence[Session]) -> Content:
    """Units, with session, subject, area and rate to colour them by, and sessions.

    Raises DataError when the model knows nobody.
    """
    if len(pretrained.units) < 2:
        raise DataError(
            "The model knows fewer than two units, so that there is no plane to show them in."
        )
    names = list(pretrained.units.names)
    every = -(-len(names) // MAX_UNITS)
    rows, names = _table(pretrained, "unit_embedding")[::every], names[::every]
    facts = _facts(sessions)
    of_units = [facts.get(name, {}) for name in names]
    plane = Plane(rows)
    content: Content = {
        "units": {
            "points": packed_columns(plane(rows)),
            "shares": plane.shares,
            "names": names,
            "colours": {
                "session": _owners(names, pretrained),
                "subject": [fact.get("subject", UNKNOWN) for fact in of_units],
                "area": [fact.get("area", UNKNOWN) for fact in of_units],
            },
            "rates": packed([fact.get("rate", np.nan) for fact in of_units]),
        }
    }
    if len(pretrained.sessions) > 2:
        rows = _table(pretrained, "session_embedding")
        plane = Plane(rows)
        content["sessions"] = {
            "points": packed_columns(plane(rows)),
            "shares": plane.shares,
            "names": list(pretrained.sessions.names),
        }
    return content


def _table(pretrained: Pretrained, name: str) -> Float[np.ndarray, "rows dim"]:
    """Without the row of padding."""
    return np.asarray(pretrained.params[name], np.float64)[1:]


def _facts(sessions: Sequence[Session]) -> dict[str, dict]:
    """Subject, area and rate in Hz by name of the unit."""
    facts = {}
    for session in sessions:
        counts = np.bincount(
            session.spikes_between(-np.inf, np.inf)[1], minlength=len(session.unit_ids)
        )
        rates = counts / max(session.domain.duration, 1e-9)
        subject = session.subject_id or UNKNOWN
        rows = zip(session.unit_names, areas(session), rates.tolist(), strict=True)
        facts |= {
            name: {"subject": subject, "area": area, "rate": rate} for name, area, rate in rows
        }
    return facts


def areas(session: Session) -> list[str]:
    """Area of every unit: the column `area_name`, or the electrode group named in its id."""
    column = session.unit_table.get("area_name")
    if column is not None:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in column.tolist()]
    groups = [re.search(r"electrode_group_([^/]+)/", unit_id) for unit_id in session.unit_ids]
    return [group[1] if group else UNKNOWN for group in groups]


def _owners(names: Sequence[str], pretrained: Pretrained) -> list[str]:
    """Session of every unit."""
    return [pretrained.sessions.beginning_of(name) or UNKNOWN for name in names]
