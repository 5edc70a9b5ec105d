"""The study of later days with what was learned on the first, with tiny sessions and models."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from indy_names import NAMES

from poyo_jax import Session, open_sessions
from poyo_jax.errors import DataError
from poyo_jax.finetune import STRATEGIES


@pytest.fixture
def months(monkeypatch, recordings, tmp_path):
    """The study on the tiny recordings."""
    short = replace(STRATEGIES["unit_identification"], num_steps=2)
    monkeypatch.setitem(STRATEGIES, "unit_identification", short)
    module = importlib.import_module("experiments.studies.months")
    monkeypatch.setattr(module.real_small, "poyo_small", tiny.config)
    monkeypatch.setattr(module, "MINUTE", 4.0)

    def run(*arguments):
        common = [recordings, "--workdir", tmp_path / "work", "--num-steps", 4]
        module.main([str(argument) for argument in [*common, *arguments]])

    run.module = module
    return run


def test_later_days_are_decoded_once(months, tmp_path, capsys):
    months("--arms", "wiener", "poyo", "poyo_minute", "wiener_minute", "--sessions", NAMES[2])
    lines = (tmp_path / "work" / "results.jsonl").read_text().splitlines()
    cells = [json.loads(line) for line in lines]
    assert [(cell["arm"], cell["session"]) for cell in cells] == [
        ("wiener", NAMES[0]),
        ("wiener", NAMES[2]),
        ("poyo", NAMES[0]),
        ("poyo", NAMES[2]),
        ("poyo_minute", NAMES[2]),
        ("wiener_minute", NAMES[2]),
    ]
    assert [cell["days"] for cell in cells] == [0, 65, 0, 65, 65, 65]
    assert np.isfinite([cell["r2"] for cell in cells]).all()
    months("--arms", "wiener", "poyo", "--sessions", NAMES[2])
    assert (tmp_path / "work" / "results.jsonl").read_text().splitlines() == lines
    assert f"| {NAMES[2]} | 65 |" in capsys.readouterr().out
    assert (tmp_path / "work" / "months.png").stat().st_size > 1000


def test_a_session_that_follows_another_has_its_test_split(months, recordings):
    first, later = open_sessions(recordings, [NAMES[0], NAMES[2]])
    kept = [unit for unit in first.unit_ids if unit in later.unit_ids][::2]
    joined = months.module.followed_by(first.select_units(kept), later)
    assert list(joined.unit_ids) == kept
    assert list(joined.split("train")) == list(first.split("train"))
    assert joined.split("test").duration == pytest.approx(later.split("test").duration)
    shift = joined.split("test").starts[0] - later.split("test").starts[0]
    start = float(later.split("test").starts[0])
    times, units = joined.spikes_between(start + shift, start + shift + 1.0)
    those, their_units = later.select_units(kept).spikes_between(start, start + 1.0)
    np.testing.assert_allclose(times - shift, those, atol=1e-9)
    names = np.array(later.select_units(kept).unit_ids)[their_units]
    assert np.array(joined.unit_ids)[units].tolist() == names.tolist()
    (key,) = joined.behaviour_keys
    assert joined.behaviour(key).count == sum(each.behaviour(key).count for each in (first, later))


def test_units_of_other_ids_are_refused(months):
    sessions = [
        Session.from_arrays(
            [0.0, 9.0], [0, 0], [unit], [0.0, 9.0], np.zeros((2, 2)), session_id=unit
        )
        for unit in ("a", "b")
    ]
    with pytest.raises(DataError, match="no unit id in common"):
        months.module.followed_by(*sessions)


def test_the_day_on_which_a_decoder_has_failed(months):
    cells = [
        {"arm": "poyo", "source": "a", "session": name, "seed": seed, "days": days, "r2": r2 + seed}
        for seed in (0, 1)
        for name, days, r2 in (("a", 0, 0.7), ("b", 4, 0.65), ("c", 11, 0.5), ("d", 80, 0.3))
    ]
    lines = months.module.render(cells, "a").splitlines()
    assert lines[4] == "| a | 0 | 1.200 |" and lines[6] == "| c | 11 | 1.000 |"
    assert lines[-1] == "- POYO, no labels: lower by more than 0.1 after 11 days"
    assert months.module.render(cells[:2], "a").endswith("never lower by more than 0.1")


def test_days_are_in_order_whatever_succeeded_first(months):
    cells = [
        {"arm": "poyo", "source": "a", "session": name, "seed": seed, "days": days, "r2": r2}
        for name, seed, days, r2 in (("a", 0, 0, 0.7), ("c", 0, 11, 0.5), ("b", 1, 4, 0.5))
    ]
    lines = months.module.render(cells, "a").splitlines()
    assert [line[2] for line in lines[4:7]] == ["a", "b", "c"]
    assert lines[-1].endswith("after 4 days")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--source", "indy_20150101_01"), "lacks recordings of the monkey Indy, indy_20150101_01"),
        (("--sessions", NAMES[0]), "sessions from after 2016-10-03"),
    ],
)
def test_other_recordings_are_refused(months, options, text, capsys):
    with pytest.raises(SystemExit):
        months(*options)
    assert text in " ".join(capsys.readouterr().err.split())
