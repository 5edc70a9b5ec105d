"""Repair of recordings whose clock was reset.

Blocks of trials are placed one after the other, a minute apart.
"""

from dataclasses import dataclass

import numpy as np

PAUSE = 60.0  # seconds between two blocks


@dataclass(frozen=True, eq=False)
class Clock:
    """Blocks of a recording between resets of its clock.

    Times of block b lie in [starts[b], ends[b]] of the raw clock and are moved by shifts[b].
    `skipped` is the raw (start, end) of two trials that overlap and were removed, if there were
    any.
    """

    starts: np.ndarray
    ends: np.ndarray
    shifts: np.ndarray
    skipped: tuple[float, float] | None

    @property
    def num_blocks(self) -> int:
        return len(self.starts)

    @property
    def was_reset(self) -> bool:
        """True when there is something to repair."""
        return self.num_blocks > 1 or self.skipped is not None

    def encloses(self, pieces: list[np.ndarray]) -> bool:
        """True when every piece of sorted time stamps lies within its block.

        The pieces are in the order of the blocks.
        """
        return len(pieces) <= self.num_blocks and all(
            not len(piece) or (start <= piece[0] and piece[-1] <= end)
            for piece, start, end in zip(pieces, self.starts, self.ends, strict=False)
        )

    def join(self, pieces: list[np.ndarray]) -> np.ndarray:
        """The pieces, one per block, on the repaired clock."""
        moved = [piece + shift for piece, shift in zip(pieces, self.shifts, strict=False)]
        return np.concatenate(moved) if moved else np.zeros(0)


def read_clock(
    starts: np.ndarray, ends: np.ndarray, *, overlapping: bool
) -> tuple[Clock, np.ndarray, np.ndarray]:
    """Find the blocks in the trials of a recording, whose times go back at each reset.

    With `overlapping` the first time that a trial begins before its predecessor ended is no reset:
    both are removed.

    Returns the clock, a mask of the trials to keep [trials], and the block of every kept trial.
    """
    breaks = np.flatnonzero(starts[1:] < ends[:-1])
    kept, skipped = np.ones(len(starts), bool), None
    if overlapping and len(breaks):
        first = breaks[0]
        skipped = (float(starts[first]), float(ends[first + 1]))
        kept[first : first + 2] = False
        breaks = breaks[1:] - 2
    starts, ends = starts[kept], ends[kept]
    firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(starts) - 1)
    old_starts, old_ends = starts[firsts], ends[lasts]
    lengths = old_ends - old_starts
    new_starts = old_starts[0] + np.append(0.0, np.cumsum(lengths[:-1] + PAUSE))
    blocks = np.searchsorted(firsts, np.arange(len(starts)), side="right") - 1
    return Clock(old_starts, old_ends, new_starts - old_starts, skipped), kept, blocks


def falls(times: np.ndarray) -> np.ndarray:
    """Indices of the samples after which time goes back."""
    return np.flatnonzero(np.diff(times) < 0)


def pieces_between(values: np.ndarray, falls: np.ndarray) -> list[np.ndarray]:
    """Cut after every one of these indices."""
    return np.split(values, falls + 1)


def outside(times: np.ndarray, skipped: tuple[float, float] | None, stop: int) -> np.ndarray:
    """Mask of the time stamps to keep.

    Drops those in the skipped span (both ends included) that stand before index `stop`.
    """
    if skipped is None:
        return np.ones(len(times), bool)
    inside = (skipped[0] <= times) & (times <= skipped[1])
    return ~(inside & (np.arange(len(times)) < stop))
