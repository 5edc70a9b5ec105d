"""The report in a real browser: it asks for nothing, complains about nothing, and its controls
change what is shown.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pages import NEW

REPOSITORY = Path(__file__).resolve().parent.parent.parent

expect = pytest.importorskip(
    "playwright.sync_api", reason="pages are tested with playwright: pip install it"
).expect
PLOTS = (
    "traces",
    "path",
    "by_speed",
    "by_direction",
    "attended",
    "fit_units",
    "fit_scores",
    "fit_traces",
    "scores_plot",
)
PLOTS = (*PLOTS, "unit_plane", "session_plane", "loss", "valid", "time")


@pytest.fixture
def open_report(browser):
    """Open a page; afterwards nothing may have been complained about, or asked of anyone."""
    said, asked, pages = [], [], []

    def open_report(path, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_report
    for page in pages:
        page.close()
    assert not said
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def curve(page, plot, place):
    """What line `place` of a plot looks like."""
    return page.locator(f"#{plot} .scatterlayer .trace").nth(place).inner_html()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_everything_is_drawn_and_fits_the_width(open_report, report, width, scheme):
    page = open_report(report, width, scheme)
    for plot in PLOTS:
        expect(page.locator(f"#{plot} svg.main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("main .absent:visible").count() == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(246, 247, 249)") == (scheme == "light")
    ink = page.locator("#traces .gtitle, #traces .ytitle").first.evaluate(
        "x => getComputedStyle(x).fill"
    )
    assert ink == ("rgb(31, 36, 48)" if scheme == "light" else "rgb(231, 234, 240)")


def test_another_session_and_another_time(open_report, report):
    page = open_report(report)
    before = curve(page, "traces", 1), curve(page, "by_speed", 0), curve(page, "path", 0)
    page.select_option(
        "#session", NEW if page.input_value("#session") != NEW else "simulated/session_0"
    )
    after = curve(page, "traces", 1), curve(page, "by_speed", 0), curve(page, "path", 0)
    assert all(one != other for one, other in zip(before, after, strict=True))
    page.locator("#from").fill("1.5")
    start = page.evaluate("current.start")
    expect(page.locator("#from_text")).to_have_text(f"{start + 1.5:.1f} s")
    assert curve(page, "path", 0) != after[2]
    first = float(page.locator("#traces .xtick text").first.text_content())
    assert first in (start + 1.5, start + 2)
    page.select_option("#span", "2")
    assert float(page.locator("#traces .xtick text").last.text_content()) <= start + 3.5
    page.select_option("#span", "30")  # more than both blocks of the test split hold
    page.locator("#from").fill("0")
    last = float(page.locator("#traces .xtick text").last.text_content())
    assert last > start + 24  # in the second block
    page.reload()
    expect(page.locator("#span")).to_have_value("30")


def test_latents_of_another_time_attend_to_other_spikes(open_report, report):
    page = open_report(report)
    sizes = (
        "[...document.querySelectorAll('#attended .point')].map((point) => point.getAttribute('d'))"
    )
    before = page.evaluate(sizes)
    page.locator("#latent").fill("0")
    expect(page.locator("#latent_text")).to_have_text("0.063 s")
    after = page.evaluate(sizes)
    assert len(before) == len(after) and before != after


def test_unit_identification_moves_with_the_slider(open_report, report):
    page = open_report(report)
    expect(page.locator("#fit_text")).to_contain_text("step 0,")
    at = (
        "[...document.querySelectorAll('#fit_units .point')].map((point) =>"
        " point.getAttribute('transform'))"
    )
    before, decoded = page.evaluate(at), curve(page, "fit_traces", 1)
    page.locator("#fit_step").fill("4")
    expect(page.locator("#fit_text")).to_contain_text("step 20,")
    after = page.evaluate(at)
    assert (
        before[:24] == after[:24] and before[24:] != after[24:]
    )  # units known before stay where they are
    assert curve(page, "fit_traces", 1) != decoded


def test_units_are_coloured_by_rate(open_report, report):
    page = open_report(report)
    colours = (
        "new Set([...document.querySelectorAll('#unit_plane .point')].map((point) =>"
        " point.style.fill)).size"
    )
    assert page.evaluate(colours) == 3  # sessions
    page.select_option("#colour", "rate")
    assert page.evaluate(colours) > 10


def test_what_is_absent_is_said_and_the_rest_is_shown(open_report, fit, tmp_path):
    from poyo_jax.report import write_report

    page = open_report(write_report(tmp_path / "report.html", fit.pretrained))
    expect(page.locator("#unit_plane svg.main-svg").first).to_be_visible()
    for part in (
        "recordings",
        "errors",
        "attention",
        "fits",
        "scores",
        "training",
        "goodput",
        "sessions",
    ):
        expect(page.locator(f"#{part} .absent")).to_be_visible()
        assert page.locator(f"#{part} .plot:visible").count() == 0


def test_pictures_for_the_readme(browser, report, tmp_path):
    program = [
        sys.executable,
        "-m",
        "experiments.tools.screenshots",
        "--out",
        tmp_path / "images",
    ]
    subprocess.run([*program, "--report", report, "--name", "tiny"], check=True, cwd=REPOSITORY)
    pictures = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in pictures] == ["tiny.png", "tiny_fit.png"]
    assert all(
        path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
        for path in pictures
    )
    misused = subprocess.run(
        [*program, "--report", tmp_path / "nothing.html"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert misused.returncode == 2 and "there is no page" in misused.stderr
