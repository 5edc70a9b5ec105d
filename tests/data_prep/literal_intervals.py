"""The algebra of intervals and the outliers' runs once more, slowly and from their description, on
lists of pairs.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Pair = tuple[float, float]


def subtract(a: Sequence[Pair], b: Sequence[Pair]) -> list[Pair]:
    """The pieces of each interval that the others leave; those without length are dropped."""
    pieces = list(a)
    for low, high in b:
        parts = [
            part
            for start, end in pieces
            for part in ((start, min(end, low)), (max(start, high), end))
        ]
        pieces = [(start, end) for start, end in parts if start < end]
    return pieces


def union(a: Sequence[Pair], b: Sequence[Pair]) -> list[Pair]:
    merged: list[list[float]] = []
    for start, end in sorted([*a, *b]):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return [(start, end) for start, end in merged]


def dilate(a: Sequence[Pair], seconds: float) -> list[Pair]:
    grown = []
    for row, (start, end) in enumerate(a):
        low, high = start - seconds, end + seconds
        if row > 0:
            low = max(low, (a[row - 1][1] + start) / 2)
        if row < len(a) - 1:
            high = min(high, (end + a[row + 1][0]) / 2)
        grown.append((low, high))
    return grown


def runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    edges = [-1, *(k for k in range(len(mask)) if not mask[k]), len(mask)]
    return [(a + 1, b - 1) for a, b in pairwise(edges) if b > a + 1]


def grown(mask: Sequence[bool], left: int, right: int) -> np.ndarray:
    """Every run with `left` more samples before it and `right` after it; fewer if these are
    negative.
    """
    result = np.zeros(len(mask), bool)
    for first, last in runs(mask):
        result[max(first - left, 0) : max(last + right + 1, 0)] = True
    return result


def marked(times: Sequence[float], mask: Sequence[bool]) -> list[Pair]:
    """From the sample before each run to its last one."""
    return [(times[max(first - 1, 0)], times[last]) for first, last in runs(mask)]
