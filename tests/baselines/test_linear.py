"""Baselines of classes and counts, by scikit-learn."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from poyo_jax import measure_readout
from poyo_jax.baselines import OTHER_BASELINES, LinearSearch, fit_baseline
from poyo_jax.data.simulate import add_behaviours, simulate_session
from poyo_jax.errors import ConfigError, DataError, MissingDependencyError

QUICK = {
    name: replace(search, bin_sizes=(0.1,), reaches=((0.3, 0.1),), penalties=(0.01, 0.3))
    for name, search in OTHER_BASELINES.items()
}
KEYS = {"logistic": "reach.direction", "discriminant": "reach.direction", "poisson": "events.count"}


@pytest.fixture(scope="module")
def session():
    return add_behaviours(
        simulate_session(3, num_units=20, duration=60.0, sampling_rate=50.0, task="random_target")
    )


def readout(session, name):
    return measure_readout(
        session, KEYS[name], kind="counts" if name == "poisson" else "classes", name="other"
    )


def fit(session, name, **options):
    options = {"search": QUICK[name], "progress": False} | options
    return fit_baseline(name, session, readout(session, name), **options)


@pytest.mark.parametrize("name", QUICK)
def test_it_decodes_better_than_chance(session, name):
    pytest.importorskip("sklearn")
    result = fit(session, name)
    prediction = result.prediction
    scores = [trial.valid_score for trial in result.trials]
    assert len(scores) == 2 and result.scores["valid"] == max(scores)
    assert result.scores["test"] > (0.1 if name == "poisson" else 0.25)
    assert result.metric.name == ("deviance" if name == "poisson" else "accuracy")
    assert prediction.output == "other" and np.isfinite(prediction.values).all()
    with pytest.raises(DataError, match=r"is scored by .*, not by R2; read `result.scores`"):
        _ = result.r2
    if name == "poisson":
        assert (prediction.values >= 0).all() and prediction.probabilities is None
        return
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-6)
    hits = prediction.values[:, 0] == prediction.targets[:, 0]
    assert result.scores["test"] == pytest.approx(hits.mean())


def test_weights_of_classes_change_the_fit(session):
    pytest.importorskip("sklearn")
    plain = readout(session, "logistic")
    heavy = replace(plain, class_weights=(("E", 100.0),))
    given = {"search": QUICK["logistic"], "progress": False}
    east = plain.classes.index("E")
    found = [
        np.mean(fit_baseline("logistic", session, each, **given).prediction.values == east)
        for each in (plain, heavy)
    ]
    assert found[1] > found[0] + 0.1


def test_causal_models_look_at_no_later_spikes(session):
    pytest.importorskip("sklearn")
    assert fit(session, "discriminant", causal=True).causal


def test_kinds_that_do_not_fit_are_explained(session):
    classes = readout(session, "logistic")
    for name, given, told in (
        ("wiener", classes, "has classes values, .* Choose logistic or discriminant"),
        ("poisson", classes, "this baseline decodes counts ones"),
        ("logistic", measure_readout(session, "cursor.vel"), "Choose wiener, kalman, mlp or gru"),
    ):
        with pytest.raises(DataError, match=told):
            fit_baseline(name, session, given, progress=False)


def test_one_class_to_train_on_is_explained(session):
    pytest.importorskip("sklearn")
    times = np.arange(0, 60, 0.1)
    names = np.where(times < 30, "a", "b")
    split = session.with_splits(train=[(0, 20)], valid=[(25, 35)], test=[(40, 60)])
    split = split.with_behaviour("half.name", times, names)
    with pytest.raises(DataError, match=r"the train split .* has one class of half.name"):
        fit_baseline("logistic", split, measure_readout(split, "half.name"), progress=False)


def test_a_missing_library_is_a_sentence(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"pip install poyo_jax\[baselines\]"):
        fit(session, "logistic")


@pytest.mark.unchecked
def test_settings_of_the_search_are_checked():
    with pytest.raises(ConfigError, match="model is 'svm'"):
        LinearSearch(model="svm")
