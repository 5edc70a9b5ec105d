"""Spike counts at every tick of an even grid on which the samples of a behaviour lie.

A bin that ends at a tick spans a whole number of tick intervals, so that the bins of a sample end
exactly at its time at any sampling rate, and the bins before it are rows of the same array.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt16

from poyo_jax.baselines.samples import Samples

MARGIN = 2.5  # s, at least, before the first and after the last sample whose spikes are counted too

Rows = Int[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Spike counts at ticks `interval` seconds apart.

    A sample between two ticks, as irregular time stamps give, belongs to the tick before it. Where
    nothing was recorded, all counts are 0.
    """

    interval: float  # s
    counts: UInt16[np.ndarray, "ticks units"]  # spikes in the interval that ends at the tick
    rows: Rows  # tick of every sample [samples]

    @classmethod
    def of(cls, samples: Samples, reach: float = 0.0) -> "Grid":
        """The grid of the behaviour's median sampling interval.

        A search looks at ticks up to `reach` s before and after a sample.
        """
        times, interval = samples.times, samples.interval
        margin = int(np.ceil(max(reach, MARGIN) / interval))
        steps = (times - times[0]) / interval
        rows = margin + np.floor(steps + 1e-3).astype(np.int64)
        size = int(rows[-1]) + margin + 1
        start = times[0] - (margin + 1) * interval  # where the interval of the first tick starts
        spike_times, spike_units = samples.session.spikes_between(start, start + size * interval)
        steps = (spike_times - start) / interval
        ticks = np.floor(steps + 1e-9).astype(np.int64)
        ticks = np.minimum(ticks, size - 1)
        num_units = len(samples.session.unit_ids)
        counts = np.zeros((size, num_units), np.uint16)
        np.add.at(counts, (ticks, spike_units), 1)
        return cls(interval, counts, rows)

    def place(
        self, samples: Samples
    ) -> tuple[Float32[np.ndarray, "ticks channels"], Float32[np.ndarray, " ticks"]]:
        """Normalised targets of the train split (NaN elsewhere) and their weights (0 elsewhere)."""
        train, readout = samples.masks["train"], samples.readout
        size = len(self.counts)
        targets = np.full((size, len(readout.mean)), np.nan, np.float32)
        weights = np.zeros(size, np.float32)
        rows = self.rows[train]
        centred = samples.targets[train] - np.array(readout.mean)
        targets[rows] = centred / np.array(readout.std)
        weights[rows] = samples.weights()
        return targets, weights

    def binned(self, ticks: int) -> UInt16[np.ndarray, "ticks units"]:
        """Counts in the bin of `ticks` ticks that ends at each tick; the first bins are shorter."""
        total = self.counts.copy()
        for shift in range(1, ticks):
            total[shift:] += self.counts[:-shift]
        return total
