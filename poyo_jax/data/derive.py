"""Derive runs, measured time, derivatives, outliers and random splits from samples and trials."""

from collections.abc import Mapping, Sequence

import numpy as np

from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import DataError

SEED = 42  # of every split of the reference
GAP = 5.0  # median steps between samples; a longer step ends a run
SHARES = (0.7, 0.1, 0.2)  # of the trials for train, valid and test
# of the training trials of the Neural Latents Benchmark for train and valid
BENCHMARK_SHARES = (0.8, 0.2)
GUARD = 1.0  # seconds between training and the trials of other splits
FEWEST_TRIALS = 6  # with which every split has one
SHORT_GAP = 1.0  # s; a shorter gap between samples does not interrupt what was measured
SHORT_SILENCE = 5.0  # s of all units together
SILENCE = 50.0  # median intervals between spikes of all units; a longer silence is a pause


# --- samples


def first_of_runs(times: np.ndarray) -> np.ndarray:
    """Positions of the samples that follow a gap, and of the first one."""
    steps = np.diff(times)
    after_gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    return np.concatenate([[0], after_gaps]).astype(np.int64)


def run_intervals(times: np.ndarray, firsts: np.ndarray) -> Intervals:
    """Make one interval (s) per run of samples.

    It ends one median step after the last sample of the run, or at the start of the next run if
    that comes first.
    """
    step = np.median(np.diff(times))
    stops = np.append(firsts[1:], len(times))
    ends = times[stops - 1] + step
    next_starts = np.append(times[firsts[1:]], np.inf)
    return Intervals(times[firsts], np.minimum(ends, next_starts))


def measured_time(
    domain: Intervals, times: np.ndarray, samples: np.ndarray, spike_times: np.ndarray
) -> Intervals:
    """Cut from the domain the time without behaviour and the time without spikes.

    Gaps between finite samples count from one second and five median steps on, the silence of all
    units from five seconds and fifty median intervals on.

    Args:
        domain: where data exist.
        times: of the samples, s, [samples].
        samples: the behaviour, NaN where it was not measured, [samples, ...].
        spike_times: sorted, s, [spikes].

    Returns:
        What is left; the whole domain if nothing is left.
    """
    finite = np.isfinite(samples).reshape(len(times), -1).all(axis=1)
    step = median_step(times)
    pauses = _pauses(times[finite], domain, max(SHORT_GAP, GAP * step), step)
    silence = max(SHORT_SILENCE, SILENCE * median_step(spike_times))
    measured = domain.subtract(pauses).subtract(_pauses(spike_times, domain, silence))
    return measured if len(measured) else domain


def median_step(times: np.ndarray, alone: float = 1.0) -> float:
    """Return the median step between times (s), and `alone` for a single time or none."""
    return float(np.median(np.diff(times))) if len(times) > 1 else alone


def _pauses(times: np.ndarray, domain: Intervals, longest: float, step: float = 0.0) -> Intervals:
    """Find the pauses in sorted times (s) that exceed `longest` s, also at the domain's ends.

    A pause begins `step` s after a time. There are none without times.
    """
    if not len(times):
        return Intervals.from_pairs([])
    starts = np.append(domain.starts[0], times + step)
    ends = np.append(times, domain.ends[-1])
    long = ends - starts > longest
    return Intervals(starts[long], ends[long])


