"""Choose the initial rows of a fit: `starting_params`.

Each session has a first guess and, unless the caller says where it starts, further candidates:

1. The first guess. Units start where units of like tuning lie, if the model has a tuning map
   (poyo_jax/tuning.py), else at the mean of the trained rows; sessions start at the mean row. Known
   units and sessions start from their trained rows, others from those that `start_from` names.
2. The same units with the row of a trained session.
3. The rows of a known session of the same data set, and of its units of the same ids, as those of
   one electrode on two days; and the means over all such sessions.

The candidate that decodes a few windows of the valid split best wins; of the labels, without a
valid split. With `FitConfig.starts = "random"`, the first guess is zero with random scatter, and
there are no further candidates.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32

from poyo_jax.config import ModelConfig
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.session import Session
from poyo_jax.distributed.mesh import own_part, put_batch, replicated
from poyo_jax.errors import DataError, VocabError, suggest
from poyo_jax.finetune.coordinates import SCATTER, mean_row
from poyo_jax.finetune.same_units import equal_weights, mean_rows, units_of_same_ids
from poyo_jax.finetune.setup import FitSetup
from poyo_jax.pretrained import Pretrained
from poyo_jax.tasks.choose import num_columns, query_losses
from poyo_jax.tuning import tuning_features
from poyo_jax.types import Batch

logger = logging.getLogger(__name__)

MAX_CANDIDATES = 16  # of trained session rows, and of sessions with the same units

StartFrom = Mapping[str, str] | str


class Start(NamedTuple):
    """Initial rows of one session."""

    unit_rows: Float32[np.ndarray, "units dim"]
    session_row: Float32[np.ndarray, " dim"]
    origin: str  #: where the rows come from, for the log
    must_beat_mean: bool = False  #: taken only if it decodes better than the mean behaviour does


def starting_params(setup: FitSetup, start_from: StartFrom | None) -> dict:
    """Parameters before the first step: the chosen rows of the sessions, and the backbone."""
    points = starting_points(
        setup.pretrained,
        [source.session for source in setup.train],
        {} if start_from is None else start_from,
    )
    guesses = first_guesses(setup, points)
    candidates = [[guess] for guess in guesses]
    # The decoding of a head that is not trained cannot tell which candidate is better.
    if setup.config.starts == "informed" and not setup.new_heads:
        for source, options in zip(setup.train, candidates, strict=True):
            if source.session.id in points:
                continue  # it starts from a session that the caller names
            options += session_row_candidates(setup, options[0])
            if start_from is None:
                options += same_unit_candidates(setup, source.session, options[0])
    starts = choose_starts(setup, candidates)
    for source, start in zip(setup.train, starts, strict=True):
        logger.info("%s starts from %s", source.session.id, start.origin)
    return params_of(setup, starts)


def starting_points(
    pretrained: Pretrained, sessions: Sequence[Session], start_from: StartFrom
) -> dict[str, str]:
    """Trained rows from which units and sessions start, by name; only for those that have one.

    `start_from` maps new names to trained ones, or is the id of a known session: units then start
    from its units of the same unit id, and sessions from it. Known units and sessions start from
    their trained rows. Raises VocabError for names that are neither new nor known, and DataError
    for what is neither a mapping nor an id.
    """
    units = {name for session in sessions for name in session.unit_names}
    ids = {session.id for session in sessions}
    points = {name: name for name in units if name in pretrained.units}
    points |= {name: name for name in ids if name in pretrained.sessions}
    if isinstance(start_from, str):
        return points | _points_in_session(pretrained, sessions, start_from)
    if not isinstance(start_from, Mapping):
        raise DataError(
            f"start_from is {start_from!r}; it must be the id of a known session, or a mapping from"
            " names of new units and sessions to known ones."
        )
    for new, known in start_from.items():
        if new not in units | ids:
            hint = suggest(new, sorted(units | ids))
            raise VocabError(f"start_from names {new!r}, which no given session has.{hint}")
        vocab = pretrained.units if new in units else pretrained.sessions
        vocab.rows([known])  # raises for an unknown name, or one of the other kind
    return points | dict(start_from)


def first_guesses(setup: FitSetup, points: Mapping[str, str]) -> list[Start]:
    """The first guess of every session: trained rows at `points`, else scattered about a guess."""
    dim = setup.pretrained.config.model.dim
    rng = np.random.default_rng([setup.config.seed, 2])
    unit_scatter = SCATTER * rng.standard_normal((len(setup.units), dim))
    session_scatter = SCATTER * rng.standard_normal((len(setup.sessions), dim))
    known_units, known_sessions = setup.pretrained.units, setup.pretrained.sessions
    trained_units = np.asarray(setup.pretrained.params["unit_embedding"])
    trained_sessions = np.asarray(setup.pretrained.params["session_embedding"])
    guesses = []
    for source in setup.train:
        unit_rows, session_row, origin = _without_scatter(setup, source)
        unit_rows = unit_rows + unit_scatter[source.unit_rows - 1]  # row 0 is padding
        session_row = session_row + session_scatter[source.session_row - 1]
        for place, name in enumerate(source.session.unit_names):
            if points.get(name, "") in known_units:
                unit_rows[place] = trained_units[known_units.rows([points[name]])[0]]
        point = points.get(source.session.id, "")
        if point in known_sessions:
            session_row = trained_sessions[known_sessions.rows([point])[0]]
            origin = point
        guess = Start(unit_rows.astype(np.float32), session_row.astype(np.float32), origin)
        guesses.append(guess)
    return guesses


def session_row_candidates(setup: FitSetup, guess: Start) -> list[Start]:
    """The guess with rows of trained sessions: all of them, or a random choice."""
    trained = np.asarray(setup.pretrained.params["session_embedding"])
    rng = np.random.default_rng([setup.config.seed, 4])
    rows = rng.permutation(np.arange(1, len(trained)))[:MAX_CANDIDATES]
    names = setup.pretrained.sessions.names
    candidates = []
    for row in rows:
        origin = f"{guess.origin}, with the session row of {names[row - 1]}"
        candidates.append(guess._replace(session_row=trained[row], origin=origin))
    return candidates


def same_unit_candidates(setup: FitSetup, session: Session, guess: Start) -> list[Start]:
    """The guess with the trained rows of known sessions that have units of the same ids.

    The mean over all of them is the first, if there are several.
    """
    pretrained = setup.pretrained
    first = sessions_with_same_units(pretrained, session, setup.config.seed)
    every = [name for name, units in units_of_same_ids(pretrained, session).items() if units]
    candidates = [
        same_unit_start(pretrained, session, [name], guess, f"{name}, whose units")
        for name in first
    ]
    if len(every) > 1:
        origin = f"the mean of {len(every)} sessions whose units"
        candidates.insert(0, same_unit_start(pretrained, session, every, guess, origin))
    return candidates


def same_unit_start(
    pretrained: Pretrained, session: Session, known: Sequence[str], guess: Start, origin: str
) -> Start:
    """The guess with the mean rows of these known sessions and of their units of the same ids."""
    unit_rows = mean_rows(pretrained, session, equal_weights(session, known), guess.unit_rows)
    session_table = np.asarray(pretrained.params["session_embedding"])
    session_row = session_table[pretrained.sessions.rows(list(known))].mean(axis=0)
    return Start(unit_rows, session_row, f"{origin} have the same ids", must_beat_mean=True)


def sessions_with_same_units(pretrained: Pretrained, session: Session, seed: int) -> list[str]:
    """Ids of known sessions of the same data set that have units of the same ids, best match first.

    The order of equal matches is random, and there are at most MAX_CANDIDATES.
    """
    shared = units_of_same_ids(pretrained, session)
    names = list(shared)
    num_shared = {}
    for place in np.random.default_rng([seed, 5]).permutation(len(names)):
        num_shared[names[place]] = len(shared[names[place]])
    sharing = [name for name, count in num_shared.items() if count]
    return sorted(sharing, key=lambda name: -num_shared[name])[:MAX_CANDIDATES]


def choose_starts(setup: FitSetup, candidates: Sequence[Sequence[Start]]) -> list[Start]:
    """The candidate of each session that decodes its windows best; the first of equals."""
    num_rounds = max(len(options) for options in candidates)
    if num_rounds == 1:
        return [options[0] for options in candidates]
    model, count = setup.pretrained.config.model, len(candidates)
    batches = [put_batch(batch, setup.mesh) for batch in setup.first_look()]
    mean_errors = np.zeros(count)
    for batch in batches:  # outputs of zero stand for the mean of the behaviour
        outputs = np.zeros((*own_part(batch.query_times).shape, num_columns(model)), np.float32)
        mean_errors += session_losses(model, outputs, batch, count)
    errors = np.full((num_rounds, count), np.inf)
    for number in range(num_rounds):
        # Sessions with fewer candidates keep their first guess, which does not count again.
        starts = [options[number if number < len(options) else 0] for options in candidates]
        params, measured = params_of(setup, starts), np.zeros(count)
        for batch in batches:
            predictions = own_part(setup.predict_step(params, batch))
            measured += session_losses(model, predictions, batch, count)
        for place, start in enumerate(starts):
            tried = number < len(candidates[place])
            if tried and (measured[place] < mean_errors[place] or not start.must_beat_mean):
                errors[number, place] = measured[place]
    # The first guess stands where no candidate has an error.
    best = np.argmin(np.where(np.isnan(errors), np.inf, errors), axis=0)
    return [options[number] for options, number in zip(candidates, best, strict=True)]


def session_losses(
    model: ModelConfig, outputs: np.ndarray, batch: Batch, num_sessions: int
) -> Float[np.ndarray, " sessions"]:
    """Sum of the weighted losses of each session's windows; `outputs` are those of this process."""
    targets, numbers = own_part(batch.targets), batch.query_outputs
    numbers = None if numbers is None else own_part(numbers)
    weights, rows = own_part(batch.target_weights), own_part(batch.session_rows)
    # Targets that overflow are reported by the first evaluation.
    with np.errstate(over="ignore", invalid="ignore"):
        losses = np.asarray(query_losses(model, outputs, targets, numbers))
        by_window = (weights * losses).sum(axis=-1)
    return np.bincount(rows, by_window, minlength=num_sessions + 1)[1:]


