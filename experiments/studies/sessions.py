"""Sessions made of others: with other spikes, or cut short."""

from collections.abc import Sequence

import numpy as np

from poyo_jax import Session


def with_spikes(
    session: Session, times: np.ndarray, units: np.ndarray, unit_ids: Sequence[str]
) -> Session:
    """The session with other units and spikes, in any order."""
    order = np.argsort(times, kind="stable")
    times, units = np.asarray(times)[order], np.asarray(units)[order]
    whole = list(session.domain)
    splits = {name: list(session.split(name)) for name in ("train", "valid", "test")}
    named = {}
    for name in session.interval_names:
        if not name.endswith("domain"):
            table = session.table(name)
            named[name] = list(zip(table["start"], table["end"], strict=True))
    return _with(session, times, units, unit_ids, domain=whole, intervals=named, **splits)


def beginning(session: Session, seconds: float) -> Session:
    """The first seconds of the session, as one that ends then."""
    start = float(session.domain.starts[0])
    part = start, start + seconds
    return _with(session, *session.spikes_between(*part), session.unit_ids, domain=[part])


def _with(
    session: Session, times: np.ndarray, units: np.ndarray, unit_ids: Sequence[str], **intervals
) -> Session:
    """The session with these spikes and intervals, and its behaviour up to the domain's end."""
    from poyo_jax.data.readout import default_readout

    name = default_readout(session).value_key
    behaviour = session.behaviour(name)
    sampled = behaviour.times_at(np.arange(behaviour.count))
    count = int(np.searchsorted(sampled, intervals["domain"][-1][1]))
    return Session.from_arrays(
        times,
        units,
        list(unit_ids),
        sampled[:count],
        behaviour.values(0, count),
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        target_key=name,
        **intervals,
    )
