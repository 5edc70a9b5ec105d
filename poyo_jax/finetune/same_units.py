"""What known sessions tell of the units of another one that have the same ids: `same_units`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError
from poyo_jax.model.params import SESSIONS, UNITS
from poyo_jax.pretrained import Pretrained
from poyo_jax.tuning import Features, tuning_features
from poyo_jax.types import Readout, each_readout


class KnownUnits(NamedTuple):
    """Known sessions and their units, with their tuning to the measured behaviour."""

    sessions: tuple[str, ...]
    units: Vocab
    tuning: Features  # in the order of `units`


class Guess(NamedTuple):
    """A first guess of a session, from the units of the same ids."""

    unit_rows: Float32[np.ndarray, "units dim"]
    session_row: Float32[np.ndarray, " dim"]
    readout: Readout  # of the first output of the model
    tuning: Features
    num_known: Int[np.ndarray, " units"]  # known units of this id


def known_units(pretrained: Pretrained, sessions: Sequence[Session]) -> KnownUnits:
    """The units of these sessions, and their tuning in the train splits.

    Raises VocabError for a session that the model does not know, and DataError when none has the
    first output of the model, or when this is not continuous.
    """
    names: list[str] = []
    tuning: dict[str, Features] = {}
    for session in sessions:
        source = pretrained.source(session, session.split("train"))
        if source.tuned is None:
            continue
        if source.tuned.kind != "continuous":
            raise DataError(
                f"the first output of the model has the kind {source.tuned.kind!r}, and rows can be"
                " inferred without labels for a continuous one alone. Fit new units with"
                " poyo_jax.fit_units."
            )
        names += session.unit_names
        tuning[session.id] = tuning_features(session, source.tuned, source.intervals)
    if not tuning:
        raise DataError(
            f"none of the {len(sessions)} given sessions has the first output of the model, to"
            " which units are tuned. Give sessions of pretraining that have it."
        )
    return KnownUnits(tuple(tuning), Vocab(names), np.concatenate([*tuning.values()]))


def same_units(pretrained: Pretrained, known: KnownUnits, session: Session) -> Guess:
    """Means over the units of the same id in the known sessions of the same data set but itself.

    A unit without such gets the means over all known units. So do all units, and the session, when
    there is no such session.
    """
    related = []
    for name in known.sessions:
        if session.brainset_id and name.startswith(f"{session.brainset_id}/"):
            related.append(name)
    related = [name for name in related if name != session.id]
    places = _places(known, related, session)
    table = np.asarray(pretrained.params[UNITS])
    averaged = related or known.sessions
    session_rows = np.asarray(pretrained.params[SESSIONS])[pretrained.sessions.rows(averaged)]
    return Guess(
        unit_rows=_means(table[pretrained.units.rows(known.units.names)], places),
        session_row=session_rows.mean(axis=0),
        readout=_mean_readout(pretrained, averaged),
        tuning=_means(known.tuning, places),
        num_known=(places >= 0).sum(axis=0),
    )


def _places(
    known: KnownUnits, related: list[str], session: Session
) -> Int[np.ndarray, "sessions units"]:
    """Places of the units of the same ids among all known ones; -1 where there is none."""
    places = np.full((len(related), len(session.unit_ids)), -1)
    for number, name in enumerate(related):
        names = [f"{name}/{unit}" for unit in session.unit_ids]
        there = np.array([unit in known.units for unit in names])
        shared = [unit for unit in names if unit in known.units]
        places[number, there] = known.units.rows(shared) - 1
    return places


def _means(
    values: Float[np.ndarray, "known size"], places: Int[np.ndarray, "sessions units"]
) -> Float32[np.ndarray, "units size"]:
    """Mean over the sessions that have a unit; over all known units where none has it."""
    there = (places >= 0)[..., None]
    counts = there.sum(axis=0)
    sums = np.where(there, values[places], 0).sum(axis=0)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), values.mean(axis=0))
    return means.astype(np.float32)


def _mean_readout(pretrained: Pretrained, sessions: tuple[str, ...] | list[str]) -> Readout:
    """Readout of the first output, with the mean and the variance that sessions have on average."""
    model = pretrained.config.model
    of_all = [each for name in sessions for each in each_readout(pretrained.readouts[name])]
    first = [readout for readout in of_all if output_number(readout, model) == 0]
    mean = np.mean([readout.mean for readout in first], axis=0)
    std = np.sqrt(np.mean(np.square([readout.std for readout in first]), axis=0))
    return replace(first[-1], mean=tuple(mean.tolist()), std=tuple(std.tolist()))
