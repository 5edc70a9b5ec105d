"""The page lists the outputs of a session; the explorer behind it is made up."""

import re
from threading import Thread

import pytest

from poyo_jax.explore.server import ExplorerServer

expect = pytest.importorskip(
    "playwright.sync_api", reason="pages are tested with playwright: pip install it"
).expect

QUANTITIES = {"hand": "hand.vel", "direction": "reach.direction"}
OUTPUTS = {"both": ["hand", "direction"], "one": ["hand"]}
TIMES = [0.1, 0.5, 0.9]


class MadeUp:
    """Says 2 for the hand and 1 for the direction, and one more where a spike is missing."""

    window_length = 1.0

    def overview(self):
        common = {"known": True, "num_units": 1, "starts": (0.0, 9.0), "first": 3.0}
        sessions = [{"id": name} | common for name in OUTPUTS]
        return {"model": "", "sessions": sessions, "window_length": 1.0, "max_queries": 256}

    def window(self, session_id, start, output):
        outputs = OUTPUTS[session_id]
        output = output or outputs[0]
        assert output in outputs
        return {
            **{"start": start, "unit_ids": ["a"], "unit_labels": ["a"], "splits": ["test"]},
            **{"spike_times": [0.2, 0.6], "spike_units": [0, 0], "problem": None},
            **{"outputs": outputs, "output": output, "quantity": QUANTITIES[output], "unit": ""},
            **{"targets": {"times": TIMES, "values": [[0.0]] * 3}, "query_times": TIMES},
            "position": None,
        }

    def predict(self, question):
        value = {"hand": 2.0, "direction": 1.0}[question.output] + 2 - len(question.spike_times)
        tokens = {"spike": len(question.spike_times), "start": 1, "stop": 1}
        return {"values": [[value]] * len(question.query_times), "tokens": tokens}

    def progress(self, session_id, output):
        return {"ready": 1, "sizes": 1}


@pytest.fixture
def page(browser):
    with ExplorerServer(MadeUp()) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        page, said = browser.new_page(), []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(server.address)
        yield page
        page.close()
        server.shutdown()
        thread.join()
    assert not said


@pytest.mark.unchecked
def test_another_output_is_chosen_and_edits_stay(page):
    expect(page.locator("#error_now")).to_have_text(re.compile("^2"))
    expect(page.locator("#quantity")).to_contain_text("hand.vel")
    page.click("#silence")
    expect(page.locator("#error_now")).to_have_text(re.compile("^4"))
    page.select_option("#output", "direction")
    expect(page.locator("#quantity")).to_contain_text("reach.direction")
    expect(page.locator("#error_before")).to_have_text(re.compile("^1"))
    expect(page.locator("#error_now")).to_have_text(re.compile("^3"))
    page.reload()
    expect(page.locator("#error_now")).to_have_text(re.compile("^3"))
    assert page.input_value("#output") == "direction"
    page.select_option("#session", "one")
    expect(page.locator("#error_now")).to_have_text(re.compile("^2"))
    expect(page.locator("#several")).to_be_hidden()
