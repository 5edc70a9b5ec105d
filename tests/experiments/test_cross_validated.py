"""The study of cross-validated choices, as its users run it, with tiny sessions and models."""

import importlib
import json

import numpy as np
import pytest

from poyo_jax import open_sessions
from poyo_jax.baselines import BASELINES
from poyo_jax.errors import DataError


@pytest.fixture
def module(small_models):
    """The module of the study, whose models are small."""
    return importlib.import_module("experiments.studies.cross_validated")


def test_folds_share_the_train_and_valid_splits(module, tiny_data):
    (session,) = open_sessions(tiny_data, ["session_2"])
    folds = module.hold_out(session, 2)
    both = session.split("train").duration + session.split("valid").duration
    held = [fold.split("valid") for fold in folds]
    assert sum(each.duration for each in held) == pytest.approx(both)
    assert not len(held[0].intersect(held[1]))
    for fold in folds:
        assert not len(fold.split("train").intersect(fold.split("valid")))
        assert fold.split("train").duration + fold.split("valid").duration == pytest.approx(both)
        assert fold.split("test") == session.split("test")


def test_too_many_folds_are_refused(module, tiny_data):
    (session,) = open_sessions(tiny_data, ["session_2"])
    with pytest.raises(DataError, match="too few for 100 folds"):
        module.hold_out(session, 100)


def test_the_best_mean_of_the_folds_is_taken(module, tiny_data, tmp_path, capsys):
    arguments = [tiny_data, "--workdir", tmp_path, "--sessions", "session_2", "--steps", 5, 40]
    module.main([str(argument) for argument in arguments])
    shown = capsys.readouterr().out
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    poyo, gru = [json.loads(line) for line in lines]
    means = {name: np.mean(scores) for name, scores in poyo["folds"].items()}
    assert set(means) == {"5", "40"}
    assert poyo["taken"] == max(means, key=means.get)
    place = max(gru["folds"], key=lambda name: np.mean(gru["folds"][name]))
    learned = gru["taken"]["learning_rate"]
    bounds = BASELINES["gru"].log_learning_rates
    rates = 10 ** np.random.default_rng([0, 7]).uniform(*bounds, 2)
    assert learned == pytest.approx(rates[int(place)], rel=1e-5)
    row = f"| session_2 | {poyo['r2']:.3f} | {gru['r2']:.3f} | {poyo['taken']} |"
    assert row in shown


def test_a_setting_without_a_score_is_not_taken(module):
    assert module.best({"200": [0.5, float("nan")], "400": [-0.5, 0.1]}) == "400"
