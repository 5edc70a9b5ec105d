"""Numbers on their way into the page: arrays as base64, what is not finite as null."""

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Content = dict[str, Any]  # of numbers, text, lists and dictionaries: what JSON can hold


def packed(values: ArrayLike, kind: str = "f4") -> Content:
    """An array of one axis for the page: little-endian float32 ("f4") or unsigned integers ("u1", "u2")."""
    data = np.asarray(values).astype(f"<{kind}").tobytes()
    return {"kind": kind, "data": base64.b64encode(data).decode("ascii")}


def plain(value: float) -> float | None:
    """A number as JSON knows it, to four digits."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
