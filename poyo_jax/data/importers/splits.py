"""Splits of a session: check those that are given, or divide what was measured into blocks."""

import logging
from collections.abc import Iterable, Mapping, Sized
from itertools import combinations

import numpy as np

from poyo_jax.data.intervals import SAME_TIME, Intervals
from poyo_jax.errors import SessionError, suggest

logger = logging.getLogger(__name__)

Pairs = Intervals | Iterable  # (start, end) pairs, an array [n, 2], or Intervals

SPLITS = ("train", "valid", "test")
NUM_BLOCKS = 10
BLOCKS = {"train": (0, 1, 2, 4, 6, 7, 9), "valid": (5,), "test": (3, 8)}


def to_intervals(pairs: Pairs, name: str) -> Intervals:
    """Make intervals from (start, end) pairs. Raises SessionError when they hold no time."""
    try:
        intervals = Intervals.from_pairs(pairs)
    except (TypeError, ValueError) as error:
        raise SessionError(f"{name}: {error}") from error
    if not intervals.duration > 0:
        raise SessionError(
            f"{name} holds no time; pass (start, end) pairs with start < end, or leave it out."
        )
    return intervals


def choose_splits(
    given: Mapping[str, Pairs | None], domain: Intervals, measured: Intervals
) -> dict[str, Intervals]:
    """Check the given splits, or make ten blocks of the measured time when there are none."""
    splits = {name: pairs for name, pairs in given.items() if pairs is not None}
    return check_splits(splits, domain) if splits else ten_blocks(measured)


def replace_splits(
    kept: Mapping[str, Intervals], given: Mapping[str, Pairs], domain: Intervals
) -> dict[str, Intervals]:
    """Replace splits by the given ones, and cut the time of these from the others.

    No pairs make an empty split. Raises SessionError as `check_splits` does.
    """
    empty = {name for name, pairs in given.items() if name in SPLITS and _is_empty(pairs)}
    new = check_splits({name: given[name] for name in given if name not in empty}, domain)
    splits = dict(kept)
    for name, split in new.items():
        splits = {other: intervals.subtract(split) for other, intervals in splits.items()}
        splits[name] = split
    for name, intervals in kept.items():
        if len(intervals) and not len(splits[name]):
            logger.warning("the new splits take all time of the split %s, which is empty now", name)
    return splits | dict.fromkeys(empty, Intervals.from_pairs([]))


def _is_empty(pairs: Pairs) -> bool:
    return isinstance(pairs, Sized) and len(pairs) == 0


def check_splits(given: Mapping[str, Pairs], domain: Intervals) -> dict[str, Intervals]:
    """Check splits of a session against its domain and against each other.

    Raises SessionError for an unknown name, intervals outside the recording, or shared time.
    """
    splits = {}
    for name, pairs in given.items():
        if name not in SPLITS:
            raise SessionError(
                f"a session has no split {name!r}; pass train, valid or test."
                f"{suggest(name, SPLITS)}"
            )
        splits[name] = to_intervals(pairs, name)
        _check_inside(name, splits[name], domain)
    for name, other in combinations(sorted(splits), 2):
        shared = splits[name].intersect(splits[other])
        if shared.duration > SAME_TIME:
            raise SessionError(f"{name} and {other} share {shared}; cut it from one of them.")
        splits[other] = splits[other].subtract(shared)
    return splits


def _check_inside(name: str, split: Intervals, domain: Intervals) -> None:
    """Raise SessionError for an interval, or most of a split, outside the recording."""
    advice = "give all times in seconds from the zero of the session."
    if not len(split.intersect(domain)):
        raise SessionError(f"{name} {split} lies outside the domain {domain}; {advice}")
    first, last = domain.starts[0], domain.ends[-1]
    outside = (split.ends <= first) | (split.starts >= last)
    if outside.any():
        row = int(np.argmax(outside))
        raise SessionError(
            f"{name} has the interval [{split.starts[row]:g}, {split.ends[row]:g}), but the"
            f" session lasts from {first:g} s to {last:g} s; {advice}"
        )
    beyond = split.subtract(Intervals.from_pairs([(first, last)])).duration
    if beyond > split.duration / 2:
        raise SessionError(
            f"{beyond:g} s of the {split.duration:g} s of {name} lie outside the session, which"
            f" lasts from {first:g} s to {last:g} s; {advice}"
        )


def ten_blocks(measured: Intervals) -> dict[str, Intervals]:
    """Cut measured time into ten blocks of equal duration, which may reach over pauses."""
    pauses = np.append(0.0, np.cumsum(measured.starts[1:] - measured.ends[:-1]))
    # The clock without pauses: where the intervals start, and where the blocks end.
    starts = measured.starts - pauses
    edges = np.linspace(measured.starts[0], measured.ends[-1] - pauses[-1], NUM_BLOCKS + 1)
    rows = np.searchsorted(starts, edges, side="right") - 1
    edges += pauses[rows]
    edges[-1] = measured.ends[-1]
    splits = {}
    for name, blocks in BLOCKS.items():
        chosen = list(blocks)
        split = Intervals(edges[chosen], edges[np.array(chosen) + 1])
        splits[name] = split.intersect(measured)
    return splits
