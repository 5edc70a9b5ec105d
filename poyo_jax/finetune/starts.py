"""Where the rows of new units and sessions start, and in which coordinates they move.

Units start where units of like tuning lie, if the model has a map from tuning to embeddings
(poyo_jax/tuning.py), and at the mean of the trained rows otherwise; sessions at the trained row
that decodes them best. Where a known session of the same data set has units of the same ids, as
those of one electrode on two days, all start from that session if this decodes the labels better.
Rows move in coordinates in which the trained rows scatter equally in all directions: far where
trained rows differ, and hardly where they are all alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.mesh import own_part
from poyo_jax.errors import DataError, VocabError, suggest
from poyo_jax.model.params import TABLES
from poyo_jax.pretrained import Pretrained
from poyo_jax.tuning import TuningMap, tuning_features
from poyo_jax.types import Batch

MAX_CANDIDATES = 16  # trained session rows that are tried, and sessions with the same units
SCATTER = 0.02  # of rows that nothing is known about: that of fresh tables

StartFrom = Mapping[str, str] | str
Tables = Mapping[str, Float32[np.ndarray, "_rows dim"]]


def learn_tuning(pretrained: Pretrained, sessions: Sequence[Session]) -> Pretrained:
    """The model with `tuning_map`: `fit_units` then starts from it, and `save` keeps it."""
    return replace(pretrained, tuning=tuning_map(pretrained, sessions))


def tuning_map(pretrained: Pretrained, sessions: Sequence[Session]) -> TuningMap:
    """The map from the tuning of units to their embeddings, learned on the train splits of sessions
    the model knows.

    Raises VocabError for a session that the model does not know, and DataError when there are none.
    """
    if not sessions:
        raise DataError(
            "there are no sessions to learn the tuning of units from. Give those of pretraining."
        )
    sources = [pretrained.source(session, session.split("train")) for session in sessions]
    features = [
        tuning_features(source.session, source.readout, source.intervals) for source in sources
    ]
    table = np.asarray(pretrained.params["unit_embedding"])
    return TuningMap.fit(features, [table[source.unit_rows] for source in sources])


def starting_points(
    pretrained: Pretrained, sessions: Sequence[Session], start_from: StartFrom
) -> dict[str, str]:
    """The name of the trained row from which each of these units or sessions starts, as far as it
    starts from one.

    `start_from` has such names, or is the id of a known session: units then start from its units of
    the same unit id, and sessions from it. What the model knows already starts from its own row.
    Raises VocabError for names that are neither new nor known.
    """
    units = [name for session in sessions for name in session.unit_names]
    own = {name: name for name in units if name in pretrained.units}
    own |= {session.id: session.id for session in sessions if session.id in pretrained.sessions}
    if isinstance(start_from, str):
        pretrained.sessions.rows([start_from])
        pairs = [
            (new, f"{start_from}/{unit_id}")
            for session in sessions
            for unit_id, new in zip(session.unit_ids, session.unit_names, strict=True)
        ]
        given = {new: known for new, known in pairs if known in pretrained.units}
        return own | given | {session.id: start_from for session in sessions}
    names = [*units, *(session.id for session in sessions)]
    for new, known in start_from.items():
        if new not in names:
            raise VocabError(
                f"start_from names {new!r}, which no given session has.{suggest(new, names)}"
            )
        (pretrained.sessions if known in pretrained.sessions else pretrained.units).rows([known])
    return own | dict(start_from)


def starting_rows(
    pretrained: Pretrained, sources: Sequence[ModelSession], start_from: StartFrom, seed: int
) -> dict[str, Float32[np.ndarray, "_rows dim"]]:
    """Tables of the sessions' own units and of the sessions. Row 0 is padding; the others start as
    told above.
    """
    rng = np.random.default_rng([seed, 2])
    points = starting_points(pretrained, [source.session for source in sources], start_from)
    of_units = [_unit_rows(pretrained, source) for source in sources]
    mean = mean_row(np.asarray(pretrained.params["session_embedding"]))
    of_sessions = np.repeat(mean[None], len(sources), axis=0)
    names = [name for source in sources for name in source.session.unit_names]
    return {
        "unit_embedding": _table(
            pretrained, "unit_embedding", names, np.concatenate(of_units), points, rng
        ),
        "session_embedding": _table(
            pretrained,
            "session_embedding",
            [source.session.id for source in sources],
            of_sessions,
            points,
            rng,
        ),
    }


def tables_of_sessions(
    pretrained: Pretrained, sources: Sequence[ModelSession], tables: Tables, seed: int
) -> Iterator[Tables]:
    """Tables in which the sessions have trained session rows, some of many, drawn by `seed`."""
    trained = np.asarray(pretrained.params["session_embedding"])
    places = [source.session_row for source in sources]
    for row in np.random.default_rng([seed, 4]).permutation(np.arange(1, len(trained)))[
        :MAX_CANDIDATES
    ]:
        yield {
            **tables,
            "session_embedding": _filled(tables["session_embedding"], places, trained[row]),
        }


def sessions_with_same_units(pretrained: Pretrained, session: Session, seed: int) -> list[str]:
    """Ids of known sessions of the same data set that have units of the same ids, those that share
    most of them first.

    Of many some are taken, drawn by `seed` where they share equally many.
    """
    data_set = f"{session.brainset_id}/"
    names = [
        name
        for name in pretrained.sessions.names
        if session.brainset_id and name.startswith(data_set)
    ]
    shared = np.array(
        [sum(f"{name}/{unit}" in pretrained.units for unit in session.unit_ids) for name in names]
    )
    order = sorted(
        np.random.default_rng([seed, 5]).permutation(len(names)), key=lambda place: -shared[place]
    )
    return [names[place] for place in order if shared[place]][:MAX_CANDIDATES]


def tables_of_same_units(
    pretrained: Pretrained,
    sources: Sequence[ModelSession],
    twins: Sequence[Sequence[str]],
    tables: Tables,
) -> Iterator[Tables]:
    """Tables in which sessions and units have the rows of their first twins and of these' units of
    the same ids; then of their second ones, and so on. `twins` are known sessions, source by
    source.
    """
    trained = {name: np.asarray(pretrained.params[name]) for name in TABLES}
    for number in range(max(map(len, twins), default=0)):
        found = tables
        for source, known in zip(sources, twins, strict=True):
            if number < len(known):
                found = _started_from(pretrained, source, found, trained, known[number])
        yield found


def _started_from(
    pretrained: Pretrained, source: ModelSession, tables: Tables, trained: Tables, known: str
) -> Tables:
    """Tables in which the session and its units have the trained rows of `known` and of its units
    of the same ids.
    """
    names = [f"{known}/{unit}" for unit in source.session.unit_ids]
    same = np.array([name in pretrained.units for name in names])
    rows = pretrained.units.rows([name for name, found in zip(names, same, strict=True) if found])
    session_row = pretrained.sessions.rows([known])[0]
    return {
        "unit_embedding": _filled(
            tables["unit_embedding"], source.unit_rows[same], trained["unit_embedding"][rows]
        ),
        "session_embedding": _filled(
            tables["session_embedding"],
            source.session_row,
            trained["session_embedding"][session_row],
        ),
    }


def best_tables(
    predict: Callable[[dict, Batch], jax.Array],
    params: dict,
    batch: Batch,
    sources: Sequence[ModelSession],
    candidates: Iterable[Tables],
    *,
    better_than_mean: bool = False,
) -> tuple[dict, np.ndarray]:
    """Parameters with the rows, session by session, of those tables that decode a batch best; what
    is there counts.

    `better_than_mean` leaves out candidates that decode a session no better than the mean of its
    behaviour does. Which tables were chosen comes second, by session row: 0 for those that were
    there, 1 for the first candidate.
    """
    tried = [{name: np.asarray(params[name]) for name in TABLES}, *candidates]
    errors = np.array(
        [
            _session_errors(predict, {**params, **jax.tree.map(jnp.asarray, dict(tables))}, batch)
            for tables in tried
        ]
    )  # [tables, session rows]
    if better_than_mean:
        of_mean = _session_errors(lambda _, batch: jnp.zeros_like(batch.targets), params, batch)
        errors[1:] = np.where(errors[1:] < of_mean, errors[1:], np.inf)
    best = np.argmin(errors, axis=0)
    found = {name: table.copy() for name, table in tried[0].items()}
    for source in sources:
        tables = tried[best[source.session_row]]
        for name, rows in (
            ("unit_embedding", source.unit_rows),
            ("session_embedding", source.session_row),
        ):
            found[name][rows] = tables[name][rows]
    return {**params, **jax.tree.map(jnp.asarray, found)}, best


def _filled(table: np.ndarray, places: Any, rows: np.ndarray) -> np.ndarray:
    filled = table.copy()
    filled[places] = rows
    return filled


def _session_errors(predict: Callable, params: dict, batch: Batch) -> np.ndarray:
    """Sum of the weighted squared errors of the windows of each session, by its row."""
    values, targets, weights, sessions = (
        own_part(x)
        for x in (predict(params, batch), batch.targets, batch.target_weights, batch.session_rows)
    )
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # the first step tells of targets that are too large
        errors = (weights * np.square(values - targets).mean(axis=-1)).sum(axis=-1)
    return np.bincount(sessions, errors, minlength=len(params["session_embedding"]))


def _unit_rows(pretrained: Pretrained, source: ModelSession) -> np.ndarray:
    """What is guessed of the session's units."""
    if pretrained.tuning is not None:
        return pretrained.tuning.rows(
            tuning_features(source.session, source.readout, source.intervals)
        )
    mean = mean_row(np.asarray(pretrained.params["unit_embedding"]))
    return np.repeat(mean[None], len(source.unit_rows), axis=0)


