"""Words of sentences and lines that the package prints."""

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: "1 session", "40 sessions"."""
    ending = "" if count == 1 else "s"
    return f"{count} {noun}{ending}"


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Write the first names of a list: "a, b, c, d, e, ..."."""
    return ", ".join([*names[:most], *["..."] * (len(names) > most)])


def in_bytes(count: float) -> str:
    """A number of bytes as "12.34 MB" or "1.23 GB"."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
