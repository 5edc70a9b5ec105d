"""Spikes from binned counts: they are spread evenly over their bins."""

from typing import Any

import numpy as np

from poyo_jax.data.importers.spike_forms import unit_names
from poyo_jax.data.numbers import ticks_per_second, to_numbers
from poyo_jax.errors import SessionError

MOST = 1000  # spikes of one unit in one bin


def spikes_of_counts(
    counts: Any, bin_size: float, unit_ids: Any, time_unit: str
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Return spike times [spikes] in s, their units, the units' names, and the middle of each bin.

    `Session.from_counts` describes the arguments and the errors.
    """
    table = _checked_counts(counts)
    bin_size = _checked_size(bin_size) / ticks_per_second(time_unit, None)
    num_bins, num_units = table.shape
    names = [f"unit_{number}" for number in range(num_units)]
    if unit_ids is not None:
        names = unit_names(unit_ids)
    if len(names) != num_units:
        raise SessionError(
            f"counts has {num_units} columns, but unit_ids {len(names)} names; pass counts [bins,"
            " units] and one name per unit."
        )
    bins, units = np.nonzero(table)
    in_bin = table[bins, units].astype(np.int64)
    first = np.cumsum(in_bin) - in_bin
    number = np.arange(in_bin.sum()) - np.repeat(first, in_bin)
    within = (number + 0.5) / np.repeat(in_bin, in_bin)
    times = (np.repeat(bins, in_bin) + within) * bin_size
    order = np.argsort(times, kind="stable")
    middles = (np.arange(num_bins) + 0.5) * bin_size
    return times[order], np.repeat(units, in_bin)[order], names, middles


def _checked_size(bin_size: Any) -> float:
    size = to_numbers(bin_size, "bin_size", (0,))
    if not (np.isfinite(size) and size > 0):
        raise SessionError(f"bin_size is {bin_size!r}; pass the length of a bin, above zero.")
    return float(size)


def _checked_counts(counts: Any) -> np.ndarray:
    table = to_numbers(counts, "counts", (2, 3))
    if table.ndim == 3:
        raise SessionError(
            f"counts has shape {table.shape}; pass one trial after the other, [bins, units], with"
            " intervals={'trials': ...}, or the spike times of the trials to Session.from_trials."
        )
    if not table.size:
        raise SessionError(f"counts has shape {table.shape}; pass counts [bins, units].")
    whole = np.isfinite(table) & (table >= 0) & (table == np.floor(table)) & (table <= MOST)
    if not whole.all():
        row, column = np.argwhere(~whole)[0].tolist()
        raise SessionError(
            f"counts[{row}, {column}] is {table[row, column]:g}; pass the number of spikes in each"
            f" bin, whole numbers from 0 to {MOST}, neither rates nor smoothed counts."
        )
    return table
