"""Sessions made of others: with other spikes, or cut short."""

from collections.abc import Sequence

import numpy as np

from poyo_jax import Session


def with_spikes(
    session: Session, times: np.ndarray, units: np.ndarray, unit_ids: Sequence[str]
) -> Session:
    """The session with other units and spikes, in any order."""
    from poyo_jax.data.readout import default_readout

    name = default_readout(session).value_key
    behaviour = session.behaviour(name)
    order = np.argsort(times, kind="stable")
    return Session.from_arrays(
        np.asarray(times)[order],
        np.asarray(units)[order],
        unit_ids,
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        target_key=name,
        domain=list(session.domain),
        train=list(session.split("train")),
        valid=list(session.split("valid")),
        test=list(session.split("test")),
    )


def beginning(session: Session, seconds: float) -> Session:
    """The first seconds of the session, as one that ends then."""
    from poyo_jax.data.readout import default_readout

    name = default_readout(session).value_key
    behaviour = session.behaviour(name)
    start = float(session.domain.starts[0])
    times, units = session.spikes_between(start, start + seconds)
    sampled = behaviour.times_at(np.arange(behaviour.count))
    count = int(np.searchsorted(sampled, start + seconds))
    return Session.from_arrays(
        times,
        units,
        list(session.unit_ids),
        sampled[:count],
        behaviour.values(0, count),
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        target_key=name,
        domain=[(start, start + seconds)],
    )
