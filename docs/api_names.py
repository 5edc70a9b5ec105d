"""The names on the API pages, and which of them a piece of code in the text means."""

import re
from functools import cache, reduce
from importlib import import_module
from inspect import isclass
from pathlib import Path

_DIRECTIVE = re.compile(r"^\.\. (?:autofunction|autoclass|py:data):: (\S+)", re.MULTILINE)
# Classes that are shown with the members of their bases.
_INHERITING = re.compile(r"^\.\. autoclass:: (\S+)\n +:inherited-members:", re.MULTILINE)
# Packages that are shown with all of their public names.
_PACKAGE = re.compile(r"^\.\. automodule:: (\S+)", re.MULTILINE)


def listed() -> list[str]:
    """Full names, as often as they stand on the pages."""
    names = _texts(_DIRECTIVE)
    for package in _texts(_PACKAGE):
        public = getattr(import_module(package), "__all__", ())
        names += [f"{package}.{item}" for item in public]
    return names


def _texts(pattern: re.Pattern[str]) -> list[str]:
    """What a pattern finds on the pages, in their order."""
    pages = sorted((Path(__file__).resolve().parent / "api").glob("*.md"))
    return [text for page in pages for text in pattern.findall(page.read_text(encoding="utf-8"))]


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
    ends, members, inheriting = {}, set(), _texts(_INHERITING)
    for name in listed():
        parts, item = name.split("."), find(name)
        ends |= {".".join(parts[first:]): name for first in range(len(parts))}
        if isclass(item):
            shown = members_of(item) if name in inheriting else vars(item)
            members |= {f"{name}.{member}" for member in shown if not member.startswith("_")}
    return ends, members


def members_of(item: type) -> dict[str, object]:
    """What a class and its bases in this package define, by name."""
    members: dict[str, object] = {}
    for base in reversed(item.__mro__):
        if base.__module__.startswith("poyo_jax"):
            members |= vars(base)
    return members


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
