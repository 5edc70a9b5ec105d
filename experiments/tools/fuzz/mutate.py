"""Random damage to bytes and to JSON values."""

import copy
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63)
LENGTHS = (1, 1, 1, 2, 4, 8, 16, 64, 256)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, 1e-6, -0.0, 1e7, 1e9, 10**9, 2**63, 10**400, 1e308),
    *(float("nan"), float("inf"), "", "a", "7", "µ", "nan", "a" * 5000, "²", "\0", "../../x"),
    *([], [1], ["a"], [[1, 2], [3]], [None], {}, {"a": 1}, [1.0, 2.0], [float("nan"), 1.0]),
)

Rng = np.random.Generator


def mutated_bytes(content: bytes, rng: Rng) -> bytes:
    """The content after one to four random changes, unequal to it."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        _CHANGES[rng.integers(len(_CHANGES))](damaged, rng)
    if damaged == content:
        _flip(damaged, rng)
    return bytes(damaged)


def _place(content: bytearray, rng: Rng) -> int:
    """Half of the places are among the first 2 kB, where headers are."""
    most = min(len(content), 2048) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(most, 1)))


def _flip(content: bytearray, rng: Rng) -> None:
    at = _place(content, rng)
    if content:
        content[at] ^= 1 << int(rng.integers(8))


def _random_byte(content: bytearray, rng: Rng) -> None:
    at = _place(content, rng)
    content[at : at + 1] = rng.bytes(1)


def _number(content: bytearray, rng: Rng) -> None:
    """Write a number that sizes often go wrong with."""
    value = NUMBERS[rng.integers(len(NUMBERS))]
    size = (1, 2, 4, 8)[rng.integers(4)]
    at = _place(content, rng)
    content[at : at + size] = struct.pack("<Q", value)[:size]


def _zeros(content: bytearray, rng: Rng) -> None:
    at, size = _place(content, rng), LENGTHS[rng.integers(len(LENGTHS))]
    content[at : at + size] = bytes(size)


def _delete(content: bytearray, rng: Rng) -> None:
    at, size = _place(content, rng), LENGTHS[rng.integers(len(LENGTHS))]
    del content[at : at + size]


def _insert(content: bytearray, rng: Rng) -> None:
    at, size = _place(content, rng), LENGTHS[rng.integers(len(LENGTHS))]
    content[at:at] = rng.bytes(size)


def _copy(content: bytearray, rng: Rng) -> None:
    """Write one piece over another."""
    at, to, size = _place(content, rng), _place(content, rng), LENGTHS[rng.integers(len(LENGTHS))]
    content[to : to + size] = content[at : at + size]


def _cut(content: bytearray, rng: Rng) -> None:
    if rng.random() < 0.2:  # rarely, since little else is tried then
        del content[_place(content, rng) :]


_CHANGES: tuple[Callable[[bytearray, Rng], None], ...] = (
    *(_flip, _flip, _random_byte, _number, _number, _zeros, _delete, _insert, _copy, _cut),
)


def mutated_json(values: Any, rng: Rng) -> Any:
    """A copy of nested values with one changed, removed, moved or added."""
    values = copy.deepcopy(values)
    places = [place for place in _places(values) if place]
    place = places[rng.integers(len(places))]
    parent = values
    for key in place[:-1]:
        parent = parent[key]
    key, change = place[-1], rng.integers(8)
    if change == 0:
        del parent[key]
    elif change == 1 and isinstance(parent, dict):
        parent[VALUES[rng.integers(len(VALUES))].__repr__()[:40]] = parent.pop(key)
    elif change == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif change == 3 and isinstance(parent[key], int | float) and abs(parent[key]) < 1e15:
        parent[key] = parent[key] * (2, -1, 1000, 1e-3, 10**6)[rng.integers(5)]
    else:
        parent[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return values


def _places(values: Any, prefix: tuple = ()) -> list[tuple]:
    """Paths of keys and positions to all values, the first three entries of a list."""
    places = [prefix]
    if isinstance(values, dict):
        for key, value in values.items():
            places += _places(value, (*prefix, key))
    elif isinstance(values, list):
        for position, value in enumerate(values[:3]):
            places += _places(value, (*prefix, position))
    return places
