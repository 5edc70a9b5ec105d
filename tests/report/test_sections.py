"""The report is one page that needs nothing else and shows what it was given."""

import base64
import importlib
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from poyo_jax.errors import DataError, MissingDependencyError
from poyo_jax.report.sections import Section, write_sections


class Outline(HTMLParser):
    """Tags, their attributes and the text of a page; complains about tags that do not match."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.text.append(data.strip())


@pytest.fixture
def page(tmp_path):
    figure = Figure()
    axes = figure.subplots()
    sections = [
        Section(heading="Words", text="First <b>paragraph</b>.\n\nSecond one."),
        Section(heading="Picture", figure=axes, caption='What "it" shows'),
        Section(
            heading="Numbers",
            rows=[
                {"session": "a", "units": 1200, "R²": np.float32(-0.81234)},
                {"session": "b", "R²": float("nan"), "units": np.int64(7)},
            ],
        ),
    ]
    path = write_sections(
        tmp_path / "new" / "report.html",
        "A & B",
        sections,
        subtitle="today",
        highlights={"test R²": "0.81"},
    )
    return path.read_text(encoding="utf-8")


def test_the_page_holds_what_it_was_given(page):
    text = Outline(page).text
    for part in (
        "A & B",
        "today",
        "test R²",
        "0.81",
        "First <b>paragraph</b>.",
        "Second one.",
        'What "it" shows',
    ):
        assert part in text
    assert [word for word in text if word in ("session", "units", "R²")] == [
        "session",
        "units",
        "R²",
    ]
    for cell in ("a", "1,200", "−0.812", "b", "7", "–"):
        assert cell in text


def test_the_page_needs_nothing_else(page):
    outline = Outline(page)
    assert "script" not in [tag for tag, _ in outline.tags]
    links = [
        value
        for _, attrs in outline.tags
        for name, value in attrs.items()
        if name in ("src", "href")
    ]
    assert links and all(link.startswith("data:image/png;base64,") for link in links)
    assert base64.b64decode(links[0].split(",")[1]).startswith(b"\x89PNG")
    assert not re.search(r"url\(|@import", page)


def test_pictures_can_be_read_aloud(page):
    assert [attrs["alt"] for tag, attrs in Outline(page).tags if tag == "img"] == [
        'What "it" shows'
    ]


def test_columns_of_numbers_are_aligned(page):
    classes = [attrs.get("class") for tag, attrs in Outline(page).tags if tag == "th"]
    assert classes == [None, "number", "number"]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "poyo_jax.report.sections")
    with pytest.raises(MissingDependencyError, match=r"jinja2.*pip install poyo_jax\[plots\]"):
        importlib.import_module("poyo_jax.report.sections")


def test_a_path_that_cannot_be_written_is_explained(tmp_path):
    with pytest.raises(
        DataError,
        match=r"the report cannot be written to .*: Is a directory. Give the path of a file",
    ):
        write_sections(tmp_path, "title", [])
