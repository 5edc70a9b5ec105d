"""Baselines of classes and counts, by scikit-learn."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from poyo_jax import Session, measure_readout
from poyo_jax.baselines import OTHER_BASELINES, LinearSearch, fit_baseline
from poyo_jax.data.simulate import add_behaviours, simulate_session
from poyo_jax.errors import ConfigError, DataError, MissingDependencyError

QUICK = {
    name: replace(search, bin_sizes=(0.1,), reaches=((0.3, 0.1),), penalties=(0.01, 0.3))
    for name, search in OTHER_BASELINES.items()
}
BETWEEN = np.array([-0.25, -0.15, -0.05, 0.05])  # s; amid the bins of the searches
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


@pytest.fixture(scope="module")
def plain_session():
    """Trials of a second in which the spikes tell all, measured in the middle of each alone.

    One unit fires in trials of class "a", one in those of "b", one in those of "c". The fourth
    fires 0 to 3 times, and a count doubles with each of its spikes.
    """
    rng = np.random.default_rng(0)
    middles = np.arange(120) + 0.5
    classes, number = rng.integers(0, 3, 120), rng.integers(0, 4, 120)
    spikes = [(middles[classes == each, None] + BETWEEN).ravel() for each in range(3)]
    spikes.append(np.repeat(middles, number) - 0.05)
    times = np.round(np.arange(0, 120, 0.1), 1)
    places = np.searchsorted(times, middles)
    labels, counts = np.full(1200, None, object), np.full(1200, np.nan)
    labels[places], counts[places] = np.array(["a", "b", "c"], object)[classes], 2.0**number
    session = Session.from_arrays(
        spikes, target_times=times, targets=counts, session_id="plain", target_key="events.count"
    )
    return session.with_behaviour("reach.direction", times, labels)


@pytest.mark.parametrize("name", QUICK)
def test_what_the_spikes_tell_is_decoded_without_an_error(plain_session, name):
    pytest.importorskip("sklearn")
    search = replace(QUICK[name], penalties=(1e-6,))
    assert fit(plain_session, name, search=search).scores["test"] == pytest.approx(1, abs=1e-3)


def test_the_discriminant_is_that_of_its_closed_form(session):
    """Normal classes with one covariance, shrunk towards a multiple of the identity."""
    pytest.importorskip("sklearn")
    (shrinkage,) = penalties = (0.1,)
    search = replace(QUICK["discriminant"], penalties=penalties)
    found = fit(session, "discriminant", search=search).prediction
    behaviour, split = session.behaviour("reach.direction"), session.split("train")
    names = readout(session, "discriminant").classes
    times = behaviour.times_at(np.arange(behaviour.count))
    values = behaviour.values(0, behaviour.count)[:, 0]
    used = (values >= 0) & split.contains(times)  # -1 stands for no class
    labels = np.array([behaviour.classes[int(value)] for value in values[used]])
    x, wanted = bins_around(session, times[used]), bins_around(session, found.times)
    scale = np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    x, wanted = (x - x.mean(axis=0)) / scale, (wanted - x.mean(axis=0)) / scale
    means = np.stack([x[labels == name].mean(axis=0) for name in names])
    shares = np.array([np.mean(labels == name) for name in names])
    around = np.concatenate([x[labels == name] - means[i] for i, name in enumerate(names)])
    within = around.T @ around / len(x)
    even = np.eye(len(within)) * np.trace(within) / len(within)
    inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * even)
    scores = wanted @ inverse @ means.T - np.sum(means @ inverse * means, axis=1) / 2
    odds = np.exp(scores + np.log(shares))
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)


def bins_around(session, times):
    """Spikes of each unit in the four bins of 0.1 s from 0.3 s before a time to 0.1 s after it."""
    units = [session.spike_times[session.spike_units == unit] for unit in range(20)]
    edges = np.array([-0.3, -0.2, -0.1, 0.0, 0.1])
    rows = [[np.histogram(unit, time + edges)[0] for unit in units] for time in times]
    return np.array(rows, float).reshape(len(times), -1)


@pytest.mark.parametrize("name", QUICK)
def test_a_fit_has_trials_scores_and_predictions(session, name):
    pytest.importorskip("sklearn")
    result = fit(session, name)
    prediction = result.prediction
    scores = [trial.valid_score for trial in result.trials]
    assert len(scores) == 2 and result.scores["valid"] == max(scores)
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
