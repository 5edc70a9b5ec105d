"""Checks of the numbers and names that a caller gives, as settings or as arguments."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple

from poyo_jax.errors import ConfigError, suggest

LONGEST_REPR = 80  # characters of a value in a message


class Allowed(NamedTuple):
    """Numbers that a setting may have: a kind, and bounds."""

    kind: type  # int or float
    least: float
    most: float
    open_least: bool  # whether the least number itself is left out
    open_most: bool
    or_none: bool

    def fault(self, value: object) -> str | None:
        """Words for what `value` must be, or None if it is allowed."""
        if value is None and self.or_none:
            return None
        words = self._words(value)
        if self.or_none:
            words += " or None" if words == "positive" else ", or None"
        abstract = Integral if self.kind is int else Real
        if isinstance(value, bool) or not isinstance(value, abstract):
            return f"{'an integer' if self.kind is int else 'a number'}, {words}"
        if not _is_finite(value):
            return f"finite and {words}"
        return None if self._holds(value) else words

    def allows(self, value: object) -> bool:
        """Tell if a setting may have this value."""
        return self.fault(value) is None

    def _holds(self, value: Any) -> bool:
        low = value > self.least if self.open_least else value >= self.least
        high = value < self.most if self.open_most else value <= self.most
        return bool(low and high)

    def _words(self, value: object) -> str:
        """The bounds in words; of an integer with two bounds, the one that is broken."""
        least, most = self.least, self.most
        if most == -least == math.inf:
            return "of any size"
        if most == math.inf and self.open_least and least == 0:
            return "positive"
        if most == math.inf:
            return f"{'above' if self.open_least else 'at least'} {least}"
        if self.kind is int:
            too_large = isinstance(value, Integral) and int(value) > most
            return f"at most {most}" if too_large else f"at least {least}"
        if self.open_least and self.open_most:
            return f"between {least} and {most}"
        left, right = "(" if self.open_least else "[", ")" if self.open_most else "]"
        return f"in {left}{least}, {most}{right}"


def integer(at_least: int, at_most: float = math.inf, *, or_none: bool = False) -> Allowed:
    """Integers between two bounds, both included."""
    return Allowed(int, at_least, at_most, False, False, or_none)


def number(
    *,
    above: float | None = None,
    at_least: float = -math.inf,
    below: float | None = None,
    at_most: float = math.inf,
    or_none: bool = False,
) -> Allowed:
    """Finite numbers between two bounds; `above` and `below` leave the bound itself out."""
    least = at_least if above is None else above
    most = at_most if below is None else below
    return Allowed(float, least, most, above is not None, below is not None, or_none)


SEED = integer(0, 2**32 - 1)  # larger ones would be cut to 32 bits, and two seeds give the same
POSITIVE = number(above=0)
NOT_NEGATIVE = number(at_least=0)


def check_number(name: str, value: object, allowed: Allowed) -> None:
    """Raise ConfigError if a number is not allowed; the message quotes its name and value."""
    expected = allowed.fault(value)
    if expected is not None:
        shown = repr(value)
        if len(shown) > LONGEST_REPR:
            shown = f"{shown[:LONGEST_REPR]}..."
        raise ConfigError(f"{name} is {shown}; it must be {expected}. Change it and start again.")


def check_numbers(name: str, values: object, allowed: Allowed) -> None:
    """Check every number of a sequence, which must have at least one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(
            f"{name} is {values!r}; it must be a sequence of numbers. Change it and start again."
        )
    numbers = list(values)
    if not numbers:
        raise ConfigError(f"{name} is empty; it must have at least one number. Add one.")
    for place, value in enumerate(numbers):
        check_number(f"{name}[{place}]", value, allowed)


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ConfigError if `value` is none of the `choices`, with the closest ones."""
    known = list(choices)
    if isinstance(value, str) and value in known:
        return
    *others, last = map(repr, known)
    hint = suggest(str(value), known)
    raise ConfigError(
        f"{name} is {value!r}; it must be {', '.join(others)} or {last}.{hint} Change it and start"
        " again."
    )


def check_fields(config: Any, **allowed: Allowed) -> None:
    """Check fields of a dataclass, and turn NumPy's numbers into Python's, which JSON can hold."""
    for name, numbers in allowed.items():
        value = getattr(config, name)
        check_number(f"{type(config).__name__}.{name}", value, numbers)
        if hasattr(value, "item"):
            object.__setattr__(config, name, value.item())


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False
