"""Assemble a web page in one file that needs nothing else, in the common style."""

import re
from collections.abc import Sequence
from importlib.resources import files


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


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
