"""The page in a real browser: what is clicked changes what is shown, and nothing leaves this
machine.
"""

import re
from threading import Event

import pytest

expect = pytest.importorskip(
    "playwright.sync_api", reason="pages are tested with playwright: pip install it"
).expect

UNKNOWN = "simulated/session_2"
LEFT, RIGHT = 48, 10  # pixels beside the time axis


@pytest.fixture
def open_page(browser, server):
    """Open the page; afterwards nothing may have been complained about, or asked of anyone else."""
    said, asked, pages = [], [], []

    def open_page(width=1280, scheme="light", **options):
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address)
        if options.get("java_script_enabled", True):
            shows_an_answer(page)
        return page

    open_page.said = said
    yield open_page
    for page in pages:
        page.close()
    assert not said
    assert asked and all(url.startswith((server.address, "data:")) for url in asked)


def shows_an_answer(page):
    expect(page.locator("#error_now")).to_have_text(re.compile(r"\d"), timeout=60_000)


def count(page, name="num_spike"):
    return int(page.inner_text(f"#{name}").replace(",", ""))


def curve(page):
    """What the model says now, as it is drawn."""
    return page.locator("#curves path.now").first.get_attribute("d")


def click_raster(page, across, row):
    box = page.locator("#raster").bounding_box()
    place = {
        "x": LEFT + across * (box["width"] - LEFT - RIGHT),
        "y": (row + 0.5) * box["height"] / 12,
    }
    page.locator("#raster").click(position=place)


