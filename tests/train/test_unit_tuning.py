"""Units that start from their tuning."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
from relabelled import labels_of, with_labels

from poyo_jax import Session
from poyo_jax.data.readout import default_readout
from poyo_jax.errors import DataError
from poyo_jax.train.setup import TrainSetup
from poyo_jax.tuning import tuning_features, untrained_rows


def job(sessions, unit_start="tuning", optimizer="adamw") -> TrainSetup:
    config = tiny.config()
    optim = replace(config.optim, unit_start=unit_start, name=optimizer)
    return TrainSetup(replace(config, optim=optim), sessions, {})


def test_their_rows_are_added_to_the_scatter_of_fresh_ones(tiny_sessions):
    tuned, drawn = job(tiny_sessions), job(tiny_sessions, "random")
    state, fresh = tuned.first_state(), drawn.first_state()
    added = np.asarray(state.params["unit_embedding"]) - np.asarray(fresh.params["unit_embedding"])
    expected = np.zeros_like(added)
    for source in tuned.batches.sessions:
        features = tuning_features(source.session, source.readout, source.session.split("train"))
        expected[source.unit_rows] = untrained_rows(features, expected.shape[1])
    np.testing.assert_allclose(added, expected, atol=1e-6)
    assert not expected[0].any()  # padding
    assert np.abs(expected[1:]).sum(axis=1).min() > 0


@pytest.mark.parametrize("optimizer", ["adamw", "sparse_lamb"])
def test_nothing_else_changes(optimizer, tiny_sessions):
    """But for the norm of the table, which LAMB keeps in its state."""
    setup, drawn = (job(tiny_sessions, start, optimizer) for start in ("tuning", "random"))
    state, fresh = setup.first_state(), drawn.first_state()
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    others = [state._replace(params={**x.params, "unit_embedding": 0}) for x in (state, fresh)]
    jax.tree.map(np.testing.assert_array_equal, others[0].params, others[1].params)
    expected = setup.state_of(state.params).opt_state
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, expected)
    squared_norm = np.sum(np.square(state.params["unit_embedding"]))
    numbers = [x for x in jax.tree.leaves(state.opt_state) if x.shape == ()]
    kept = [x for x in numbers if np.isclose(x, squared_norm)]
    assert len(kept) == (optimizer == "sparse_lamb")


def test_labels_of_the_other_splits_are_not_looked_at(tiny_sessions):
    session = tiny_sessions[0]
    times, values = labels_of(session)
    train = session.split("train")

    def table(values):
        other = with_labels(session, values)
        state = TrainSetup(
            tiny.config(), [other], {other.id: default_readout(session)}
        ).first_state()
        return np.asarray(state.params["unit_embedding"])

    elsewhere, inside = values.copy(), values.copy()
    elsewhere[~train.contains(times)] *= -3
    inside[train.contains(times)] *= -3
    np.testing.assert_array_equal(table(elsewhere), table(values))
    assert np.abs(table(inside) - table(values)).max() > 0.05


def test_a_session_without_labels_is_refused(tiny_sessions):
    """Its tuning cannot be known, and there is nothing to train on."""
    session = tiny_sessions[0]
    times, values = np.arange(3000) / 50, np.ones((3000, 2))
    values[session.split("train").contains(times)] = np.nan
    other = Session.from_arrays(
        [0.5, 1.0], [0, 0], ["a"], times, values, session_id="other"
    ).with_splits(train=session.split("train"))
    with pytest.raises(DataError, match="session other has no finite sample in the train split"):
        TrainSetup(tiny.config(), [other], {other.id: default_readout(session)}).first_state()
