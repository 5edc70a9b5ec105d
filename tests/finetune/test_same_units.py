"""Sessions whose electrodes are known decode without labels, by mean rows."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from poyo_jax import Session, decode
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune import adapt_without_labels
from poyo_jax.finetune.activity import likeness, unit_activity


def day_of(session: Session, name: str) -> Session:
    """The recording again, as another session of its data set."""
    behaviour = session.behaviour("cursor.vel")
    return Session.from_arrays(
        [session.spike_times[session.spike_units == unit] for unit in range(len(session.unit_ids))],
        unit_ids=[str(unit) for unit in session.unit_ids],
        target_times=behaviour.times_at(np.arange(behaviour.count)),
        targets=behaviour.values(0, behaviour.count),
        session_id=name,
        brainset_id=session.brainset_id,
    )


@pytest.fixture(scope="module")
def later(tiny_sessions):
    return day_of(tiny_sessions[0], "later")


@pytest.fixture(scope="module")
def adapted(pretrained, later):
    return adapt_without_labels(pretrained, later)


def test_units_have_the_mean_rows_of_their_ids(adapted, pretrained, later):
    table = np.asarray(pretrained.params["unit_embedding"])
    new = np.asarray(adapted.params["unit_embedding"])[adapted.units.rows(later.unit_names)]
    for unit, row in zip(later.unit_ids, new, strict=True):
        names = [f"{name}/{unit}" for name in pretrained.sessions.names]
        known = pretrained.units.rows([name for name in names if name in pretrained.units])
        assert len(known) == 2  # one in each session of pretraining
        np.testing.assert_allclose(row, table[known].mean(axis=0), rtol=0, atol=1e-6)


def test_the_session_and_its_readout_are_means_over_the_known_sessions(pretrained, later):
    first, second = pretrained.sessions.names
    readouts = {
        first: replace(pretrained.readouts[first], mean=(1.0, 0.0), std=(3.0, 1.0)),
        second: replace(pretrained.readouts[second], mean=(2.0, -4.0), std=(4.0, 7.0)),
    }
    adapted = adapt_without_labels(replace(pretrained, readouts=readouts), later)
    readout = adapted.readouts[later.id]
    assert readout.mean == (1.5, -2.0)
    assert readout.std == pytest.approx((12.5**0.5, 5.0))
    rows = np.asarray(adapted.params["session_embedding"])
    [row] = rows[adapted.sessions.rows([later.id])]
    one, other = rows[adapted.sessions.rows([first, second])]
    np.testing.assert_allclose(row, (one + other) / 2, rtol=0, atol=1e-6)


def test_nothing_else_changes(adapted, pretrained):
    for name in ("unit_embedding", "session_embedding"):
        old = np.asarray(pretrained.params[name])
        np.testing.assert_array_equal(np.asarray(adapted.params[name])[: len(old)], old)
    backbones = adapted.params["backbone"], pretrained.params["backbone"]
    jax.tree.map(np.testing.assert_array_equal, *backbones)


def test_one_known_session_is_decoded_as_it_was(pretrained, tiny_sessions, later):
    """The mean over one session is that session, whose spikes and behaviour these are."""
    first, second = tiny_sessions[0], tiny_sessions[1].id
    alone = replace(
        pretrained,
        units=Vocab(name.replace(second, "elsewhere/one") for name in pretrained.units.names),
        sessions=Vocab(name.replace(second, "elsewhere/one") for name in pretrained.sessions.names),
        readouts={
            name.replace(second, "elsewhere/one"): readout
            for name, readout in pretrained.readouts.items()
        },
    )
    assert f"elsewhere/one/{later.unit_ids[0]}" in alone.units
    adapted = adapt_without_labels(alone, later)
    own = decode(pretrained, first, split="all").values
    np.testing.assert_allclose(decode(adapted, later, split="all").values, own, rtol=0, atol=1e-4)


def test_a_unit_of_a_new_id_has_the_mean_row_of_all(pretrained, later):
    ids = [*later.unit_ids[:-1], "new"]
    behaviour = later.behaviour("cursor.vel")
    session = Session.from_arrays(
        later.spike_times,
        later.spike_units,
        ids,
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id="other",
        brainset_id=later.brainset_id,
    )
    adapted = adapt_without_labels(pretrained, session)
    [row] = adapted.units.rows([session.unit_names[-1]])
    table = np.asarray(pretrained.params["unit_embedding"])
    expected = table[1 : pretrained.units.num_rows].mean(axis=0)
    np.testing.assert_allclose(adapted.params["unit_embedding"][row], expected, atol=1e-6)


def test_sessions_of_which_nothing_is_known(pretrained, tiny_sessions, later):
    with pytest.raises(VocabError, match=f"the model knows session '{tiny_sessions[0].id}'"):
        adapt_without_labels(pretrained, tiny_sessions[0])
    stranger = Session.from_arrays(
        [[1.0], [2.0]],
        unit_ids=["a", "b"],
        target_times=[0.0, 5.0],
        targets=[[0.0, 1.0], [1.0, 0.0]],
        session_id="stranger",
        brainset_id=later.brainset_id,
    )
    with pytest.raises(DataError, match=r"none of the 2 units of session .* has the id of a unit"):
        adapt_without_labels(pretrained, stranger)


def test_units_that_fire_alike_weigh_more(pretrained, tiny_sessions, later):
    """The new session is the first one again, so the rows of the first one weigh most."""
    first, second = (
        next(session for session in tiny_sessions if session.id == name)
        for name in pretrained.sessions.names
    )
    adapted = adapt_without_labels(pretrained, later, earlier=[second, first])
    table = np.asarray(pretrained.params["unit_embedding"])
    new = np.asarray(adapted.params["unit_embedding"])[adapted.units.rows(later.unit_names)]
    weights = {
        session.id: likeness(unit_activity(later), unit_activity(session))
        for session in (first, second)
    }
    for unit, row in zip(later.unit_ids, new, strict=True):
        one, other = table[pretrained.units.rows([f"{first.id}/{unit}", f"{second.id}/{unit}"])]
        share = weights[first.id][unit] / (weights[first.id][unit] + weights[second.id][unit])
        np.testing.assert_allclose(row, share * one + (1 - share) * other, rtol=0, atol=1e-5)
        assert share > 0.5


def test_one_recording_of_an_earlier_session_has_all_the_weight(pretrained, tiny_sessions, later):
    adapted = adapt_without_labels(pretrained, later, earlier=tiny_sessions[:1])
    rows = np.asarray(adapted.params["unit_embedding"])
    known = [f"{tiny_sessions[0].id}/{unit}" for unit in later.unit_ids]
    expected = rows[pretrained.units.rows(known)]
    np.testing.assert_allclose(rows[adapted.units.rows(later.unit_names)], expected, atol=1e-6)
    assert adapted.readouts[later.id] == pretrained.readouts[tiny_sessions[0].id]


def test_a_recording_that_the_model_does_not_know(pretrained, tiny_sessions, later):
    with pytest.raises(VocabError, match=f"'{later.brainset_id}/tomorrow' is not in the vocab"):
        adapt_without_labels(pretrained, later, earlier=[day_of(tiny_sessions[0], "tomorrow")])
