"""The study of one monkey over months, as its users run it, with tiny sessions and models."""

import importlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from indy_names import NAMES

from experiments.studies.sessions import beginning
from poyo_jax import Session, load
from poyo_jax.baselines import BASELINES, WienerSearch
from poyo_jax.errors import Interrupted
from poyo_jax.finetune import STRATEGIES


@pytest.fixture
def indy(monkeypatch, recordings, tmp_path):
    """The study on the tiny recordings; keywords are its options."""
    monkeypatch.setitem(BASELINES, "wiener", WienerSearch(bin_sizes=(0.06,), reaches=((0.3, 0.1),)))
    for name in ("unit_identification", "gradual"):
        short = replace(STRATEGIES[name], num_steps=4, unit_steps=2 if name == "gradual" else 0)
        monkeypatch.setitem(STRATEGIES, name, short)
    module = importlib.import_module("experiments.studies.indy")
    monkeypatch.setattr(module.real_small, "poyo_small", tiny.config)

    def run(*arguments):
        common = [recordings, "--workdir", tmp_path, "--held-out", NAMES[-1], "--seeds", 0]
        common += ["--pretrain-steps", 4, "--single-steps", 4]
        module.main([str(argument) for argument in [*common, *arguments]])

    run.module = module
    return run


def results(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_all_kinds_of_rows_are_filled_once(indy, tmp_path, capsys):
    rows = ["wiener", "no_labels", "no_labels_alike", "no_labels_minute", "unit_identification"]
    rows += ["unit_identification_new_rows", "unit_identification_alike", "gradual"]
    indy("--rows", *rows, "poyo_single", "--seconds", 0)
    found = results(tmp_path)
    assert [cell["row"] for cell in found] == [*rows, "poyo_single"]
    scores = {cell["row"]: cell["r2"] for cell in found}
    assert np.isfinite(list(scores.values())).all()
    text = (tmp_path / "indy.md").read_text()
    gap = scores["gradual"] - scores["wiener"]
    shown = (
        f"| POYO + finetuning | {scores['gradual']:.3f} | {scores['gradual']:.3f} | {gap:+.3f} |"
    )
    assert shown in text and "Not run yet" not in text
    assert text.strip() in capsys.readouterr().out
    assert (tmp_path / "indy.png").stat().st_size > 10_000
    known = load(tmp_path / "pretrain" / "seed_0").sessions.names
    assert list(known) == ["simulated/session_0", "simulated/session_1"]

    indy("--rows", *rows, "--seconds", 0)
    assert results(tmp_path) == found


def test_a_study_that_stops_leaves_its_table_and_what_is_missing(
    indy, monkeypatch, tmp_path, capsys
):
    fill = indy.module.fill

    def until_fit(cell, *others):
        if cell["row"] != "wiener":
            raise Interrupted("stopped")
        return fill(cell, *others)

    monkeypatch.setattr(indy.module, "fill", until_fit)
    with pytest.raises(SystemExit):
        indy("--rows", "wiener", "gradual", "--seconds", 0, 5)
    text = (tmp_path / "indy.md").read_text()
    assert "Test R2, all labels" in text
    assert (
        "Not run yet (number of sessions): all labels, seed 0: POYO + finetuning (1); 5 s of"
        " labels, seed 0: everything. The same command continues." in text
    )


def test_all_decoders_get_the_same_few_labels(indy, recordings):
    session = Session.open(recordings / f"{NAMES[-1]}.h5")
    part = indy.module.labelled(session, 5.0, seed=1)
    assert part.split("train").duration == pytest.approx(5.0)
    assert list(part.split("test")) == list(session.split("test"))
    assert indy.module.labelled(session, 0.0, seed=1) is session


def test_rows_say_where_their_fit_starts(indy, monkeypatch):
    asked = []

    def without_labels(model, session, earlier):
        asked.append((model, session, earlier))
        return "adapted"

    def finetune(model, sessions, config, *, start_from, known):
        asked.append((model, sessions, config.seed, start_from, known))
        return SimpleNamespace(pretrained="fitted")

    monkeypatch.setattr("poyo_jax.finetune.adapt_without_labels", without_labels)
    monkeypatch.setattr("poyo_jax.finetune.finetune", finetune)
    for row in ("gradual", "gradual_new_rows", "gradual_alike"):
        assert indy.module.adapted(row, "session", 3, "model", ["earlier"]) == "fitted"
    assert asked == [
        ("model", ["session"], 3, None, "refuse"),
        ("model", ["session"], 3, {}, "refuse"),
        ("model", "session", ["earlier"]),
        ("adapted", ["session"], 3, None, "refit"),
    ]


def test_cells_of_another_length_are_others(indy):
    module, keys = indy.module, []
    for steps in (10, 20):
        options = module.Indy(
            data=module.Path("sessions"), pretrain_steps=steps, single_steps=steps, seeds=(0,)
        )
        keys.append({module.key(cell) for cell in module.cells(options)})
    assert {key[0] for key in keys[0] & keys[1]} == {
        "wiener_fixed",
        "wiener",
        "kalman",
        "gru",
        "mlp",
    }


def test_the_beginning_of_a_session_is_all_that_is_seen(recordings):
    session = Session.open(recordings / f"{NAMES[-1]}.h5")
    start = session.domain.starts[0]
    short = beginning(session, 5.0)
    assert short.id == session.id and short.unit_ids == session.unit_ids
    assert list(short.domain) == [(start, start + 5.0)]
    spikes = session.spikes_between(start, start + 5.0)
    for kept, expected in zip((short.spike_times, short.spike_units), spikes, strict=True):
        np.testing.assert_array_equal(kept[:], expected)


def test_spreads_are_over_seeds_and_sessions(indy):
    module = indy.module
    cells = [
        {"row": row, "session": name, "seconds": 0.0, "seed": seed, "r2": r2}
        for row, name, seed, r2 in [
            ("wiener", "a", 0, 0.5),
            ("wiener", "b", 0, 0.6),
            ("gru", "a", 0, 0.6),
            ("gru", "b", 0, 0.6),
            ("gru", "a", 1, 0.8),
            ("gru", "b", 1, 0.8),
        ]
    ]
    [row] = [line for line in module.table(cells, "all labels") if line.startswith("| GRU")]
    assert row == "| GRU | 0.700 | 0.700 | 0.700 [0.141, 2] | +0.150 ± 0.050 | 2 of 2 |"


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (["indy_20170131_02"], "lacks recordings of the monkey Indy: indy_20170131_02. Make the"),
        ([NAMES[0]], "lacks recordings of the monkey Indy: sessions from before 2016-10-03."),
        (["session_2"], "session 'session_2' does not tell its day"),
    ],
)
def test_a_folder_without_the_sessions_says_what_makes_them(
    indy, recordings, tmp_path, capsys, held_out, said
):
    with pytest.raises(SystemExit) as exit:
        indy("--held-out", *held_out)
    assert exit.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    if "lacks" in said:
        assert "`python -m data_prep prepare odoherty_sabes_nonhuman_2017`" in error
