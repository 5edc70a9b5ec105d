"""A session with other labels, to see what depends on them."""

import numpy as np

from poyo_jax import Session

KEY = "cursor.vel"
SPLITS = ("train", "valid", "test")


def labels_of(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Times [samples] in s and values [samples, channels] of the behaviour of a session."""
    behaviour = session.behaviour(KEY)
    return behaviour.times_at(np.arange(behaviour.count)), behaviour.values(0, behaviour.count)


def with_labels(session: Session, values: np.ndarray) -> Session:
    """The session with these values of its behaviour; ids, spikes and splits are the same."""
    return Session.from_arrays(
        session.spike_times,
        session.spike_units,
        list(session.unit_ids),
        labels_of(session)[0],
        values,
        target_key=KEY,
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        domain=session.domain,
        **{name: session.split(name) for name in SPLITS},
    )
