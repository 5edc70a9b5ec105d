"""The strategy "auto": folds of the labels, and which strategy they choose."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from poyo_jax import measure_readout
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.finetune import STRATEGIES, Auto, auto, finetune, labelled_intervals
from poyo_jax.tasks import R2

GIVEN: auto.Given = {"readouts": {}, "start_from": None, "known": "refuse", "progress": False}
SCORES = {  # of three folds
    "unit_identification": (0.5, 0.6, 0.7),
    "gradual": (0.7, 0.5, 0.9),
    "from_scratch": (0.1, 0.2, 0.3),
}


@pytest.fixture
def fits(monkeypatch):
    """What is fitted: (strategy, session), with the scores of SCORES in place of fits."""
    seen = []

    def fake(pretrained, sessions, config, **_):
        name = next(name for name in SCORES if STRATEGIES[name] == replace(config, seed=0))
        fold = sum(name == other for other, _ in seen)
        seen.append((name, sessions[0]))
        return SimpleNamespace(metric=R2), SimpleNamespace(scores={"valid_r2": SCORES[name][fold]})

    monkeypatch.setattr(auto, "run_fit", fake)
    monkeypatch.setattr(auto, "wiener_scores", lambda _: [0.55])
    return seen


@pytest.mark.unchecked
@pytest.mark.parametrize("seconds", [None, 20.0])
def test_every_label_is_held_out_once(fits, pretrained, tiny_sessions, seconds):
    session = tiny_sessions[2]
    labels = labelled_intervals(session, 1.0, num_seconds=seconds, seed=4)
    settings = Auto(num_labelled_seconds=seconds, seed=4)
    auto.choose_by_folds(pretrained, [session], settings, **GIVEN)
    assert [name for name, _ in fits] == [*SCORES] * 3
    held = Intervals.from_pairs([])
    for _, inner in fits[::3]:
        valid, train = inner.split("valid"), inner.split("train")
        assert not len(valid.intersect(train)) and not len(valid.intersect(held))
        assert valid.union(train).duration == pytest.approx(labels.duration)
        assert 0.2 < valid.duration / labels.duration < 0.45
        assert not inner.has_split("test")
        held = held.union(valid)
    assert held.subtract(labels).duration == 0 and labels.subtract(held).duration < 1e-6


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("gradual", "taken"),
    [
        ((0.7, 0.45, 0.85), "unit_identification"),  # better by less than the standard error
        ((0.6, 0.69, 0.8), "gradual"),
    ],
)
def test_the_better_one_is_taken_beyond_noise(
    fits, monkeypatch, pretrained, tiny_sessions, gradual, taken
):
    monkeypatch.setitem(SCORES, "gradual", gradual)
    choice = auto.choose_by_folds(pretrained, tiny_sessions[2:], Auto(), **GIVEN)
    assert choice.strategy == taken and choice.config == STRATEGIES[taken]
    assert str(choice).startswith(
        f"auto takes '{taken}': R² {np.mean(SCORES[taken]):.3f} in 3-fold"
    )
    assert "from_scratch 0.200, Wiener filter 0.550)." in str(choice)
    assert "prefer it" not in str(choice)
    assert "decodes these labels better: prefer it" in str(replace(choice, wiener=(0.9,) * 3))
    useless = replace(choice, scores={name: (-0.5,) * 3 for name in choice.scores})
    assert "prefer it" in str(useless)  # the filter is good
    useless = replace(useless, wiener=(-0.1,) * 3)
    assert "None of them decodes these labels better than their mean does" in str(useless)
    assert "prefer it" not in str(useless)


@pytest.mark.parametrize(
    ("scores", "taken"),
    [
        ({"a": (0.5, 0.5, 0.5), "b": (0.6, 0.6, 0.6), "c": (0.9, 0.9, 0.1)}, "b"),
        ({"a": (0.5, 0.5, 0.5), "c": (0.9, 0.9, 0.1)}, "a"),
        ({"a": (0.5, 0.5, 0.5), "b": (0.4, 0.4, 0.4)}, "a"),
    ],
)
def test_every_other_strategy_counts(scores, taken):
    """The one of the best mean scatters; another one is better than the first in every fold."""
    assert auto._take(scores, R2) == taken


def test_folds_are_a_sample():
    """The mean gap is 0.1. Its standard error is 0.115, and would be 0.094 were they all."""
    assert auto._take({"a": (0.5, 0.5, 0.5), "b": (0.4, 0.6, 0.8)}, R2) == "a"


def test_the_settings_of_a_strategy_have_the_labels_and_the_seed():
    for given in ({"num_labelled_seconds": 20.0, "seed": 4}, {"num_trials": 7}):
        assert Auto(**given).config("gradual") == replace(STRATEGIES["gradual"], **given)


@pytest.mark.unchecked
def test_an_output_that_the_model_lacks_learns_its_head_at_least(
    fits, monkeypatch, pretrained, tiny_sessions
):
    monkeypatch.setitem(SCORES, "head", (0.5, 0.6, 0.7))
    session = add_behaviours(tiny_sessions[2])
    new = {session.id: measure_readout(session, "emg.envelope", name="emg")}
    choice = auto.choose_by_folds(pretrained, [session], Auto(), **(GIVEN | {"readouts": new}))
    assert [*choice.scores] == ["head", "gradual", "from_scratch"]


@pytest.mark.unchecked
def test_a_new_model_starts_from_nothing_known(fits, monkeypatch, pretrained, tiny_sessions):
    started = {}
    fake = auto.run_fit

    def note(pretrained, sessions, config, **given):
        started[config.fresh] = given["start_from"]
        return fake(pretrained, sessions, config, **given)

    monkeypatch.setattr(auto, "run_fit", note)
    known = pretrained.sessions.names[0]
    auto.choose_by_folds(pretrained, tiny_sessions[2:], Auto(), **(GIVEN | {"start_from": known}))
    assert started == {False: known, True: None}
    with pytest.raises(ConfigError, match=r"a new model knows no rows .*: leave `start_from` out"):
        finetune(pretrained, tiny_sessions[2], "from_scratch", start_from=known, progress=False)


@pytest.mark.unchecked
def test_folds_without_a_score(fits, monkeypatch, pretrained, tiny_sessions):
    monkeypatch.setitem(SCORES, "gradual", (np.nan, np.nan, 0.5))
    with pytest.raises(DataError, match="no R² for 2 of 3 folds of the labels"):
        auto.choose_by_folds(pretrained, tiny_sessions[2:], Auto(), **GIVEN)


def test_too_few_labels(pretrained, tiny_sessions):
    with pytest.raises(DataError, match=r"4 s of labels of session .* are too few for 3 folds"):
        finetune(pretrained, tiny_sessions[2], Auto(num_labelled_seconds=4.0), progress=False)
    with pytest.raises(ConfigError, match="num_folds is 1; it must be at least 2"):
        Auto(num_folds=1)


def test_a_model_is_fitted_by_what_was_taken(monkeypatch, pretrained, tiny_sessions):
    brief = {"num_steps": 12, "batch_size": 8, "eval_every": 6}
    for name in SCORES:
        unit_steps = 6 if STRATEGIES[name].unit_steps else 0
        monkeypatch.setitem(
            STRATEGIES, name, replace(STRATEGIES[name], **brief, unit_steps=unit_steps)
        )
    fit = finetune(pretrained, tiny_sessions[2], Auto(num_folds=2), progress=False)
    assert fit.choice is not None and set(fit.choice.scores) == set(SCORES)
    assert fit.pretrained.fit == STRATEGIES[fit.choice.strategy] == fit.choice.config
    assert np.isfinite([*fit.choice.scores.values(), fit.choice.wiener]).all()
    assert fit.history[-1]["step"] == 12
