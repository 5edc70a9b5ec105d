"""The recipe study, with tiny models: what it trains on, what it finds, and how it goes on."""

import importlib
import json

import numpy as np
import pytest
import tiny

from poyo_jax import Session

ARMS = [
    "published, rate x 4",
    "ours, 0.5 of the data",
    "ours, but weights averaged",
]


@pytest.fixture
def script():
    return importlib.import_module("experiments.studies.recipe")


@pytest.fixture
def recipe(monkeypatch, script):
    """The script, with a tiny model in place of the small one."""
    monkeypatch.setattr(script, "poyo_small", tiny.config)
    monkeypatch.setattr(script, "BATCH", 16)
    monkeypatch.setattr(script, "LOOKS", 2)
    return script


def test_every_recipe_is_another_one(script):
    arms = script.arms()
    assert len(
        {(arm.config, arm.share, arm.one_scale, arm.averaged) for arm in arms.values()}
    ) == len(arms)


def test_held_out_pieces_are_of_train_and_valid_alone(recipe):
    session = tiny.simulate(0)
    seen, test = recipe.scattered(session), session.split("test")
    train, valid = seen.split("train"), seen.split("valid")
    assert not seen.has_split("test")
    assert not len(train.intersect(valid)) and not len(train.union(valid).intersect(test))
    have = session.split("train").union(session.split("valid"))
    assert train.duration + valid.duration == pytest.approx(have.duration)
    assert 0.05 < valid.duration / have.duration < 0.4


def test_the_study(recipe, tiny_data, tmp_path, monkeypatch, capsys):
    common = [str(tiny_data), "--workdir", str(tmp_path), "--num-seconds", "160", "--seeds", "0"]
    recipe.main([*common, "--arms", *ARMS[:2]])
    assert "| ours, 0.5 of the data | 80 | " in capsys.readouterr().out
    recipe.main([*common, "--arms", *ARMS])
    out = capsys.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [cell["arm"] for cell in found] == ARMS  # the first two were not trained again
    for cell in found:
        data_seen, seconds, r2 = np.array(cell["curve"]).T
        assert data_seen[-1] == cell["num_seconds"] == (160 if "published" in cell["arm"] else 80)
        assert (np.diff(seconds) > 0).all() and r2[-1] == cell["r2"]
        norms, ranks = np.array(cell["health"]).T[1:]
        assert (norms > 1).all() and (ranks >= 1).all() and (ranks <= 16).all()
    last, averaged = (found[place]["curve"] for place in (1, 2))
    assert [look[2] for look in last][:-1] == [look[2] for look in averaged][:-1]
    assert (
        last[-1][2] != averaged[-1][2]
    )  # the same run, scored at its end and as the mean of five points
    assert "recipe.png" in out and (tmp_path / "recipe.png").stat().st_size > 5000
    assert (tmp_path / "recipe.md").read_text().count("\n| ") == 3
    assert json.loads((tmp_path / "recipe.json").read_text()) == found
    assert all(
        isinstance(session, Session)
        for session in recipe.find_sessions(recipe.Recipe(data=tiny_data))
    )
    # a run that fails leaves the others
    monkeypatch.setattr(recipe, "common_scale", lambda sessions: {"nobody": None})
    recipe.main([*common, "--arms", ARMS[1], "ours, but one target scale"])
    out = capsys.readouterr().out
    assert "| ours, 0.5 of the data | 80 |" in out
    assert "- ours, but one target scale, seed 0: " in out


def test_an_unknown_recipe(recipe, tiny_data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipe.main([str(tiny_data), "--workdir", str(tmp_path), "--arms", "ours, but AdmW"])
    assert (
        "there is no recipe 'ours, but AdmW'. Did you mean 'ours, but AdamW'"
        in capsys.readouterr().err
    )
