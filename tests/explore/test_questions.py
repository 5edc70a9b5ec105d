"""Whatever is sent, the answer is a question or a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.errors import DataError
from poyo_jax.explore.questions import MAX_QUERIES, read_question, read_time

GOOD = {
    "session": "monday",
    "spike_times": [0, 0.5],
    "spike_units": [1, 0],
    "query_times": [0.25, 1.0],
}


def test_a_question_is_read():
    question = read_question(json.dumps(GOOD).encode(), 1.0)
    assert question.session_id == "monday"
    assert question.spike_times.tolist() == [0.0, 0.5] and question.spike_units.tolist() == [1, 0]
    assert question.query_times.tolist() == [0.25, 1.0]
    empty = json.dumps(GOOD | {"spike_times": [], "spike_units": [], "query_times": []}).encode()
    assert read_question(empty, 1.0).spike_times.shape == (0,)
    named = read_question(json.dumps(GOOD | {"output": "hand"}).encode(), 1.0)
    assert (question.output, named.output) == ("", "hand")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the question is not JSON"),
        (b"{", "the question is not JSON"),
        (b"\xff\xfe\x00", "the question is not JSON"),
        (b"[" * 100_000, "the question is not JSON"),
        (b'{"session": ' + b"9" * 5000 + b"}", "the question is not JSON"),
        (b"[1, 2]", r"the question is \[1, 2\]; send a JSON object with session"),
        (b"null", "the question is None; send a JSON object"),
    ],
)
def test_what_is_no_object(body, sentence):
    with pytest.raises(DataError, match=sentence):
        read_question(body, 1.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"spike_time": []},
            "a question has no field 'spike_time'; it has session, .* Did you mean 'spike_times'",
        ),
        ({"session": 3}, "session is 3; give the id of a session as text"),
        ({"output": 3}, "output is 3; give the name of an output as text"),
        ({"spike_times": 3}, "spike_times is 3; send a list of numbers"),
        ({"spike_times": [0.1]}, "there are 1 spike_times and 2 spike_units; give one each"),
        (
            {"spike_times": [0.1, -0.1]},
            r"spike_times has -0.1; a window holds the seconds 0 to 1\.",
        ),
        ({"spike_times": [0.1, 1.1]}, "spike_times has 1.1; a window holds the seconds 0 to 1"),
        (
            {"spike_times": [0.1, 10**400]},
            "spike_times holds a number that is too large; send numbers of 64 bits",
        ),
        ({"spike_times": [0.1, "0.2"]}, "spike_times holds '0.2'; send numbers only"),
        ({"spike_times": [0.1, True]}, "spike_times holds True; send numbers only"),
        ({"spike_times": [0.1, None]}, "spike_times holds None; send numbers only"),
        ({"spike_times": [0.1, [0.2]]}, r"spike_times holds \[0.2\]; send numbers only"),
        ({"spike_units": [0, 1.0]}, "spike_units holds 1.0; send integers only"),
        (
            {"spike_units": [0, 2**70]},
            "spike_units holds a number that is too large; send integers of 64 bits",
        ),
        (
            {"query_times": [float("nan")]},
            r"the question is not JSON \(NaN is not a number of JSON\)",
        ),
        (
            {"query_times": [float("inf")]},
            r"the question is not JSON \(Infinity is not a number of JSON\)",
        ),
        ({"query_times": {"number": -3}}, "query_times is {'number': -3}; send a list of numbers"),
        (
            {"query_times": [0.5] * (MAX_QUERIES + 1)},
            "there are 257 query_times; ask for 256 at most",
        ),
    ],
)
def test_what_is_wrong_with_a_field(change, sentence):
    with pytest.raises(DataError, match=sentence):
        read_question(json.dumps(GOOD | change).encode(), 1.0)


def test_what_is_missing_or_infinite():
    with pytest.raises(
        DataError, match="the question lacks spike_times; it needs session, spike_times"
    ):
        read_question(b'{"session": "monday"}', 1.0)
    with pytest.raises(DataError, match="query_times has inf; a window holds the seconds 0 to 1"):
        read_question(json.dumps(GOOD).replace("0.25", "1e999").encode(), 1.0)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=5)
    ),
)


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_a_sentence_comes_of_noise(body):
    with pytest.raises(DataError):
        read_question(body, 1.0)


@pytest.mark.parametrize("text", ["", "nan", "inf", "one", "9" * 400])
def test_what_is_no_time(text):
    with pytest.raises(DataError, match=r"start is '.*'; give a time of the session in seconds"):
        read_time(text)
    assert read_time("1.5") == 1.5
