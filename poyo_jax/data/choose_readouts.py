"""Choose the readout of every session, and check that the session has what it names."""

from collections.abc import Mapping, Sequence

from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, suggest
from poyo_jax.types import Readout


def choose_readouts(
    sessions: Sequence[Session], given: Mapping[str, Readout], num_channels: int
) -> dict[str, Readout]:
    """Choose the readout of each session, by session id: the given one, else the default one.

    `check_readout` checks each of them.

    Raises DataError for a given readout of a session that is not there.
    """
    names = [session.id for session in sessions]
    for name in given:
        if name not in names:
            raise DataError(
                f"there is a readout for session {name!r}, which is none of the {len(names)}"
                f" sessions.{suggest(name, names)} Readouts are given by session id."
            )
    readouts = {
        session.id: given.get(session.id) or default_readout(session) for session in sessions
    }
    for session in sessions:
        check_readout(session, readouts[session.id], num_channels)
    return readouts


def check_readout(session: Session, readout: Readout, num_channels: int) -> None:
    """Check that a session has the behaviour, intervals and channels that its readout names.

    Raises SessionError when the behaviour or an interval is missing, and DataError when the number
    of channels differs from that of the readout or from `num_channels`.
    """
    measured, decoded = session.behaviour(readout.value_key).num_channels, len(readout.mean)
    for name in (*dict(readout.interval_weights), *filter(None, [readout.eval_interval])):
        session.intervals(name)
    if decoded != measured:
        raise DataError(
            f"the readout of session {session.id} has means for {decoded} channels, but"
            f" {readout.value_key} has {measured}. Give one mean and std for every channel."
        )
    if decoded != num_channels:
        raise DataError(
            f"the behaviour {readout.value_key} of session {session.id} has {decoded} channels, but"
            f" the model decodes {num_channels}. Choose another readout for it, or a model with"
            f" num_channels={decoded}."
        )
