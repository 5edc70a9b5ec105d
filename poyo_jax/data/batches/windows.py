"""Start times of windows, as pure functions of their arguments.

Times are session time in float64 seconds.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from poyo_jax.checks import POSITIVE, check_number
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import DataError


class RandomWindows:
    """Endless sequence of shuffled random windows of several sessions.

    Epoch e holds floor(length / window_length) windows of every interval, side by side from a
    random offset. If the offset costs a window, one is added at the end or at the start of the
    interval, whichever is farther from the other windows (`RandomFixedWindowSampler` of
    torch_brain). Intervals shorter than a window are dropped. With `widen` they get one window that
    reaches over one end or both, inside the session's domain where that is possible: a model that
    decodes online meets trials that have just begun.
    """

    def __init__(
        self,
        intervals: Sequence[Intervals],
        domains: Sequence[Intervals],
        window_length: float,
        seed: int,
        *,
        widen: bool,
    ):
        """Take `intervals` and `domains` of every session. Raises DataError if no window fits."""
        check_number("window_length", window_length, POSITIVE)
        self.intervals = intervals
        self._domains = domains
        self.window_length = window_length
        self.seed = seed
        counts = [len(of_session) for of_session in intervals]
        sessions = np.repeat(np.arange(len(counts)), counts)
        starts = np.concatenate([of_session.starts for of_session in intervals])
        ends = np.concatenate([of_session.ends for of_session in intervals])
        lengths = ends - starts
        fits = np.floor(lengths / window_length).astype(np.int64)
        fits = np.maximum(fits, 1) if widen else fits
        if not fits.sum():
            raise DataError(
                f"none of the {len(starts)} intervals to draw windows from is as long as a window, "
                f"{window_length} s. Choose a shorter window, or short_intervals='widen'."
            )
        used = fits > 0
        self.left_out = sorted({*range(len(counts))} - set(sessions[used].tolist()))
        """Positions of the sessions that have no window."""
        self._table = (sessions[used], starts[used], ends[used], fits[used])
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # the last two that were drawn

    @property
    def epoch_size(self) -> int:
        """Number of windows of one epoch."""
        return int(self._table[3].sum())

    def at(
        self, numbers: Int[np.ndarray, " windows"]
    ) -> tuple[Int[np.ndarray, " windows"], Float64[np.ndarray, " windows"]]:
        """Return session positions and starts of windows, numbered from 0 through all epochs."""
        epochs, places = np.divmod(np.asarray(numbers, np.int64), self.epoch_size)
        sessions = np.empty(len(epochs), np.int64)
        starts = np.empty(len(epochs))
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows = places[here]
            epoch_sessions, epoch_starts = self._epoch(int(epoch))
            sessions[here] = epoch_sessions[rows]
            starts[here] = epoch_starts[rows]
        return sessions, starts

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return session positions and starts of all windows of an epoch."""
        if epoch not in self._epochs:
            kept = list(self._epochs.items())[-1:]
            self._epochs = dict([*kept, (epoch, self._draw_epoch(epoch))])
        return self._epochs[epoch]

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        sessions, starts, ends, fits = self._table
        rng = np.random.default_rng([self.seed, 0, epoch])
        offset = rng.random(len(starts)) * self.window_length
        order = rng.permutation(fits.sum())

        whole = np.floor((ends - starts - offset) / self.window_length)  # laid from the offset
        whole = whole.astype(np.int64).clip(0)
        row = np.repeat(np.arange(len(fits)), fits)
        first = np.cumsum(fits) - fits
        place = np.arange(len(row)) - np.repeat(first, fits)
        at = starts[row] + offset[row] + place * self.window_length
        left, right = offset, ends - starts - offset - whole * self.window_length
        extra = np.where(right > left, ends - self.window_length, starts)
        at = np.where(place < whole[row], at, extra[row])
        short = ends - starts < self.window_length
        if short.any():
            widened = self._widened(rng)
            at = np.where(short[row], widened[row], at)
        return sessions[row][order], at[order]

    def _widened(self, rng: np.random.Generator) -> np.ndarray:
        """Draw for every interval a start that puts a random time of it anywhere in the window."""
        sessions, starts, ends, _ = self._table
        time, place = rng.random((2, len(starts)))
        bounds = [(domain.starts[0], domain.ends[-1]) for domain in self._domains]
        domain_starts, domain_ends = np.array(bounds).T
        first = domain_starts[sessions]
        last = domain_ends[sessions] - self.window_length
        wanted = starts + time * (ends - starts) - place * self.window_length
        return np.clip(wanted, np.minimum(first, last), np.maximum(first, last))


def rounding(intervals: Intervals) -> float:
    """Most seconds by which rounding moves a time in the intervals that is a sum of others."""
    latest = np.abs([*intervals.starts, *intervals.ends]).max(initial=0.0)
    return 4 * float(np.spacing(latest))


def sequential_windows(
    intervals: Intervals, window_length: float, step: float
) -> Float64[np.ndarray, " windows"]:
    """Return starts of windows every `step` s inside each interval.

    The last window ends where the interval ends. An interval shorter than the window gets one
    window, centred on it.
    """
    check_number("window_length", window_length, POSITIVE)
    check_number("step", step, POSITIVE)
    starts = []
    for start, end in intervals:
        if end - start < window_length:
            starts.append([(start + end - window_length) / 2])
            continue
        steps = (end - start - window_length) / step
        count = int(np.floor(steps + 1e-9)) + 1
        grid = start + step * np.arange(count)
        if grid[-1] + window_length < end - 1e-9:
            grid = np.append(grid, end - window_length)
        starts.append(grid)
    return np.concatenate(starts) if starts else np.zeros(0)


def overlapping_windows(
    intervals: Intervals, domain: Intervals, window_length: float, step: float
) -> Float64[np.ndarray, " windows"]:
    """Return starts of windows every `step` s that cover the intervals window_length / step times.

    Windows reach over the ends of the intervals, but not over the ends of the domain; times near
    these lie in fewer windows. In a domain shorter than a window, every window covers it.
    """
    first, last = domain.starts[0], domain.ends[-1] - window_length
    before = int(np.ceil(window_length / step - 1e-9)) - 1
    grids: list[np.ndarray] = [np.zeros(0)]
    for start, end in intervals:
        steps = (end - start) / step
        count = before + int(np.ceil(steps - 1e-9))
        grids.append(start + step * (np.arange(count) - before))
    starts = np.concatenate(grids)
    starts = np.clip(starts, min(first, last), max(first, last))
    return np.unique(starts)


def causal_windows(
    intervals: Intervals, window_length: float, step: float
) -> Float64[np.ndarray, " windows"]:
    """Return starts of windows that end every `step` s inside each interval.

    The last window ends at the interval's end or up to one step later. The last `step`
    seconds of all windows together cover the intervals once.
    """
    check_number("window_length", window_length, POSITIVE)
    check_number("step", step, POSITIVE)
    ends: list[np.ndarray] = [np.zeros(0)]
    for start, end in intervals:
        count = int(np.ceil((end - start) / step - 1e-9))
        ends.append(start + step * np.arange(1, count + 1))
    return np.concatenate(ends) - window_length


def trial_windows(trials: Intervals, window_length: float) -> Float64[np.ndarray, " trials"]:
    """Return the start, in s of session time, of one window per trial.

    The window starts with the trial; a trial shorter than the window lies in its centre.
    """
    short = np.minimum(trials.ends - trials.starts - window_length, 0) / 2
    return trials.starts + short
