"""Words of sentences and lines that the package prints."""


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: "1 session", "40 sessions"."""
    ending = "" if count == 1 else "s"
    return f"{count} {noun}{ending}"
