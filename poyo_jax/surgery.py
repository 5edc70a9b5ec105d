"""Change the units and sessions that a trained model knows: select, rename or merge them.

Every function returns a new model; rows that stay keep their bits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import VocabError
from poyo_jax.model.params import TABLES
from poyo_jax.pretrained import Pretrained, check_model


def subset_sessions(pretrained: Pretrained, session_ids: Iterable[str]) -> Pretrained:
    """The model with these sessions and their units alone.

    Raises VocabError for a session that it does not know.
    """
    pretrained = check_model(pretrained)
    if isinstance(session_ids, str):
        session_ids = [session_ids]
    sessions = pretrained.sessions.subset(session_ids)
    session_of = pretrained.sessions.beginning_of
    units = Vocab(name for name in pretrained.units.names if session_of(name) in sessions)
    return replace(
        pretrained,
        params=_chosen_rows(pretrained, units, sessions),
        units=units,
        sessions=sessions,
        readouts={
            name: pretrained.readouts[name]
            for name in sessions.names
            if name in pretrained.readouts
        },
        metrics={},
        session_calibration={
            name: own for name, own in pretrained.session_calibration.items() if name in sessions
        },
    )


def rename_sessions(pretrained: Pretrained, changes: Mapping[str, str]) -> Pretrained:
    """The model with other ids for sessions, by present id; names of their units change likewise.

    Raises VocabError for a session that it does not know, or when two would have one id.
    """
    pretrained = check_model(pretrained)
    sessions = pretrained.sessions.rename(changes)
    of_units = {}
    for name in pretrained.units.names:
        session_id = pretrained.sessions.beginning_of(name)
        if session_id in changes:
            of_units[name] = changes[session_id] + name.removeprefix(session_id)
    return replace(
        pretrained,
        units=pretrained.units.rename(of_units),
        sessions=sessions,
        readouts={
            changes.get(name, name): readout for name, readout in pretrained.readouts.items()
        },
        session_calibration={
            changes.get(name, name): own for name, own in pretrained.session_calibration.items()
        },
    )


def rename_units(pretrained: Pretrained, changes: Mapping[str, str]) -> Pretrained:
    """The model with other names for units, by present name "<session id>/<unit id>".

    Raises VocabError for a unit that it does not know, or when two would have one name.
    """
    pretrained = check_model(pretrained)
    return replace(pretrained, units=pretrained.units.rename(changes))


def merge_models(first: Pretrained, second: Pretrained) -> Pretrained:
    """The first model, and the sessions and units that only the second model knows.

    Raises VocabError when their backbones differ, since rows mean nothing to another backbone.
    """
    first, second = check_model(first), check_model(second)
    if not _equal(first.params["backbone"], second.params["backbone"]):
        raise VocabError(
            "the two models have different backbones, and rows of one mean nothing to the other."
            " Merge models that unit identification made from the same pretrained model."
        )
    params = dict(first.params)
    vocabularies = ((first.units, second.units), (first.sessions, second.sessions))
    for table, (mine, theirs) in zip(TABLES, vocabularies, strict=True):
        new = [name for name in theirs.names if name not in mine]
        rows = np.asarray(second.params[table])[theirs.rows(new)]
        params[table] = jnp.asarray(np.concatenate([np.asarray(first.params[table]), rows]))
    of_new = {}
    for name in second.sessions.names:
        own = {**second.calibration, **second.session_calibration.get(name, {})}
        if own and name not in first.sessions:
            of_new[name] = own
    return replace(
        first,
        params=params,
        units=first.units.merge(second.units),
        sessions=first.sessions.merge(second.sessions),
        readouts={**second.readouts, **first.readouts},
        tuning=first.tuning or second.tuning,
        metrics={},
        session_calibration={**first.session_calibration, **of_new},
    )


def _chosen_rows(pretrained: Pretrained, units: Vocab, sessions: Vocab) -> dict:
    params = dict(pretrained.params)
    vocabularies = ((pretrained.units, units), (pretrained.sessions, sessions))
    for table, (before, after) in zip(TABLES, vocabularies, strict=True):
        rows = np.concatenate([[0], before.rows(after.names)])
        params[table] = jnp.asarray(np.asarray(params[table])[rows])
    return params


def _equal(a: dict, b: dict) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
