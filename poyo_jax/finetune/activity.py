"""How units fire, without labels: `unit_activity`, `likeness`, `rate_agreement`.

A neuron keeps much of its rate from day to day, and of the company in which it fires. Units that
are alike in both, and have the id of one electrode, are likely the same neuron.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from poyo_jax.data.given import one_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.data.spike_counts import spike_counts
from poyo_jax.errors import DataError

BIN = 0.1  # s, of the counts
MAX_BINS = 20_000  # of a session, spread evenly
SILENT = 0.1  # spikes per second, which log rates add
MIN_SHARED = 3  # units, for a comparison of their rates
# Chosen on pretraining sessions of one monkey, whose rows were hidden.
RATE_SCALE = 0.5  # of log rates, at which likeness has fallen to exp(-1/2)
COACTIVITY_SCALE = 0.1  # of the cosine of coactivities, at which likeness grows by e


class Activity(NamedTuple):
    """How the units of a session fire."""

    unit_ids: tuple[str, ...]
    log_rates: Float64[np.ndarray, " units"]
    coactivity: Float32[np.ndarray, "units units"]
    """Correlation of counts, of SD 1 over the units in each column, and 0 with a unit itself."""


def unit_activity(session: Session) -> Activity:
    """The rates of a session's units, and which of them fire together, over its domain."""
    session = one_session(session)
    centres = [np.arange(start + BIN / 2, end, BIN) for start, end in session.domain]
    times = np.concatenate(centres)
    chosen = np.linspace(0, len(times) - 1, min(len(times), MAX_BINS)).astype(int)
    counts = spike_counts(session, times[chosen], np.array([-BIN / 2, BIN / 2]))
    return Activity(session.unit_ids, _log_rates(session), _coactivity(np.sqrt(counts)))


def _coactivity(counts: Float32[np.ndarray, "bins units"]) -> Float32[np.ndarray, "units units"]:
    counts = (counts - counts.mean(axis=0)) / (counts.std(axis=0) + 1e-6)
    correlations = counts.T @ counts / len(counts)
    if len(correlations) == 1:
        return np.zeros((1, 1), np.float32)  # it has no company
    others = ~np.eye(len(correlations), dtype=bool)
    mean = correlations.mean(axis=0, where=others, keepdims=True)
    spread = correlations.std(axis=0, where=others, keepdims=True)
    return np.where(others, (correlations - mean) / (spread + 1e-6), 0).astype(np.float32)


def likeness(new: Activity, known: Activity) -> dict[str, float]:
    """How alike units of the same ids fire in two sessions, by id: weights above 0.

    A weight falls with the difference of the log rates, and grows with the cosine of the
    coactivities with the units that both sessions have. That of a silent unit for one of 1000 Hz in
    opposite company is about 1e-78, which still counts where there is no other.
    """
    places = {unit: place for place, unit in enumerate(known.unit_ids)}
    shared = [unit for unit in new.unit_ids if unit in places]
    theirs = [places[unit] for unit in shared]
    ours = [place for place, unit in enumerate(new.unit_ids) if unit in places]
    one, other = new.coactivity[np.ix_(ours, ours)], known.coactivity[np.ix_(theirs, theirs)]
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / (norms + 1e-9)
    gaps = new.log_rates[ours] - known.log_rates[theirs]
    weights = np.exp(cosines / COACTIVITY_SCALE - (gaps / RATE_SCALE) ** 2 / 2)
    return dict(zip(shared, weights.tolist(), strict=True))


def rate_agreement(session: Session, earlier: Sequence[Session]) -> float:
    """Correlation of the units' log rates with those that their ids had in earlier sessions.

    It needs no labels. Compare it with that of other days before you trust mean rows: where ids
    name other electrodes than they did, as behind a connector that was turned round, it is lower
    than on every day before. Rates are in spikes per second of the domain. Of several earlier
    sessions the mean log rate counts.

    Raises DataError when fewer than three units have the id of a unit of an earlier session, and
    when their rates do not differ.
    """
    known: dict[str, list[float]] = {}
    for other in session_list(earlier):
        for unit, rate in _rates_by_id(other).items():
            known.setdefault(unit, []).append(rate)
    own = _rates_by_id(one_session(session))
    shared = {unit: rate for unit, rate in own.items() if unit in known}
    if len(shared) < MIN_SHARED:
        raise DataError(
            f"{len(shared)} of {len(session.unit_ids)} units of session {session.id} have the id of"
            f" a unit of the earlier sessions, but rates are compared over {MIN_SHARED} or more."
            " Give sessions of the same array."
        )
    rates, means = list(shared.values()), [np.mean(known[unit]) for unit in shared]
    if np.ptp(rates) == 0 or np.ptp(means) == 0:
        raise DataError(
            f"all {len(shared)} units of session {session.id} that earlier sessions have fire at"
            " one rate, on that day or before, so rates tell nothing about their ids."
        )
    return float(np.corrcoef(rates, means)[0, 1])


def _rates_by_id(session: Session) -> dict[str, float]:
    return dict(zip(session.unit_ids, _log_rates(session).tolist(), strict=True))


def _log_rates(session: Session) -> Float64[np.ndarray, " units"]:
    """Log of the spikes per second of every unit, over the domain."""
    counts = np.zeros(len(session.unit_ids))
    for start, end in session.domain:
        _, units = session.spikes_between(start, end)
        counts += np.bincount(units, minlength=len(counts))
    return np.log(counts / session.domain.duration + SILENT)
