"""The repair of a reset clock, written once more, step by step and slowly, from its description."""

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

PAUSE = 60.0
COLUMNS = {
    "start": "start_time",
    "end": "stop_time",
    "target_on_time": "target_presentation_time",
    "go_cue_time": "go_cue_time",
    "move_begins_time": "move_begins_time",
    "move_ends_time": "move_ends_time",
}


def cut_at_falls(times: list[float]) -> list[list[float]]:
    """Pieces within which time does not go back."""
    pieces = [[times[0]]] if times else [[]]
    for before, time in pairwise(times):
        if time < before:
            pieces.append([])
        pieces[-1].append(time)
    return pieces


class Repaired:
    """What a Churchland recording should become; `special` ones begin with two trials that
    overlap.
    """

    def __init__(self, path: Path, *, special: bool) -> None:
        with h5py.File(path) as file:
            columns = {
                name: file[f"intervals/trials/{raw}"][()].tolist() for name, raw in COLUMNS.items()
            }
            samples = file["processing/behavior/Position/Cursor/timestamps"][()].tolist()
            ends = file["units/spike_times_index"][()].astype(int)
            units = [unit.tolist() for unit in np.split(file["units/spike_times"][()], ends[:-1])]
        self._find_blocks(columns["start"], columns["end"], special)
        self.columns = {name: self._trial_times(values) for name, values in columns.items()}
        self.samples = self._sample_times(samples)
        self.units = [self._spike_times(unit) for unit in units]

    def _find_blocks(self, starts: list[float], ends: list[float], special: bool) -> None:
        breaks = [k for k in range(len(starts) - 1) if starts[k + 1] < ends[k]]
        self.has_breaks = bool(breaks)
        self.rows, self.skip = list(range(len(starts))), None
        if special and breaks:
            first = breaks[0]
            self.skip = starts[first], ends[first + 1]
            self.rows = [row for row in self.rows if row not in (first, first + 1)]
            breaks = [k - 2 for k in breaks[1:]]
        self.block_of = [sum(k < position for k in breaks) for position in range(len(self.rows))]
        self.old, self.new = [], []
        for block in range(len(breaks) + 1):
            rows = [row for row, of in zip(self.rows, self.block_of, strict=True) if of == block]
            old_start, old_end = starts[rows[0]], ends[rows[-1]]
            new_start = self.new[-1][1] + PAUSE if self.new else old_start
            self.old.append((old_start, old_end))
            self.new.append((new_start, old_end - old_start + new_start))

    def shift(self, block: int) -> float:
        return self.new[block][0] - self.old[block][0]

    def fits(self, pieces: list[list[float]]) -> bool:
        bounds = zip(pieces, self.old, strict=False)
        return all(start <= time <= end for piece, (start, end) in bounds for time in piece)

    def shifted(self, pieces: list[list[float]]) -> list[float]:
        return [time + self.shift(block) for block, piece in enumerate(pieces) for time in piece]

    def _trial_times(self, values: list[float]) -> list[float]:
        return [
            values[row] + self.shift(block)
            for row, block in zip(self.rows, self.block_of, strict=True)
        ]

    def _sample_times(self, times: list[float]) -> list[float]:
        if self.skip:
            falls = [k for k in range(len(times) - 1) if times[k + 1] < times[k]]
            stop = falls[0] - 1 if falls else len(times)
            times = [
                t
                for k, t in enumerate(times)
                if not (k < stop and self.skip[0] <= t <= self.skip[1])
            ]
        pieces = cut_at_falls(times)
        assert len(pieces) == len(self.old), "the generated recording cannot be repaired"
        return self.shifted(pieces)

    def _spike_times(self, times: list[float]) -> list[float] | None:
        """None for a unit that is dropped."""
        pieces = cut_at_falls(times)
        if not self.has_breaks:
            return times if len(pieces) == 1 else None
        if self.skip and len(pieces) > 1:
            last = len(pieces[0]) - 1
            times = [
                t
                for k, t in enumerate(times)
                if not (k <= last and self.skip[0] <= t <= self.skip[1])
            ]
            pieces = cut_at_falls(times)
        if len(pieces) > len(self.old) or not self.fits(pieces):
            return None
        return self.shifted(pieces)
