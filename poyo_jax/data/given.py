"""Take the sessions and readouts that a caller gives: one or several sessions, opened."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, suggest
from poyo_jax.types import Readout, Readouts, one_or_several


def session_list(given: object) -> list[Session]:
    """Return the given sessions as a list; one session alone is allowed.

    Raises DataError for anything else, such as the path of a file.
    """
    if isinstance(given, Session):
        return [given]
    if isinstance(given, str | bytes | PathLike) or not isinstance(given, Iterable):
        raise _no_session(given)
    sessions: list[Any] = list(given)
    for session in sessions:
        if not isinstance(session, Session):
            raise _no_session(session)
    return sessions


def one_session(given: object) -> Session:
    """Return the given session; a list of one session is allowed.

    Raises DataError for anything else, such as the path of a file.
    """
    sessions = session_list(given)
    if len(sessions) != 1:
        raise DataError(
            f"one session is needed, but got {len(sessions)}. Give one of them, and call once for"
            " each."
        )
    return sessions[0]


def readouts_by_session(given: object) -> dict[str, Readouts]:
    """Return the given readouts by session id, one or several of each; None stands for none.

    Raises DataError for anything else, such as a readout without a session.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DataError(
            f"readouts are given by session id, but got a {type(given).__name__}. Give a"
            " dictionary: {session.id: readout}."
        )
    return {name: _one_or_several(readouts) for name, readouts in given.items()}


def _one_or_several(given: object) -> Readouts:
    if not isinstance(given, list | tuple) or not given:
        return one_readout(given)
    return one_or_several([one_readout(readout) for readout in given])


def one_readout(given: object) -> Readout:
    """Return the given readout. Raises DataError for anything else, such as a key."""
    if isinstance(given, Readout):
        return given
    raise DataError(
        f"a readout is needed, but got {repr(given)[:80]}, of type {type(given).__name__}. Make one"
        " with poyo_jax.Readout(value_key=..., mean=..., std=...), or leave it out."
    )


def check_ids(sessions: Sequence[Session], given: Iterable[str], thing: str) -> None:
    """Check that the ids for which there is a `thing` are those of sessions.

    Raises DataError if not.
    """
    names = [session.id for session in sessions]
    for name in given:
        if name not in names:
            raise DataError(
                f"there is {thing} for session {name!r}, which is none of the {len(names)}"
                f" sessions.{suggest(name, names)} Give the ids of sessions."
            )


def check_length(session: Session, window_length: float) -> None:
    """Check that a window fits into the recording.

    Raises DataError if the domain is shorter: a score of its few samples would mean nothing.
    """
    seconds = session.domain.duration
    if seconds < window_length - 1e-9:
        raise DataError(
            f"session {session.id} has {seconds:g} s, less than a window of {window_length:g} s."
            " Record more, or leave it out."
        )


def check_spikes(session: Session) -> None:
    """Raise DataError for a session without any spike in its train split."""
    if not any(session.count_spikes(start, end) for start, end in session.split("train")):
        raise DataError(
            f"session {session.id} has no spike in its train split. Look whether spikes and"
            " behaviour are times of the same clock."
        )


def _no_session(given: object) -> DataError:
    kind = type(given).__name__
    if isinstance(given, str | bytes | PathLike):
        return DataError(
            f"a session is needed, but got {str(given)!r}, of type {kind}. Open the file first:"
            " poyo_jax.Session.open(path), or poyo_jax.open_sessions(folder)."
        )
    shown = repr(given)[:80]
    return DataError(
        f"a session is needed, but got {shown}, of type {kind}. Make one with"
        " poyo_jax.Session.open or poyo_jax.Session.from_arrays, and check the order of the"
        " arguments."
    )
