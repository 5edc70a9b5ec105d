import pytest
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import VocabError

names = st.lists(st.text(max_size=4), unique=True, max_size=20)


@given(names, st.data())
def test_rows_number_the_names_from_one_because_row_0_is_padding(known, data):
    vocab = Vocab(known)
    asked = data.draw(st.lists(st.sampled_from(known), max_size=30)) if known else []
    rows = vocab.rows(asked)
    assert rows.dtype == "int32" and rows.tolist() == [known.index(name) + 1 for name in asked]
    assert [vocab.names[row - 1] for row in rows] == asked
    assert len(vocab) == len(known) and vocab.num_rows == len(known) + 1
    assert all(name in vocab for name in known) and "longer" not in vocab


@given(names, st.integers(0, 20))
def test_extending_leaves_the_rows_of_present_names(known, first):
    vocab = Vocab(known[:first])
    extended = vocab.extend(known[first:])
    assert extended == Vocab(known) and len(vocab) == len(known[:first])
    assert extended.rows(known[:first]).tolist() == vocab.rows(known[:first]).tolist()


def test_equality_is_of_names_in_their_order():
    assert Vocab("ab") == Vocab(["a", "b"]) != Vocab("ba")
    assert Vocab("ab") != ("a", "b")
    assert hash(Vocab("ab")) == hash(Vocab(["a", "b"]))
    assert repr(Vocab("ab")) == "Vocab(2 names)"


def test_names_that_occur_twice_are_refused():
    sentence = (
        "'x/u1' occurs twice. Units and sessions need distinct names: give the sessions distinct"
        " ids."
    )
    with pytest.raises(VocabError, match=sentence):
        Vocab(["x/u0", "x/u1", "x/u2", "x/u1"])
    with pytest.raises(VocabError, match=sentence):
        Vocab(["x/u0", "x/u1"]).extend(["x/u1"])


def test_unknown_names_are_refused_with_near_matches():
    vocab = Vocab(["monkey/unit_01", "monkey/unit_02"])
    with pytest.raises(
        VocabError,
        match=r"'monkey/unit_1' is not in the vocabulary of 2 names\. Did you mean 'monk",
    ):
        vocab.rows(["monkey/unit_02", "monkey/unit_1"])
    with pytest.raises(VocabError, match=r"'x' is not .* of 1 name\. Choose lab/monday\.$"):
        Vocab(["lab/monday"]).rows(["x"])
    many = Vocab(f"unit_{number}" for number in range(9))
    with pytest.raises(
        VocabError, match=r"Choose unit_0, unit_1, unit_2, unit_3, unit_4, \.\.\.\.$"
    ):
        many.rows(["x"])
    with pytest.raises(VocabError, match=r"'zzz' is not in the vocabulary of 0 names\.$"):
        Vocab().rows(["zzz"])


def test_the_session_of_a_unit_is_the_longest_that_its_name_begins_with():
    sessions = Vocab(["lab", "lab/monday", "tuesday"])
    assert sessions.beginning_of("lab/monday/unit_1") == "lab/monday"
    assert sessions.beginning_of("lab/friday/unit_1") == "lab"
    assert sessions.beginning_of("tuesday") == sessions.beginning_of("friday/unit_1") == ""
