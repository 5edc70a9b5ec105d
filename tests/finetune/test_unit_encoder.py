"""Rows that a unit encoder infers without labels."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from poyo_jax import Session, decode, fit_units
from poyo_jax.errors import CheckpointError, ConfigError, DataError, VocabError
from poyo_jax.finetune import FitConfig, UnitEncoder, fit_unit_encoder
from poyo_jax.finetune.same_units import Guess
from poyo_jax.finetune.unit_encoder import with_guesses

NUM_DAYS = 6
MOVED = 4  # units of a day that are on other electrodes than usual


def day_of(session, number, order, *, unit_ids=None, measured=True, **splits):
    """A day on which the electrode at place `i` records the unit `order[i]` of a session."""
    units = [session.spike_times[session.spike_units == unit] for unit in order]
    behaviour = session.behaviour("cursor.vel")
    targets = behaviour.values(0, behaviour.count)
    return Session.from_arrays(
        units,
        unit_ids=list(session.unit_ids) if unit_ids is None else unit_ids,
        target_times=behaviour.times_at(np.arange(behaviour.count)),
        targets=targets if measured else np.full_like(targets, np.nan),
        session_id=f"day_{number}",
        brainset_id="days",
        **splits,
    )


def order_of(number, num_units):
    order = np.arange(num_units)
    moved = np.random.default_rng(number).permutation(num_units)[:MOVED]
    order[moved] = np.roll(order[moved], 1)
    return order


@pytest.fixture(scope="module")
def days(tiny_sessions):
    """Sessions of the same neurons, of which some are on another electrode each day."""
    session = tiny_sessions[0]
    orders = [order_of(number, len(session.unit_ids)) for number in range(NUM_DAYS)]
    return [day_of(session, number, order) for number, order in enumerate(orders)]


@pytest.fixture(scope="module")
def true_rows(pretrained, tiny_sessions):
    """Trained rows of the units of every day."""
    rows = np.asarray(pretrained.params["unit_embedding"])
    rows = rows[pretrained.units.rows(tiny_sessions[0].unit_names)]
    return [rows[order_of(number, len(rows))] for number in range(NUM_DAYS)]


@pytest.fixture(scope="module")
def model(pretrained, tiny_sessions, days, true_rows):
    """A model that knows all days but the last, with the rows of the neurons."""
    name = tiny_sessions[0].id
    session_row = np.asarray(pretrained.params["session_embedding"])
    session_row = session_row[pretrained.sessions.rows([name])[0]]
    readout = pretrained.readouts[name]
    nothing = np.zeros((len(true_rows[0]), 1), np.float32)
    guesses = [
        Guess(rows, session_row, readout, nothing, np.zeros(len(rows), int)) for rows in true_rows
    ]
    return with_guesses(pretrained, days[:-1], guesses[:-1])


@pytest.fixture(scope="module")
def encoder(model, days):
    return fit_unit_encoder(model, days[:-1])


@pytest.fixture(scope="module")
def rows(encoder, model, days):
    """What the encoder infers of the last day."""
    return encoder.rows(model, days[-1])


def test_units_on_other_electrodes_are_recognised(model, days, true_rows, rows):
    known = [
        np.asarray(model.params["unit_embedding"])[model.units.rows(day.unit_names)]
        for day in days[:-1]
    ]
    guess = np.mean(known, axis=0)
    moved = order_of(NUM_DAYS - 1, len(rows)) != np.arange(len(rows))
    assert moved.sum() == MOVED

    def error(found):
        return np.sum((found - true_rows[-1])[moved] ** 2)

    assert error(rows) < 0.7 * error(guess)


def test_neither_labels_nor_the_order_of_units_matter(model, encoder, days, rows, tiny_sessions):
    session, last = tiny_sessions[0], NUM_DAYS - 1
    order = order_of(last, len(rows))
    train = {"train": list(days[-1].split("train"))}
    unlabelled = day_of(session, last, order, measured=False, **train)
    np.testing.assert_allclose(encoder.rows(model, unlabelled), rows, rtol=0, atol=1e-5)
    names = list(session.unit_ids)[::-1]
    backwards = day_of(session, last, order[::-1], unit_ids=names, **train)
    np.testing.assert_allclose(encoder.rows(model, backwards)[::-1], rows, rtol=0, atol=1e-4)


def test_any_number_of_units(model, encoder, days):
    few = days[-1].select_units(days[-1].unit_ids[:1])
    assert encoder.rows(model, few).shape == (1, model.config.model.dim)


def test_the_model_gets_rows_and_nothing_else_changes(model, encoder, days, rows):
    adapted = encoder.adapt(model, days[-1])
    table = np.asarray(adapted.params["unit_embedding"])
    np.testing.assert_array_equal(table[adapted.units.rows(days[-1].unit_names)], rows)
    for name in ("unit_embedding", "session_embedding"):
        old = np.asarray(model.params[name])
        np.testing.assert_array_equal(np.asarray(adapted.params[name])[: len(old)], old)
    jax.tree.map(
        np.testing.assert_array_equal, adapted.params["backbone"], model.params["backbone"]
    )
    assert decode(adapted, days[-1]).r2 > 0


def test_a_fit_tries_the_rows_of_the_encoder(model, encoder, days, rows):
    config = FitConfig(num_steps=1, batch_size=4, learning_rate=1e-9)
    fit = fit_units(
        model, days[-1], config, start_from=encoder, keep_snapshots=True, progress=False
    )
    np.testing.assert_allclose(fit.snapshots[0], rows, rtol=0, atol=1e-6)


def test_a_fit_that_does_not_compare_starts_refuses_the_encoder(model, encoder, days):
    config = FitConfig(num_steps=1, batch_size=4, starts="random")
    with pytest.raises(ConfigError, match="start_from is a unit encoder, whose rows are taken if"):
        fit_units(model, days[-1], config, start_from=encoder, progress=False)


def test_it_is_saved(model, encoder, days, rows, tmp_path):
    encoder.save(tmp_path / "units.safetensors")
    loaded = UnitEncoder.load(tmp_path / "units.safetensors")
    np.testing.assert_array_equal(loaded.rows(model, days[-1]), rows)
    (tmp_path / "cut").write_bytes((tmp_path / "units.safetensors").read_bytes()[:100])
    for name in ("cut", "not there"):
        with pytest.raises(CheckpointError, match="cannot be read as a unit encoder"):
            UnitEncoder.load(tmp_path / name)


def test_models_and_sessions_that_it_is_not_for(model, pretrained, encoder, days, tiny_sessions):
    with pytest.raises(DataError, match="belongs to another model"):
        encoder.rows(pretrained, days[-1])
    backbone = jax.tree.map(lambda leaf: leaf * 2, model.params["backbone"])
    changed = replace(model, params={**model.params, "backbone": backbone})
    with pytest.raises(DataError, match="belongs to another model"):
        encoder.rows(changed, days[-1])
    with pytest.raises(VocabError, match="the model knows session 'days/day_0' already"):
        encoder.adapt(model, days[0])
    with pytest.raises(DataError, match="none of the 12 units of session simulated/session_2 has"):
        encoder.rows(model, tiny_sessions[2])
    with pytest.raises(DataError, match="no two of the given sessions have units of the same ids"):
        fit_unit_encoder(model, days[0])
    with pytest.raises(DataError, match="none of the 0 given sessions has the first output"):
        fit_unit_encoder(model, [])