def params_of(setup: FitSetup, starts: Sequence[Start]) -> dict:
    """Parameters with these rows in the fitted tables, on all devices."""
    unit_rows = np.concatenate([start.unit_rows for start in starts])
    session_rows = np.stack([start.session_row for start in starts])
    params = {
        "unit_embedding": _with_padding_row(unit_rows),
        "session_embedding": _with_padding_row(session_rows),
        "backbone": setup.pretrained.params["backbone"],
    }
    return jax.device_put(params, replicated(setup.mesh))


def _points_in_session(
    pretrained: Pretrained, sessions: Sequence[Session], known: str
) -> dict[str, str]:
    """Starting points of sessions and units in a known session. Raises VocabError if unknown."""
    pretrained.sessions.rows([known])
    points = {session.id: known for session in sessions}
    for session in sessions:
        for unit_id, name in zip(session.unit_ids, session.unit_names, strict=True):
            if f"{known}/{unit_id}" in pretrained.units:
                points[name] = f"{known}/{unit_id}"
    return points


def _without_scatter(setup: FitSetup, source: ModelSession) -> tuple[np.ndarray, np.ndarray, str]:
    """Unit rows, the session row, and their origin, before random scatter is added."""
    params = setup.pretrained.params
    mean_unit = mean_row(np.asarray(params["unit_embedding"]))
    mean_session = mean_row(np.asarray(params["session_embedding"]))
    repeated = np.repeat(mean_unit[None], len(source.unit_rows), axis=0)
    if setup.config.starts == "random":
        return np.zeros_like(repeated), np.zeros_like(mean_session), "random rows"
    tuning = setup.pretrained.tuning
    if tuning is None or source.tuned is None:
        return repeated, mean_session, "the mean of the trained rows"
    features = tuning_features(source.session, source.tuned, source.intervals)
    return tuning.rows(features), mean_session, "the tuning map"


def _with_padding_row(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(rows[:1]), rows])
