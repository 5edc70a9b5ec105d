"""A fit of rows alone says when a Wiener filter decodes more."""

import logging
from types import SimpleNamespace

import pytest

from poyo_jax import evaluate, fit_units
from poyo_jax.baselines.wiener import valid_r2, wiener_filter
from poyo_jax.data.readout import default_readout
from poyo_jax.errors import DataError
from poyo_jax.finetune import FitConfig, finetune, floor
from poyo_jax.tasks import R2

NEW = "simulated/session_2"
SHORT = FitConfig(num_steps=1, batch_size=4)


def warnings_of(caplog) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == floor.__name__ and record.levelno == logging.WARNING
    ]


def test_rows_below_a_wiener_filter_are_reported(pretrained, tiny_sessions, caplog):
    session = tiny_sessions[2]
    fit = fit_units(pretrained, session, SHORT, progress=False)
    bins = {"bin_size": floor.BIN_SIZE, "past": floor.PAST, "future": floor.FUTURE}
    readout = fit.pretrained.readout(session.id)
    filtered = wiener_filter(session, readout, **bins).r2["valid"]
    assert filtered > 0.2 > fit.valid_r2
    [said] = warnings_of(caplog)
    decoded = evaluate(fit.pretrained, session, "valid").mean
    assert said == (
        f"with fitted rows, the model decodes cursor.vel of {NEW} with valid R² {decoded:.3f}, and"
        f" a Wiener filter with {filtered:.3f}: the frozen backbone does not suit this recording,"
        " so adapt more of it with finetune(strategy='gradual')"
    )


def test_better_rows_and_other_strategies_are_not(pretrained, tiny_sessions, monkeypatch, caplog):
    monkeypatch.setattr(floor, "valid_r2", lambda *_, **__: -100.0)
    fit_units(pretrained, tiny_sessions[2], SHORT, progress=False)
    monkeypatch.setattr(floor, "valid_r2", lambda *_, **__: 100.0)
    whole = FitConfig(num_steps=1, batch_size=4, backbone_rates={"head": 1e-3})
    finetune(pretrained, tiny_sessions[2], whole, progress=False)
    assert warnings_of(caplog) == []


def test_a_filter_that_decodes_nothing_is_no_reason_to_adapt_more(
    pretrained, tiny_sessions, monkeypatch, caplog
):
    monkeypatch.setattr(floor, "valid_r2", lambda *_, **__: -0.1)
    scores = SimpleNamespace(metric=R2, output="behaviour", by_session={NEW: -2000.0})
    monkeypatch.setattr(floor, "score_outputs", lambda *_: [scores])
    fit_units(pretrained, tiny_sessions[2], SHORT, progress=False)
    assert warnings_of(caplog) == []


def test_a_filter_that_cannot_be_fitted_stops_no_fit(
    pretrained, tiny_sessions, monkeypatch, caplog
):
    def no_filter(*_, **__):
        raise DataError("the valid targets do not vary.")

    monkeypatch.setattr(floor, "valid_r2", no_filter)
    with caplog.at_level(logging.INFO):
        fit_units(pretrained, tiny_sessions[2], SHORT, progress=False)
    assert warnings_of(caplog) == []
    assert "no Wiener filter to compare with: the valid targets do not vary." in caplog.text


def test_sessions_without_valid_or_test_split(pretrained, tiny_sessions, caplog):
    session = tiny_sessions[2]
    readout = default_readout(session)
    bins = {"bin_size": 0.1, "past": 3, "future": 1}
    expected = wiener_filter(session, readout, **bins).r2["valid"]
    untested = session.with_splits(test=[])
    assert valid_r2(untested, readout, **bins) == pytest.approx(expected, abs=1e-12)
    fit_units(pretrained, session.with_splits(valid=[]), SHORT, progress=False)
    assert warnings_of(caplog) == []


def test_a_filter_of_very_many_units_is_left_out(pretrained, tiny_sessions, monkeypatch, caplog):
    monkeypatch.setattr(floor, "MOST_UNITS", len(tiny_sessions[2].unit_ids) - 1)
    monkeypatch.setattr(floor, "valid_r2", lambda *_, **__: 0.99)
    fit_units(pretrained, tiny_sessions[2], SHORT, progress=False)
    assert warnings_of(caplog) == []
