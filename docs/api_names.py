"""The names on the API pages, and which of them a piece of code in the text means."""

import re
from functools import cache, reduce
from importlib import import_module
from inspect import isclass
from pathlib import Path

_DIRECTIVE = re.compile(r"^\.\. (?:autofunction|autoclass|py:data):: (\S+)", re.MULTILINE)


def listed() -> list[str]:
    """Full names in the order of the pages, as often as they stand there."""
    pages = sorted((Path(__file__).resolve().parent / "api").glob("*.md"))
    return [name for page in pages for name in _DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


def find(name: str) -> object:
    """What a full name, such as "poyo_jax.finetune.FitConfig", names."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            module = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[count:], module)
    raise ModuleNotFoundError(name)


@cache
def _names() -> tuple[dict[str, str], set[str]]:
    """The listed names by each of their ends, and what their classes define."""
    ends, members = {}, set()
    for name in listed():
        parts, item = name.split("."), find(name)
        ends |= {".".join(parts[first:]): name for first in range(len(parts))}
        if isclass(item):
            members |= {f"{name}.{member}" for member in vars(item) if not member.startswith("_")}
    return ends, members


def meant(code: str, inside: str = "") -> str | None:
    """The full name that `code` means, in the documentation of `inside`; None if it is nothing on
    the API pages.
    """
    ends, members = _names()
    code = code.removesuffix("()")
    if (own := f"{inside.rpartition('.')[0]}.{code}") in members or (
        own := f"{inside}.{code}"
    ) in members:
        return own
    if code in ends:
        return ends[code]
    owner, _, member = code.rpartition(".")
    return name if owner in ends and (name := f"{ends[owner]}.{member}") in members else None
