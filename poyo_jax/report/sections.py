"""HTML page of text, tables and pictures, without scripts.

The check of prepared sessions is such a page.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from poyo_jax.errors import DataError, MissingDependencyError
from poyo_jax.files import local_path
from poyo_jax.pages import look

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:
    raise MissingDependencyError(
        f"reports need jinja2, which cannot be imported ({error}); run: pip install poyo_jax[plots]"
    ) from error

DOTS_PER_INCH = 170


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; what is left out is not shown."""

    heading: str  #: above it
    text: str = ""  #: paragraphs, with an empty line between them
    rows: Sequence[Mapping[str, Any]] = ()  #: of a table: {column: value}
    figure: Any = None  #: a matplotlib Figure, or Axes in one
    caption: str = ""  #: of the figure; also read to those who cannot see it


@dataclass(frozen=True)
class Cell:
    """Text of a table cell, and whether it belongs at the right of its column."""

    text: str  #: what stands in it
    number: bool  #: whether it belongs at the right


def write_sections(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    highlights: Mapping[str, str] | None = None,
) -> Path:
    """Write the page and return its path.

    `highlights` are the few figures that matter, shown large: {name: value}.

    Raises:
        DataError: `path` cannot be written.
    """
    page = _template().render(
        look=Markup(look()),
        title=title,
        subtitle=subtitle,
        highlights=highlights or {},
        sections=[_content(section) for section in sections],
        version=_version(),
    )
    path = local_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"the report cannot be written to {path}: {error.strerror}. Give the path of a file in"
            " a folder where you may write."
        ) from error
    return path


def _template():
    environment = Environment(
        loader=PackageLoader("poyo_jax.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("sections.html")


def _content(section: Section) -> dict[str, Any]:
    return {
        "heading": section.heading,
        "paragraphs": [part.strip() for part in section.text.split("\n\n") if part.strip()],
        "table": _table(section.rows),
        "image": None if section.figure is None else _png(section.figure),
        "caption": section.caption,
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """Header and body; a column of numbers is aligned at the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return []
    values = {name: [row.get(name) for row in rows] for name in columns}
    numeric = {
        name: all(v is None or isinstance(v, Real) for v in values[name]) for name in columns
    }
    header = [Cell(name, numeric[name]) for name in columns]
    return [
        header,
        *[[Cell(_text(row.get(name)), numeric[name]) for name in columns] for row in rows],
    ]


def _text(value: Any) -> str:
    if value is None or value != value:  # missing, or NaN
        return "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    text = (
        f"{number:,.0f}" if isinstance(value, Integral) or abs(number) >= 1000 else f"{number:.3f}"
    )
    return text.replace("-", "−")


def _png(figure: Any) -> str:
    """The picture of a matplotlib figure, base64-encoded."""
    buffer = io.BytesIO()
    getattr(figure, "figure", figure).savefig(
        buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white"
    )
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _version() -> str:
    try:
        return version("poyo_jax")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"
