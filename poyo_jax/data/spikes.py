"""Spikes of a session: searches in their sorted times, and checks."""

import numpy as np

from poyo_jax.data.behaviour import SortedTimes, check_times, count_before
from poyo_jax.data.io.lazy_arrays import ChunkedArray
from poyo_jax.errors import SessionError

SpikeArray = np.ndarray | ChunkedArray
FEW_CELLS = 1 << 16


def max_spikes(times: SpikeArray, window_length: float) -> int:
    """Bound the spikes in any window [start, start + window_length) from few spike times.

    Cells that are slightly longer than a window lie side by side, and a window touches at most two
    neighbouring cells. If there are more cells than spikes, all spike times are read.
    """
    if not len(times):
        return 0
    cell = window_length * (1 + 1e-9) + 1e-9
    num_cells = (float(times[-1]) - float(times[0])) / cell
    if not num_cells < len(times) + FEW_CELLS:
        times = np.asarray(times)
        stops = times.searchsorted(times + cell)
        return int(np.max(stops - np.arange(len(times))))
    edges = times[0] + cell * np.arange(int(num_cells) + 3)
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


class Spikes(SortedTimes):
    """Sorted spikes; each block is checked before it is used: its times, and that its units exist.

    Raises SessionError otherwise.
    """

    def __init__(self, times: SpikeArray, units: SpikeArray, num_units: int, session: str):
        super().__init__(times, f"{session}: spike_times")
        self.units, self.num_units, self.session = units, num_units, session

    def _check_block(self, first: int, end: int) -> None:
        super()._check_block(first, end)
        units = np.asarray(self.units[first:end])
        wrong = (units < 0) | (units >= self.num_units)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise _wrong_unit(first + row, int(units[row]), self.num_units, self.session)


def _wrong_unit(spike: int, unit: int, num_units: int, session: str) -> SessionError:
    return SessionError(
        f"session {session}: spike {spike} belongs to unit {unit}, but there are {num_units} units;"
        f" it must be one of 0 ... {num_units - 1}."
    )