def test_a_click_adds_a_spike_and_undo_takes_it_back(open_page):
    page = open_page()
    before, spikes = curve(page), count(page)
    assert count(page, "num_start") == count(page, "num_stop") == 12
    assert count(page, "num_all") == spikes + 24
    for place in range(5):
        click_raster(page, 0.1 + 0.15 * place, 2)
        # A click on a spike would have removed it.
        expect(page.locator("#undo")).to_be_enabled()
    changed = count(page)
    expect(page.locator("#change")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#curves path.change")).to_have_count(2)
    assert changed != spikes and page.locator("#raster path.added").get_attribute("d")
    assert page.locator("#tokens .new").count() > 0
    for _ in range(5):
        page.click("#undo")
    expect(page.locator("#undo")).to_be_disabled()
    expect(page.locator("#change")).to_have_text("–")
    assert count(page) == spikes and curve(page) == before


def test_silencing_a_unit_changes_the_answer_until_it_is_reset(open_page):
    page = open_page()
    before, spikes = curve(page), count(page)
    page.locator("#raster").hover(position={"x": 200, "y": 60})
    page.click("#silence")
    expect(page.locator("#tokens .gone").first).to_be_visible()
    expect(page.locator("#change")).to_have_text(re.compile(r"\d"))
    assert count(page) < spikes and curve(page) != before
    page.click("#reset")
    expect(page.locator("#change")).to_have_text("–")
    assert count(page) == spikes and curve(page) == before


def test_the_keyboard_is_enough(open_page):
    page = open_page()
    spikes = count(page)
    page.focus("#raster")
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.inner_text("#pointer") == "unit_02, 0.510 s: a spike"
    assert count(page) == spikes + 1
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.inner_text("#pointer") == "unit_02, 0.510 s"
    assert count(page) == spikes
    page.keyboard.press("z")
    assert count(page) == spikes + 1
    page.focus("#number")
    page.keyboard.press("Home")
    expect(page.locator("#number_text")).to_have_text("1")
    expect(page.locator("#curves circle.now")).to_have_count(2)  # one per channel


def test_query_times_are_moved_and_stretched(open_page):
    page = open_page()
    assert page.inner_text("#number_text") == "50" and page.inner_text("#rate_text") == "50 Hz"
    page.fill("#number", "10")
    expect(page.locator("#curves circle.now")).to_have_count(20)
    page.fill("#offset", "0.9")
    expect(page.locator("#number_text")).to_have_text("6 of 10 fit")
    expect(page.locator("#curves circle.now")).to_have_count(12)
    page.fill("#offset", "0.1")
    box = page.locator("#strip").bounding_box()
    wide = box["width"] - LEFT - RIGHT
    page.mouse.move(box["x"] + LEFT + 0.28 * wide, box["y"] + 20)  # at the last one
    page.mouse.down()
    page.mouse.move(box["x"] + LEFT + 0.55 * wide, box["y"] + 20)
    page.mouse.up()
    expect(page.locator("#rate_text")).to_have_text("20 Hz")
    expect(page.locator("#offset_text")).to_have_text("100 ms")
    page.mouse.move(box["x"] + LEFT + 0.3 * wide, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + LEFT + 0.5 * wide, box["y"] + 20)
    page.mouse.up()
    expect(page.locator("#offset_text")).to_have_text("300 ms")
    page.click("#as_measured")
    expect(page.locator("#number_text")).to_have_text("50")


def test_time_and_session_are_chosen(open_page):
    page = open_page()
    assert "18.00 to 19.00 s of the recording, in the test split." in page.inner_text("#place")
    assert "This session has no position" in page.inner_text("#path_text")
    first = curve(page)
    page.click("#later")
    expect(page.locator("#place")).to_contain_text("18.50 to 19.50 s")
    page.fill("#slider", "3")
    expect(page.locator("#place")).to_contain_text(
        "in the train split; the model may have learned from this"
    )
    expect(page.locator("#seconds")).to_have_value("3")
    page.select_option("#session", "simulated/session_1")
    expect(page.locator("#place")).to_contain_text("18.00 to 19.00 s")
    shows_an_answer(page)
    assert curve(page) != first
    expect(page.locator("#status")).to_have_text("", timeout=120_000)


def test_another_session_is_shown_while_the_model_is_prepared(open_page, explorer, monkeypatch):
    page = open_page()
    ready, decoder = Event(), explorer._decoder
    monkeypatch.setattr(explorer, "_decoder", lambda *session: ready.wait(60) and decoder(*session))
    monkeypatch.setattr(explorer, "progress", lambda *session: {"ready": 0, "sizes": 0})
    page.select_option("#session", "simulated/session_1")
    expect(page.locator("#status")).to_contain_text("The model is being prepared for this session")
    page.select_option("#session", UNKNOWN)
    expect(page.locator("#reason")).to_contain_text("fit_units")
    expect(page.locator("#status")).to_have_text("")
    ready.set()


def test_a_session_that_the_model_does_not_know_is_shown_with_the_reason(open_page):
    page = open_page()
    assert "not known to the model" in page.inner_text(f'option[value="{UNKNOWN}"]')
    page.select_option("#session", UNKNOWN)
    expect(page.locator("#reason")).to_contain_text("fit_units")
    expect(page.locator("#curves")).to_be_hidden()
    spikes = count(page)
    click_raster(page, 0.5, 3)
    expect(page.locator("#undo")).to_be_enabled()
    assert count(page) != spikes
    page.select_option("#session", "simulated/session_0")
    expect(page.locator("#curves")).to_be_visible()
    expect(page.locator("#reason")).to_be_hidden()


def test_what_was_typed_and_changed_stays(open_page):
    page = open_page()
    assert page.locator("#raster text").first.text_content() == "00"  # as the unit is named
    assert page.inner_text("#error_now").endswith(" cm/s")
    page.fill("#seconds", "36.123456")
    page.press("#seconds", "Enter")
    expect(page.locator("#place")).to_contain_text("36.12 to 37.12 s")
    shows_an_answer(page)
    click_raster(page, 0.5, 3)
    expect(page.locator("#change")).to_have_text(re.compile(r"\d"))
    changed = count(page)
    page.reload()
    shows_an_answer(page)
    expect(page.locator("#seconds")).to_have_value("36.123456")
    expect(page.locator("#change")).to_have_text(re.compile(r"\d"))
    assert count(page) == changed
    page.fill("#seconds", "59.7")
    page.press("#seconds", "Enter")
    expect(page.locator("#place")).to_contain_text("You typed 59.7 s; windows start from 0.00 to")
    expect(page.locator("#seconds")).to_have_value("59.7")


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_is_dark_in_the_dark(open_page, width):
    page = open_page(width, "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    spikes = count(page)
    click_raster(page, 0.5, 11)
    expect(page.locator("#undo")).to_be_enabled()
    assert count(page) != spikes
    light = open_page(width)
    assert light.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"


def test_what_the_page_needs_is_said(open_page):
    page = open_page(java_script_enabled=False)
    expect(page.locator("#status")).to_contain_text("This page draws with JavaScript")
    expect(page.locator("#app")).to_be_hidden()


def test_an_answer_that_fails_is_said(open_page):
    page = open_page()
    page.route("**/predict", lambda route: route.abort())
    with page.expect_event("console"):
        click_raster(page, 0.5, 3)
    expect(page.locator("#problem")).to_contain_text(
        "The explorer does not answer any more. Start it again"
    )
    open_page.said.clear()  # the browser logs what failed
    page.unroute("**/predict")
    click_raster(page, 0.3, 3)
    expect(page.locator("#problem")).to_be_empty()
