"""Assemble a web page in one file that needs nothing else, in the common style."""

import re
from collections.abc import Sequence
from importlib.resources import files

MAX_NAME = 7  # characters that fit beside an axis


def look() -> str:
    """The style sheet that those of all pages follow."""
    return _text("poyo_jax", "pages.css")


def assemble(package: str, scripts: Sequence[str], **parts: str) -> str:
    """Fill the `page.html` of a package.

    `@STYLE@` becomes the common style and that of the package, `@SCRIPT@` its scripts.

    The name of each of `parts`, in capitals and between @, becomes that part.
    """
    parts["style"] = (look() + _text(package, "page.css")).rstrip()
    parts["script"] = "\n".join(_text(package, name) for name in scripts).rstrip()
    return re.sub("@([A-Z]+)@", lambda mark: parts[mark[1].lower()], _text(package, "page.html"))


def short_names(unit_ids: Sequence[str]) -> list[str]:
    """Names of units for an axis: without the words that all of them begin with.

    Words end at a character that is neither a letter nor a digit. Long names lose their beginning.
    """
    shared = ""
    if len(unit_ids) > 1:
        first, last = min(unit_ids), max(unit_ids)
        alike = [one == other for one, other in zip(first, last, strict=False)]
        shared = first[: [*alike, False].index(False)]
    words = re.match(r".*[^A-Za-z0-9]", shared)
    start = words.end() if words else 0
    names = [unit_id[start:] for unit_id in unit_ids]
    return [name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}" for name in names]


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
