"""Numbers on their way into the page: arrays as base64, what is not finite as null."""

import base64
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Item = TypeVar("Item")
Content = dict[str, Any]  # of numbers, text, lists and dictionaries: what JSON can hold


def packed(values: ArrayLike, kind: str = "f4") -> Content:
    """Array of one axis for the page: little-endian "f4", or unsigned integers "u1" or "u2"."""
    data = np.asarray(values).astype(f"<{kind}").tobytes()
    return {"kind": kind, "data": base64.b64encode(data).decode("ascii")}


def packed_columns(values: np.ndarray) -> list[Content]:
    """The columns of an array of two axes."""
    return [packed(column) for column in values.T]


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of the items, from the first to the last."""
    return [
        items[place]
        for place in np.linspace(0, len(items) - 1, min(len(items), count)).round().astype(int)
    ]


def plain(value: float) -> float | None:
    """A number as JSON knows it, to four digits."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
