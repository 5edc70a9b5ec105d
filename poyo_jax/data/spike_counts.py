"""Count the spikes of every unit in bins around given times."""

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError

Times = Float64[np.ndarray, " samples"]
Counts = Float32[np.ndarray, "samples features"]


def spike_counts(session: Session, times: ArrayLike, offsets: ArrayLike) -> Counts:
    """Count the spikes of each unit in bins around each of the `times` [samples] (s).

    The bins lie between the `offsets` [edges] (s). Bins of the same unit are adjacent in the
    result. Raises DataError for less than two offsets, or offsets that do not increase.
    """
    session = one_session(session)
    times, offsets = np.asarray(times, np.float64), np.asarray(offsets, np.float64)
    if len(offsets) < 2 or not (np.diff(offsets) > 0).all() or not np.isfinite(times).all():
        raise DataError(
            f"spikes are counted around {len(times)} times, in bins between {len(offsets)} offsets;"
            " give finite times, and two or more offsets that increase."
        )
    if not len(times):
        return np.zeros((0, len(session.unit_ids) * (len(offsets) - 1)), np.float32)
    num_units, num_bins = len(session.unit_ids), len(offsets) - 1
    start = times.min() + offsets[0]
    stop = times.max() + offsets[-1]
    spike_times, spike_units = session.spikes_between(start, stop)
    order = np.argsort(spike_units, kind="stable")
    bounds = np.searchsorted(spike_units[order], np.arange(num_units + 1))
    edges = times[:, None] + offsets  # [samples, edges]
    counts = np.empty((len(times), num_units, num_bins), np.float32)
    for unit in range(num_units):
        train = spike_times[order[bounds[unit] : bounds[unit + 1]]]
        before = np.searchsorted(train, edges)
        counts[:, unit] = np.diff(before, axis=1)
    return counts.reshape(len(times), num_units * num_bins)