def _table(
    pretrained: Pretrained,
    table: str,
    names: Sequence[str],
    guesses: np.ndarray,
    points: Mapping[str, str],
    rng: np.random.Generator,
) -> np.ndarray:
    """Guesses with some scatter, but trained rows where these are the starting points."""
    trained, known = np.asarray(pretrained.params[table]), _vocab(pretrained, table)
    rows = guesses + SCATTER * rng.standard_normal(guesses.shape)
    for place, name in enumerate(names):
        if (point := points.get(name, "")) in known:
            rows[place] = trained[known.rows([point])[0]]
    return np.concatenate([np.zeros_like(rows[:1]), rows]).astype(np.float32)


def _vocab(pretrained: Pretrained, table: str) -> Vocab:
    return pretrained.units if table == "unit_embedding" else pretrained.sessions


def mean_row(table: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, " dim"]:
    """Mean of all rows but the padding; zero if there are none."""
    return table[1:].sum(axis=0) / max(len(table) - 1, 1)


def coordinates(table: Float[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "dim dim"]:
    """Steps in a row along each coordinate, as rows of a matrix: one standard deviation of the
    trained rows.

    The fewer rows there are, the more their covariance is drawn to that of an equal scatter in all
    directions.
    """
    centred = table[1:].astype(np.float64) - mean_row(table)
    count, dim = centred.shape
    covariance = centred.T @ centred / max(count - 1, 1)
    share = count / (count + dim)
    equal = np.trace(covariance) / dim
    values, vectors = np.linalg.eigh(
        share * covariance + ((1 - share) * equal + SCATTER**2) * np.eye(dim)
    )
    return (vectors * np.sqrt(values)).T.astype(np.float32)
