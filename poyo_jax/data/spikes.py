"""Spikes of a session: searches in their sorted times, and checks."""

import numpy as np

from poyo_jax.data.behaviour import check_times, count_before
from poyo_jax.data.io.lazy_arrays import ChunkedArray
from poyo_jax.errors import SessionError

SpikeArray = np.ndarray | ChunkedArray


def max_spikes(times: SpikeArray, window_length: float) -> int:
    """Bound the spikes in any window [start, start + window_length) from few spike times.

    Cells that are slightly longer than a window lie side by side, and a window touches at most two
    neighbouring cells.
    """
    if not len(times):
        return 0
    cell = window_length * (1 + 1e-9) + 1e-9
    num_edges = int((times[-1] - times[0]) / cell) + 3
    edges = times[0] + cell * np.arange(num_edges)
    before = count_before(times, edges)
    return int(np.max(before[2:] - before[:-2]))


def check_first_and_last(
    times: SpikeArray, units: SpikeArray, num_units: int, session: str
) -> None:
    """Raise SessionError when the lengths or the first and last spike are wrong."""
    if len(times) != len(units):
        raise SessionError(
            f"session {session} has {len(times)} spike times but {len(units)} spike units;"
            " every spike needs both. The file is damaged or was written wrongly."
        )
    ends = [0, -1] if len(times) else []
    check_times(np.asarray(times[ends]), f"{session}: first and last spike_times")
    for spike in ends:
        if not 0 <= units[spike] < num_units:
            raise _wrong_unit(spike % len(units), int(units[spike]), num_units, session)


def check_spikes(times: SpikeArray, units: SpikeArray, num_units: int, session: str) -> None:
    """Read all spikes. Raises SessionError for unsorted times or a unit that does not exist."""
    check_times(np.asarray(times), f"{session}: spike_times")
    units = np.asarray(units)
    wrong = (units < 0) | (units >= num_units)
    if wrong.any():
        spike = int(np.argmax(wrong))
        raise _wrong_unit(spike, int(units[spike]), num_units, session)


def _wrong_unit(spike: int, unit: int, num_units: int, session: str) -> SessionError:
    return SessionError(
        f"session {session}: spike {spike} belongs to unit {unit}, but there are {num_units} units;"
        f" it must be one of 0 ... {num_units - 1}."
    )
