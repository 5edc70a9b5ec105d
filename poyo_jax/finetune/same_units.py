"""Decode a new session without labels, by the rows that its units' ids had on other days."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.given import one_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune.activity import likeness, unit_activity
from poyo_jax.finetune.coordinates import mean_row
from poyo_jax.finetune.tables import add_fitted_rows
from poyo_jax.model.params import SESSIONS, UNITS
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import Readout, Readouts, each_readout


def adapt_without_labels(
    pretrained: Pretrained, session: Session, earlier: Sequence[Session] = ()
) -> Pretrained:
    """Give the model mean rows for a session whose units have the ids of earlier ones.

    A unit gets the mean row of the units of its id in the known sessions of the same data set, as
    those of one electrode on other days, and a unit of another id the mean row of all units. The
    row of the session, and its readouts, are means over these sessions: the scale of the behaviour
    is theirs. No label of the session is used, and nothing is trained.

    Args:
        pretrained: the model.
        session: the new session.
        earlier: recordings of known sessions. With them, the mean is over these alone, and a row
            weighs more, the more its unit fired as the new one does: at its rate, and together with
            the same units (`poyo_jax.finetune.activity`).

    Raises VocabError when the model knows the session, or not one of `earlier`, and DataError when
    none of its units has the id of a known unit of its data set.
    """
    pretrained, session = check_model(pretrained), one_session(session)
    if session.id in pretrained.sessions:
        raise VocabError(
            f"the model knows session {session.id!r} already. Decode it directly, or give the new"
            " session another id."
        )
    recordings = {other.id: other for other in session_list(earlier)}
    pretrained.sessions.rows(list(recordings))  # raises for a session that is not known
    shared = units_of_same_ids(pretrained, session)
    related = [name for name, units in shared.items() if units]
    if recordings:
        related = [name for name in related if name in recordings]
    if not related:
        raise DataError(
            f"none of the {len(session.unit_ids)} units of session {session.id} has the id of a"
            " unit that the model knows from the same data set, so nothing is known of them without"
            " labels. Label a part of the session, and call poyo_jax.fit_units."
        )
    new_units, new_session = Vocab(session.unit_names), Vocab([session.id])
    units = pretrained.units.merge(new_units)
    sessions = pretrained.sessions.merge(new_session)
    session_rows = np.asarray(pretrained.params[SESSIONS])[pretrained.sessions.rows(related)]
    session_row = session_rows.mean(axis=0, keepdims=True)
    params = dict(pretrained.params)
    table = np.asarray(params[UNITS])[: pretrained.units.num_rows]
    of_new = np.repeat(mean_row(table)[None], len(session.unit_ids), axis=0)
    unit_rows = mean_rows(pretrained, session, _weights(session, related, recordings), of_new)
    params[UNITS] = add_fitted_rows(params[UNITS], units, new_units, unit_rows)
    params[SESSIONS] = add_fitted_rows(params[SESSIONS], sessions, new_session, session_row)
    readouts = {**pretrained.readouts, session.id: _mean_readouts(pretrained, related)}
    return replace(
        pretrained,
        params=params,
        units=units,
        sessions=sessions,
        readouts=readouts,
        metrics={},
    )


def units_of_same_ids(pretrained: Pretrained, session: Session) -> dict[str, list[str]]:
    """Names of known units with the ids of this session's, by known session of its data set."""
    if not session.brainset_id:
        return {}
    shared = {}
    for name in pretrained.sessions.names:
        if name.startswith(f"{session.brainset_id}/"):
            units = [f"{name}/{unit}" for unit in session.unit_ids]
            shared[name] = [unit for unit in units if unit in pretrained.units]
    return shared


def mean_rows(
    pretrained: Pretrained,
    session: Session,
    weights: Mapping[str, Mapping[str, float]],
    otherwise: Float32[np.ndarray, "units dim"],
) -> Float32[np.ndarray, "units dim"]:
    """Weighted mean row of the known units of each id.

    An id that is new keeps its row of `otherwise`. `weights` are by known session and unit id.
    """
    table = np.asarray(pretrained.params[UNITS])
    rows = np.array(otherwise)
    for place, unit in enumerate(session.unit_ids):
        known = [
            name
            for name, of_session in weights.items()
            if unit in of_session and f"{name}/{unit}" in pretrained.units
        ]
        if known:
            own = table[pretrained.units.rows([f"{name}/{unit}" for name in known])]
            shares = [weights[name][unit] for name in known]
            rows[place] = np.average(own, axis=0, weights=shares)
    return rows


def equal_weights(session: Session, related: Sequence[str]) -> dict[str, dict[str, float]]:
    """The same weight for each unit of each of the known sessions."""
    return {name: dict.fromkeys(session.unit_ids, 1.0) for name in related}


def _weights(
    session: Session, related: Sequence[str], recordings: Mapping[str, Session]
) -> dict[str, dict[str, float]]:
    """Weight of every unit's row, by session and unit id: equal, or how alike it fires."""
    if not recordings:
        return equal_weights(session, related)
    new = unit_activity(session)
    return {name: likeness(new, unit_activity(recordings[name])) for name in related}


def _mean_readouts(pretrained: Pretrained, related: Sequence[str]) -> Readouts:
    """The readouts of the sessions, one for each output of the model that they have."""
    by_output: dict[int | None, list[Readout]] = {}
    for name in related:
        for readout in each_readout(pretrained.readouts[name]):
            number = output_number(readout, pretrained.config.model)
            by_output.setdefault(number, []).append(readout)
    means = tuple(_mean_readout(group) for group in by_output.values())
    return means[0] if len(means) == 1 else means


def _mean_readout(readouts: Sequence[Readout]) -> Readout:
    """The last of these, with the mean and the variance that all have on average."""
    last = readouts[-1]
    if last.kind != "continuous":
        return last
    mean = np.mean([readout.mean for readout in readouts], axis=0)
    variance = np.mean(np.square([readout.std for readout in readouts]), axis=0)
    return replace(last, mean=tuple(mean.tolist()), std=tuple(np.sqrt(variance).tolist()))
