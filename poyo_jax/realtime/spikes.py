"""Spikes that arrive: checks of their arrays, and the buffer that keeps them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32
from numpy.typing import ArrayLike

from poyo_jax.errors import DataError


@dataclass(frozen=True)
class Counts:
    """Numbers of spikes since the start or the last reset."""

    received: int = 0  #: that were pushed
    not_finite: int = 0  #: whose time is NaN or infinite; ignored
    unknown: int = 0  #: of units that the session does not have; ignored
    stale: int = 0  #: from before the start of the last window; no window needs them, so ignored
    late: int = 0  #: that arrived after a window which should have held them; later ones do
    overflow: int = 0  #: that left the full buffer before their time was over

    @property
    def dropped(self) -> int:
        """Spikes that were ignored or lost."""
        return self.not_finite + self.unknown + self.stale + self.overflow


class SpikeBuffer:
    """Spikes in the order of their arrival, at most `capacity`; the memory never grows."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._times = np.zeros(capacity)
        self._units = np.zeros(capacity, np.int32)
        self.count = 0

    def add(self, times: np.ndarray, units: np.ndarray) -> int:
        """Append spikes, and return how many of the oldest arrivals had to make room."""
        lost = max(0, self.count + len(times) - self.capacity)
        self._shift(min(lost, self.count))
        times, units = times[-self.capacity :], units[-self.capacity :]
        places = slice(self.count, self.count + len(times))
        self._times[places], self._units[places] = times, units
        self.count = places.stop
        return lost

    def forget_before(self, start: float, place: int) -> int:
        """Remove the spikes before `start` s, and return where the one at `place` is now."""
        times, units = self.since(0)
        kept = times >= start
        count = int(np.count_nonzero(kept))
        self._times[:count], self._units[:count] = times[kept], units[kept]
        self.count = count
        return int(np.count_nonzero(kept[:place]))

    def since(
        self, place: int
    ) -> tuple[Float64[np.ndarray, " spikes"], Int32[np.ndarray, " spikes"]]:
        """Return times in s and units of the spikes from a place on, as views."""
        return self._times[place : self.count], self._units[place : self.count]

    def _shift(self, count: int) -> None:
        left = self.count - count
        self._times[:left] = self._times[count : self.count]
        self._units[:left] = self._units[count : self.count]
        self.count = left


def number_array(values: ArrayLike, what: str, expected: str) -> np.ndarray:
    """Return the values as a 1-D array of integers or of float64.

    Raises DataError with `what` was given and what was `expected`.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of several lengths
        array = np.asarray(None)
    hidden = isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values)
    if array.dtype.kind not in "fiu" or array.ndim != 1 or hidden:
        kind = "masked values" if hidden else f"{array.dtype} of shape {array.shape}"
        raise DataError(f"the {what} are {kind}; pass a 1-D array of numbers: {expected}.")
    return array.astype(np.float64, copy=False) if array.dtype.kind == "f" else array
