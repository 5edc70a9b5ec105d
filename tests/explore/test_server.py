"""The server answers its own page, refuses all else in a sentence, and keeps running."""

import http.client
import json
import socket
from inspect import signature

import pytest

from poyo_jax.errors import ConfigError
from poyo_jax.explore.server import ExplorerServer
from poyo_jax.page_server import MAX_BODY

ID = "simulated/session_0"
JSON = {"Content-Type": "application/json"}
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def ask(server):
    """Ask the server; gives the status and what came back, as JSON unless it is the page."""

    def ask(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(*server.server_address, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            content = reply.read().decode()
            assert "Traceback" not in content
            return (
                reply,
                content if reply.headers.get_content_type() == "text/html" else json.loads(content),
            )
        finally:
            connection.close()

    return ask


@pytest.fixture
def question(ask):
    """A good question: the unedited window."""
    window = ask("GET", "/window?session=simulated%2Fsession_0&start=18")[1]
    return {
        "session": ID,
        **{name: window[name] for name in ("spike_times", "spike_units", "query_times")},
    }


def test_the_page_needs_nothing_else(ask):
    reply, page = ask("GET", "/")
    assert reply.status == 200 and page.startswith("<!doctype html>")
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy


def test_questions_are_answered(ask, question, explorer):
    reply, answer = ask("POST", "/predict", json.dumps(question), JSON)
    assert reply.status == 200 and len(answer["values"]) == 50 and answer["tokens"]["start"] == 12
    assert ask("GET", "/sessions")[1]["sessions"][0]["id"] == ID
    assert ask("GET", "/progress?session=simulated%2Fsession_0")[1]["sizes"] > 0


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        ("{", JSON, "the question is not JSON"),
        ("[]", JSON, "the question is []; send a JSON object"),
        ('{"session": NaN}', JSON, "the question is not JSON (NaN is not a number of JSON)"),
        ("{}", {}, "the question is not marked as application/json"),
        ("{}", {"Content-Type": "text/plain"}, "the question is not marked as application/json"),
        (
            b" " * (MAX_BODY + 1),
            JSON,
            f"the question has {MAX_BODY + 1} bytes; send {MAX_BODY} at most",
        ),
        (iter([b"{}"]), JSON, "Content-Length is ''; say how many bytes"),
    ],
)
def test_malformed_questions(ask, question, body, headers, sentence):
    reply, answer = ask("POST", "/predict", body, headers)
    assert reply.status == 400 and answer["error"].startswith(sentence)
    assert ask("POST", "/predict", json.dumps(question), JSON)[0].status == 200


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spike_times": "all"}, "spike_times is 'all'; send a list of numbers."),
        (
            {"spike_times": [-1], "spike_units": [0]},
            "spike_times has -1; a window holds the seconds 0 to 1.",
        ),
        (
            {"spike_times": [0.5], "spike_units": [99]},
            "the window has spikes of units 99 to 99, but the session has",
        ),
        (
            {"spike_times": [0.5], "spike_units": [-1]},
            "the window has spikes of units -1 to -1, but the session has",
        ),
        (
            {"spike_times": [0.5] * 9999, "spike_units": [0] * 9999},
            "the window has 9999 spikes; send",
        ),
        ({"session": "../../etc/passwd"}, "there is no session '../../etc/passwd' here."),
        (
            {"session": "simulated/session_2"},
            "the model does not know session 'simulated/session_2'",
        ),
    ],
)
def test_questions_without_an_answer(ask, question, change, sentence):
    reply, answer = ask("POST", "/predict", json.dumps(question | change), JSON)
    assert reply.status == 400 and answer["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        (
            "/../../../../etc/passwd",
            404,
            "there is no GET '/../../../../etc/passwd' here; open the page at /.",
        ),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "there is no GET '/%2e%2e/%2e%2e/etc/passwd' here"),
        ("//etc/passwd", 404, "there is no GET"),
        ("/page.html", 404, "there is no GET '/page.html' here"),
        ("/predict", 404, "there is no GET '/predict' here"),
        ("/window?session=../../secret&start=0", 400, "there is no session '../../secret' here."),
        ("/window?session=simulated/session_0%00.h5&start=0", 400, "there is no session"),
        (
            "/window?session=simulated/session_0",
            400,
            "the address has 0 values for 'start'; give one.",
        ),
        (
            "/window?session=a&session=b&start=0",
            400,
            "the address has 2 values for 'session'; give one.",
        ),
        ("/window?" + "x=1&" * 50, 400, "the address has 0 values for 'session'"),
        ("/window?session=simulated/session_0&start=nan", 400, "start is 'nan'; give a time"),
        (
            "/window?session=simulated/session_0&start=-1",
            400,
            "start is -1 s, but windows of simulated/session_0",
        ),
    ],
)
def test_addresses_without_an_answer(ask, path, status, sentence):
    reply, answer = ask("GET", path)
    assert reply.status == status and answer["error"].startswith(sentence)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "evil.example:127"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_names_and_other_pages_are_refused(ask, question, headers):
    for method, path, body in (
        ("GET", "/sessions", None),
        ("POST", "/predict", json.dumps(question)),
    ):
        reply, answer = ask(method, path, body, headers | JSON)
        assert reply.status == 403 and "error" in answer


def test_its_own_page_and_a_link_to_it_are_not_refused(ask, server):
    host = f"localhost:{server.server_address[1]}"
    own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert ask("GET", "/sessions", None, own)[0].status == 200
    assert (
        ask("GET", "/", None, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[
            0
        ].status
        == 200
    )


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"nonsense\r\n\r\n", "Bad request syntax"),
        (b"GET / HTTP/9.9\r\n\r\n", "Invalid HTTP version"),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", "Unsupported method"),
        (b"GET / HTTP/1.1\r\n\r\n", "this page is served as 127.0.0.1 or localhost"),
        (b"GET http://[bad/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "'http://[bad/' is no address"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "this page is served as"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", "Request-URI Too Long"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", "Too many headers"),
        (POST + b"Content-Length: -5\r\n\r\n", "Content-Length is '-5'"),
        (POST + b"Content-Length: 99\r\n\r\n{", "the question is not JSON"),
        (b"GET / HTTP/1.1\r\nHost: loc", None),  # and gone
    ],
)
def test_noise_is_answered_or_ignored(ask, server, sent, sentence):
    with socket.create_connection(server.server_address, timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read().decode()
    assert "Traceback" not in answer
    if sentence is not None:
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"].startswith(sentence)
    assert ask("GET", "/")[0].status == 200


def test_a_failure_of_its_own_is_no_stack_trace(ask, explorer, monkeypatch, caplog):
    monkeypatch.setattr(explorer, "overview", lambda: 1 / 0)
    reply, answer = ask("GET", "/sessions")
    assert reply.status == 500 and answer == {
        "error": "the program failed at this; its terminal tells more."
    }
    assert "ZeroDivisionError" in caplog.text
    assert ask("GET", "/")[0].status == 200


def test_many_connections_may_wait(server):
    assert server.request_queue_size >= 100


def test_it_listens_on_loopback_only(server, explorer):
    assert server.server_address[0] == "127.0.0.1" and server.address.startswith(
        "http://127.0.0.1:"
    )
    assert list(signature(ExplorerServer).parameters) == ["explorer", "port"]
    with pytest.raises(
        ConfigError,
        match=r"port \d+ cannot be opened: Address already in use. Give another, or none",
    ):
        ExplorerServer(explorer, server.server_address[1])
    with pytest.raises(ConfigError, match="port 70000 cannot be opened: ports are 0 to 65535"):
        ExplorerServer(explorer, 70_000)
