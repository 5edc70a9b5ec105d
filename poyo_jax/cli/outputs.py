"""Outputs that a command line names: --decode cursor.vel reach.direction:classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, get_args

from poyo_jax.errors import ConfigError, DataError
from poyo_jax.types import Kind, Readout

if TYPE_CHECKING:
    from poyo_jax.data.session import Session


def readouts_of(sessions: Sequence["Session"], named: Sequence[str]) -> dict[str, list[Readout]]:
    """Readouts of the named behaviours that each session has, by session id; none if none is named.

    A name is "<series>.<column>", or with its kind "<series>.<column>:classes". Raises ConfigError
    for another kind, and DataError for a behaviour that no session has, or a session that has none
    of them.
    """
    kinds = dict(_key_and_kind(name) for name in named)
    readouts = {}
    for session in sessions if kinds else ():
        keys = [key for key in kinds if key in session.behaviour_keys]
        if not keys:
            raise DataError(
                f"session {session.id} has none of {', '.join(kinds)}, but"
                f" {', '.join(session.behaviour_keys) or 'no behaviour'}. Name one of these with"
                " --decode, or leave the session out."
            )
        readouts[session.id] = _measured(session, {key: kinds[key] for key in keys})
    found = {readout.value_key for given in readouts.values() for readout in given}
    for key in kinds:
        if key not in found:
            raise DataError(f"no session has the behaviour {key!r}. Correct --decode.")
    return readouts


def _key_and_kind(name: str) -> tuple[str, Kind | None]:
    key, _, kind = name.partition(":")
    if kind and kind not in get_args(Kind):
        raise ConfigError(
            f"--decode {name} names the kind {kind!r}; choose {', '.join(get_args(Kind))}."
        )
    return key, cast(Kind, kind) if kind else None


def _measured(session: "Session", kinds: dict[str, Kind | None]) -> list[Readout]:
    from poyo_jax import measure_readouts

    known: dict[str, Kind] = {key: kind for key, kind in kinds.items() if kind is not None}
    return measure_readouts(session, known, keys=list(kinds))