def gradient(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Differentiate samples [count, channels] with respect to time (s).

    The accuracy is of second order inside and of first order at the ends.
    """
    return np.gradient(values, times, edge_order=1, axis=0)


def gradient_of_runs(values: np.ndarray, times: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Derivative within every run; NaN for a run of one sample."""
    derivative = np.full(values.shape, np.nan)
    stops = np.append(firsts[1:], len(times))
    for first, stop in zip(firsts, stops, strict=True):
        if stop - first > 1:
            run = slice(first, stop)
            derivative[run] = gradient(values[run], times[run])
    return derivative


def intervals_where(mask: np.ndarray, times: np.ndarray) -> Intervals:
    """Make one interval (s) of each run of True in a mask [samples].

    An interval starts at the first sample of the run and ends at the next sample after the run.
    After the last sample of all it ends one median step later.
    """
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    step = np.median(np.diff(times))
    bounds = np.append(times, times[-1] + step)
    return Intervals(bounds[edges == 1], bounds[edges == -1])


# --- splits


def permutation_split(count: int, shares: Sequence[float]) -> list[np.ndarray]:
    """Split the rows 0 to count - 1 at random into sets with the given shares.

    The rows of a set ascend. The largest set absorbs the rounding error.
    """
    sizes = [round(share * count) for share in shares]
    sizes[int(np.argmax(sizes))] += count - sum(sizes)
    permutation = np.random.default_rng(SEED).permutation(count)
    ends = np.cumsum(sizes)
    return [np.sort(rows) for rows in np.split(permutation, ends[:-1])]


def trial_splits(
    trials: Mapping[str, np.ndarray], domain: Intervals, split: str | None, what: str
) -> dict[str, Intervals]:
    """Splits by trials, or none at all when the domain is to be cut in blocks.

    Trials that share time with the domain are drawn: 70 % train, 10 % valid, 20 % test; training
    may use all of the domain but the valid and test trials and one second around each. Where a text
    column `split` knows "train" and "val", as in the Neural Latents Benchmark, 80 % of the former
    are train and 20 % valid, and the latter are test. A trial that overlaps the next one counts
    until the next one begins.

    Args:
        trials: columns `start` and `end`, sorted by start, and perhaps `split`; all empty without
        trials.
        domain: where data exist.
        split: "trials", "blocks", or None, which means trials when there are six or more, and
        blocks otherwise.
        what: the table, for messages.

    Raises:
        DataError: there are too few trials to split by them, or they leave nothing to train on.
    """
    starts = trials["start"]
    next_starts = np.append(starts[1:], np.inf)
    ends = np.minimum(trials["end"], next_starts)
    rows = np.flatnonzero(_overlap(starts, ends, domain))
    if split == "blocks" or (split is None and len(rows) < FEWEST_TRIALS):
        return {}
    if len(rows) < FEWEST_TRIALS:
        raise DataError(
            f"{what} has {len(rows)} trials with behaviour; splitting by trials needs"
            f" {FEWEST_TRIALS} at least, so that every split has one: pass split='blocks'."
        )
    if _is_benchmark(trials.get("split")):
        train, valid, test = _benchmark_rows(trials["split"], rows, what)
        training = Intervals(starts[train], ends[train]).intersect(domain)
    else:
        _, valid, test = (rows[chosen] for chosen in permutation_split(len(rows), SHARES))
        held_out = np.sort(np.concatenate([valid, test]))
        guarded = Intervals(starts[held_out], ends[held_out]).dilate(GUARD)
        training = domain.subtract(guarded)
    if not len(training):
        raise DataError(
            f"{what}: valid and test trials with {GUARD:g} s around each leave no time to train on;"
            " pass split='blocks', or record longer."
        )
    return {
        "train": training,
        "valid": Intervals(starts[valid], ends[valid]).intersect(domain),
        "test": Intervals(starts[test], ends[test]).intersect(domain),
    }


def _overlap(starts: np.ndarray, ends: np.ndarray, domain: Intervals) -> np.ndarray:
    """Tell for each row if it shares time with the domain."""
    first = np.searchsorted(domain.ends, starts, side="right")
    stop = np.searchsorted(domain.starts, ends, side="left")
    return (starts < ends) & (stop > first)


def _is_benchmark(labels: np.ndarray | None) -> bool:
    return (
        labels is not None
        and labels.dtype.kind in "OU"
        and labels.ndim == 1
        and {"train", "val"} <= set(labels)
    )


def _benchmark_rows(
    labels: np.ndarray, rows: np.ndarray, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known, test = (rows[labels[rows] == label] for label in ("train", "val"))
    if len(known) < 3 or not len(test):
        raise DataError(
            f"{what}/split is 'train' for {len(known)} trials with behaviour and 'val' for"
            f" {len(test)}; three and one are needed at least: pass split='blocks', or correct the"
            " column."
        )
    train, valid = permutation_split(len(known), BENCHMARK_SHARES)
    return known[train], known[valid], test
