"""Readout of a session: the behaviour that is decoded, its scale, and the weights of its times."""

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from poyo_jax.data import datasets
from poyo_jax.data.given import one_session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.plausible import usual_key
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, SessionError
from poyo_jax.types import Readout


def known_readout(brainset_id: str | None, session_id: str) -> Readout | None:
    """Return the readout of POYO for a session of its data sets, None for other data sets."""
    data_set = datasets.find(brainset_id)
    return None if data_set is None else data_set.readout(session_id)


def default_readout(session: Session, intervals: Intervals | None = None) -> Readout:
    """Choose the readout of a session.

    Sessions of the data sets of POYO have a known readout. For other sessions it is cursor.vel,
    hand.vel or the only behaviour, scaled by the mean and standard deviation of its finite samples
    inside `intervals`, by default the train and valid splits.

    Raises:
        SessionError: several behaviours could be decoded, or the session lacks a behaviour or
            intervals that its readout names.
        DataError: there is no finite sample.
    """
    session = one_session(session)
    readout = known_readout(session.brainset_id, session.session_id)
    if readout is None:
        return _measured_readout(session, intervals)
    _check_names(session, readout)
    return readout


def _check_names(session: Session, readout: Readout) -> None:
    """Raise SessionError when the session lacks a name that the readout uses."""
    session.behaviour(readout.value_key)
    for name, _ in readout.interval_weights:
        session.intervals(name)
    if readout.eval_interval is not None:
        session.intervals(readout.eval_interval)


def _measured_readout(session: Session, intervals: Intervals | None) -> Readout:
    """Scale the session's only or usual behaviour by its samples inside the intervals."""
    value_key = _usual_key(session)
    behaviour = session.behaviour(value_key)
    intervals = _seen_in_training(session) if intervals is None else intervals
    pieces = [behaviour.values(*behaviour.range(start, stop)) for start, stop in intervals]
    samples = np.concatenate(pieces)  # [samples, channels]
    samples = samples[np.isfinite(samples).all(axis=1)]
    if not len(samples):
        raise DataError(
            f"{value_key} of session {session.id} has no finite sample to train on; "
            "pass a Readout or drop the session."
        )
    std = samples.std(axis=0)
    std[std == 0] = 1.0  # a channel that never changes is only centred
    return Readout(value_key=value_key, mean=tuple(samples.mean(axis=0)), std=tuple(std))


def _seen_in_training(session: Session) -> Intervals:
    """The train split and, if there is one, the valid split: all but what is tested on."""
    train = session.split("train")
    return train.union(session.split("valid")) if session.has_split("valid") else train


def _usual_key(session: Session) -> str:
    """Return cursor.vel, hand.vel, or the only behaviour of the session."""
    keys = session.behaviour_keys
    key = usual_key(keys)
    if key is not None:
        return key
    raise SessionError(
        f"session {session.id} has neither cursor.vel nor hand.vel but"
        f" {', '.join(keys) or 'no behaviour'}; pass a Readout that names what to decode."
    )


def sample_weights(
    session: Session, readout: Readout, times: ArrayLike
) -> Float32[np.ndarray, " times"]:
    """Return the loss weights of targets at `times` [times], in seconds of session time.

    A weight is the product of the weights of the listed intervals with start <= time < end. Raises
    SessionError when the session lacks a listed interval.
    """
    weights = np.ones(np.shape(times), np.float32)
    for name, weight in readout.interval_weights:
        weights[session.intervals(name).contains(times)] *= np.float32(weight)
    return weights
