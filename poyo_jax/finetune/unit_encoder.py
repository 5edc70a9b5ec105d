"""Rows for the units of a new session without labels: `fit_unit_encoder`, `UnitEncoder`.

How a unit is tuned cannot be told from its spikes alone. But most units of a new day have the id of
earlier ones, as those of one electrode, and the mean of their trained rows is a first guess
(finetune/same_units.py). With it the frozen model decodes the session. All units together decode
well enough to tell how each of them is tuned to what was decoded. A ridge map takes the difference
between this tuning and that of the units of the same id to the difference between the rows. It is
learned on known sessions, each of which is decoded with the rows that the others have for its ids.

There may be any number of units, in any order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from poyo_jax.checkpoint.digest import digest_of_arrays
from poyo_jax.data.given import one_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.offline import evaluate_outputs
from poyo_jax.errors import CheckpointError, DataError, VocabError
from poyo_jax.files import local_path, write_bytes
from poyo_jax.finetune.same_units import Guess, KnownUnits, known_units, same_units
from poyo_jax.finetune.tables import add_fitted_rows
from poyo_jax.model.params import BACKBONE, SESSIONS, UNITS
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.tuning import Features, TuningMap, tuning_features
from poyo_jax.types import Readout

ENTRY = "poyo_jax_unit_encoder"  # of the header of a file: names, and the digest of the model
BLANK, DECODED = "poyo_jax_blank.output", "poyo_jax_decoded.output"  # in place of the measured one
RATE = 20.0  # samples per s of it


@dataclass(frozen=True, eq=False)
class UnitEncoder:
    """Infers the rows of a session's units from its spikes, without labels.

    It belongs to one model, and to those that were adapted from it with a frozen backbone. Make one
    with `fit_unit_encoder`.
    """

    model: str  #: digest of the backbone and of the rows of `units`
    sessions: tuple[str, ...]  #: known sessions that it was learned on
    units: tuple[str, ...]  #: names of their units
    tuning: Features  #: of these units, to the measured behaviour
    map: TuningMap  #: from changes of tuning to changes of rows

    def rows(self, pretrained: Pretrained, session: Session) -> Float32[np.ndarray, "units dim"]:
        """Infer the rows of the session's units.

        They come from the spikes of its train split, or of all of it without one. Its behaviour is
        not used. Raises DataError when the encoder belongs to another model, or when no unit of
        the session has the id of a known unit of its data set.
        """
        return infer(self, pretrained, session).unit_rows

    def adapt(self, pretrained: Pretrained, session: Session) -> Pretrained:
        """Return the model with rows for the session, as `rows` infers them.

        The session's own row, and the readout of its first output, are means over the known
        sessions of its data set: the scale of the behaviour is theirs. Raises VocabError for a
        session that the model knows, and DataError as `rows` does.
        """
        pretrained, session = check_model(pretrained), one_session(session)
        if session.id in pretrained.sessions:
            raise VocabError(
                f"the model knows session {session.id!r} already. Decode it directly, or give the"
                " new session another id."
            )
        inferred = infer(self, pretrained, session)
        return with_guesses(pretrained, [session], [inferred])

    def save(self, path: str | Path) -> None:
        """Write a safetensors file. Raises PoyoError when it cannot be written."""
        names = {"model": self.model, "sessions": self.sessions, "units": self.units}
        arrays = {item.name: getattr(self.map, item.name) for item in fields(TuningMap)}
        content = save({"tuning": self.tuning, **arrays}, {ENTRY: json.dumps(names)})
        write_bytes(local_path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> "UnitEncoder":
        """Read what `save` wrote. Raises CheckpointError for any other file."""
        path = local_path(path)
        try:
            with safe_open(path, "numpy") as file:
                names = json.loads((file.metadata() or {})[ENTRY])
                tuning = file.get_tensor("tuning")
                arrays = {item.name: file.get_tensor(item.name) for item in fields(TuningMap)}
            sessions, units = tuple(names["sessions"]), tuple(names["units"])
            tuning_map = TuningMap(**arrays)
            tuning_map.check(len(tuning_map.origin))
            if tuning.shape != (len(units), len(tuning_map.mean)):
                raise ValueError(f"the tuning of {len(units)} units has the shape {tuning.shape}")
            return cls(names["model"], sessions, units, tuning, tuning_map)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read as a unit encoder ({error!r}). Give a file that"
                " UnitEncoder.save wrote."
            ) from error


def fit_unit_encoder(pretrained: Pretrained, sessions: Session | Sequence[Session]) -> UnitEncoder:
    """Learn to infer rows without labels, on the train splits of sessions that the model knows.

    This decodes each session once. Every unit that shares its id with units of other sessions of
    the data set is an example. The model does not change.

    Raises VocabError for a session that the model does not know, and DataError when no two sessions
    share unit ids within a data set, or when the first output of the model is not continuous.
    """
    pretrained, sessions = check_model(pretrained), session_list(sessions)
    known = known_units(pretrained, sessions)
    examples, guesses, row_changes = [], [], []
    table = np.asarray(pretrained.params[UNITS])
    for session in sessions:
        guess = same_units(pretrained, known, session)
        if session.id in known.sessions and guess.num_known.any():
            examples.append(session)
            guesses.append(guess)
            rows = table[pretrained.units.rows(session.unit_names)]
            row_changes.append(rows - guess.unit_rows)
    if not examples:
        raise DataError(
            "no two of the given sessions have units of the same ids in one data set, so there is"
            " nothing to learn a unit encoder from. Give several sessions of pretraining with the"
            " same electrodes."
        )
    tuning = _tuning_to_decoded(pretrained, examples, guesses)
    pairs = zip(tuning, guesses, strict=True)
    fitted = TuningMap.fit([now - guess.tuning for now, guess in pairs], row_changes)
    digest = _digest(pretrained, known.units.names)
    return UnitEncoder(digest, known.sessions, known.units.names, known.tuning, fitted)


def infer(encoder: UnitEncoder, pretrained: Pretrained, session: Session) -> Guess:
    """All that an encoder infers of a session. Raises DataError as `UnitEncoder.rows` does."""
    pretrained, session = check_model(pretrained), one_session(session)
    known_rows = all(name in pretrained.units for name in encoder.units)
    if not known_rows or _digest(pretrained, encoder.units) != encoder.model:
        raise DataError(
            "the unit encoder belongs to another model: its backbone, or the rows of the sessions"
            " that the encoder was learned on, are others. Learn one for this model with"
            " poyo_jax.finetune.fit_unit_encoder."
        )
    known = KnownUnits(encoder.sessions, Vocab(encoder.units), encoder.tuning)
    guess = same_units(pretrained, known, session)
    if not guess.num_known.any():
        raise DataError(
            f"none of the {len(session.unit_ids)} units of session {session.id} has the id of a"
            " unit of the same data set that the unit encoder knows, and it needs one or more to"
            " tell what is decoded. Label a part of the session, and call poyo_jax.fit_units."
        )
    [tuning] = _tuning_to_decoded(pretrained, [session], [guess])
    changes = encoder.map.rows(tuning - guess.tuning)
    return guess._replace(unit_rows=guess.unit_rows + changes)


def _tuning_to_decoded(
    pretrained: Pretrained, sessions: Sequence[Session], guesses: Sequence[Guess]
) -> list[Features]:
    """Tuning of the units to the behaviour that the model decodes with the guessed rows."""
    first = pretrained.config.model.all_outputs[0]
    blank = [_blank(session, first.num_channels) for session in sessions]
    asked = [guess._replace(readout=_readout_of(BLANK, guess)) for guess in guesses]
    guessed = with_guesses(pretrained, blank, asked)
    predictions = evaluate_outputs(guessed, blank, "train")[first.name].predictions
    tuning = []
    for session, guess in zip(blank, guesses, strict=True):
        prediction = predictions[session.id]
        decoded = session.with_behaviour(DECODED, prediction.times, prediction.values)
        readout = _readout_of(DECODED, guess)
        tuning.append(tuning_features(decoded, readout, decoded.split("train")))
    return tuning


def _readout_of(key: str, guess: Guess) -> Readout:
    """The guessed readout of another behaviour, whose samples all count."""
    return replace(guess.readout, value_key=key, interval_weights=(), eval_interval=None)


def _blank(session: Session, num_channels: int) -> Session:
    """The session with regular samples of zero, for the model to decode, and a train split."""
    train = session.split("train" if session.has_split("train") else "all")
    steps = [np.arange(start + 0.5 / RATE, end, 1 / RATE) for start, end in train]
    times = np.concatenate(steps)
    zeros = np.zeros((len(times), num_channels))
    return session.with_splits(train=list(train)).with_behaviour(BLANK, times, zeros)


def with_guesses(
    pretrained: Pretrained, sessions: Sequence[Session], guesses: Sequence[Guess]
) -> Pretrained:
    """The model with the guessed rows and readouts in place of those that it may have."""
    new_units = Vocab(name for session in sessions for name in session.unit_names)
    new_sessions = Vocab(session.id for session in sessions)
    units = pretrained.units.merge(new_units)
    known_sessions = pretrained.sessions.merge(new_sessions)
    unit_rows = np.concatenate([guess.unit_rows for guess in guesses])
    session_rows = np.stack([guess.session_row for guess in guesses])
    params = dict(pretrained.params)
    params[UNITS] = add_fitted_rows(params[UNITS], units, new_units, unit_rows)
    params[SESSIONS] = add_fitted_rows(params[SESSIONS], known_sessions, new_sessions, session_rows)
    given = zip(sessions, guesses, strict=True)
    readouts = {session.id: guess.readout for session, guess in given}
    return replace(
        pretrained,
        params=params,
        units=units,
        sessions=known_sessions,
        readouts={**pretrained.readouts, **readouts},
    )


def _digest(pretrained: Pretrained, units: Sequence[str]) -> str:
    """Digest of the backbone and of the rows of these units."""
    rows = np.asarray(pretrained.params[UNITS])[pretrained.units.rows(units)]
    return digest_of_arrays({BACKBONE: pretrained.params[BACKBONE], UNITS: jnp.asarray(rows)})
