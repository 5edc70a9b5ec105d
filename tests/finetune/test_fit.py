"""Fitting units: it learns the new rows, nothing else moves, and the best rows are returned."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import jax
import numpy as np
import pytest

from poyo_jax import Readout, Session, evaluate, fit_units, load
from poyo_jax.config import UnitDropoutConfig, from_dict
from poyo_jax.errors import ConfigError, DataError, Diverged, SessionError, VocabError
from poyo_jax.finetune import STRATEGIES, FitConfig, FitResult
from poyo_jax.finetune.history import TOLERANCE
from poyo_jax.finetune.setup import FitSetup, set_up
from poyo_jax.finetune.stage import StageStep
from poyo_jax.finetune.starts import starting_params
from poyo_jax.tasks import R2

CONFIG = FitConfig(num_steps=60, batch_size=16, eval_every=20)
NEW = "simulated/session_2"


def copied(tree):
    return jax.tree.map(np.array, tree)


def assert_same_bits(a, b) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y), strict=True), a, b
    )


def scores(fit) -> list:
    return [(entry["step"], entry["loss"], entry["valid_r2"]) for entry in fit.history[1:]]


@pytest.fixture(scope="module")
def pretrained(tiny_run):
    return load(tiny_run)


@pytest.fixture(scope="module")
def before(pretrained):
    """The parameters as they were before anything was fitted."""
    return copied(pretrained.params)


@pytest.fixture(scope="module")
def fit(pretrained, before, tiny_sessions):
    """A fit of the session that was held out."""
    return fit_units(pretrained, tiny_sessions[2:], CONFIG, keep_snapshots=True, progress=False)


def test_spikes_of_another_clock_are_refused(pretrained, tiny_sessions):
    session = tiny_sessions[2]
    behaviour = session.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    later = Session.from_arrays(
        np.asarray(session.spike_times) + 1000,
        np.asarray(session.spike_units),
        list(session.unit_ids),
        times,
        behaviour.values(0, behaviour.count),
        session_id="later",
        train=list(session.split("train")),
    )
    with pytest.raises(DataError, match="session later has no spike in its train split"):
        fit_units(pretrained, later, CONFIG, progress=False)


def test_the_new_session_is_decoded(fit, tiny_sessions):
    untrained, best = fit.history[0]["valid_r2"], fit.valid_r2
    assert best > 0.2 > untrained
    assert evaluate(fit.pretrained, tiny_sessions[2:]).mean > 0.2


def test_the_pretrained_model_is_not_changed(pretrained, before, fit):
    assert_same_bits(pretrained.params, before)
    assert (len(pretrained.units), len(pretrained.sessions)) == (24, 2)


def test_everything_but_the_new_rows_stays_as_it_was(before, fit):
    after = fit.pretrained.params
    assert set(after) == {"unit_embedding", "session_embedding", "backbone"}
    assert_same_bits(after["backbone"], before["backbone"])
    assert after["unit_embedding"].shape == (1 + 24 + 12, 16)
    assert after["session_embedding"].shape == (1 + 2 + 1, 16)
    assert_same_bits(after["unit_embedding"][:25], before["unit_embedding"])
    assert_same_bits(after["session_embedding"][:3], before["session_embedding"])


def test_old_sessions_are_decoded_as_before(pretrained, fit, tiny_sessions):
    old, new = (evaluate(model, tiny_sessions[:2]) for model in (pretrained, fit.pretrained))
    assert old.r2 == pytest.approx(new.r2, abs=1e-5)


def test_only_new_rows_have_gradients_and_optimiser_state(pretrained, tiny_sessions):
    setup = set_up(pretrained, tiny_sessions[2:], CONFIG, {}, "refuse")
    params = starting_params(setup, {})
    state = StageStep(setup, CONFIG.stages[0], params, params).start()
    assert {name: table.shape for name, table in state.params.items()} == {
        "unit_embedding": (1 + 12, 16),
        "session_embedding": (1 + 1, 16),
    }
    moments = [x for x in jax.tree.leaves(state.opt_state.moments) if x.ndim > 1]
    assert sum(x.size for x in moments) == 2 * (13 + 2) * 16


def test_names_and_readouts_of_the_result(pretrained, fit, tiny_sessions):
    assert fit.pretrained.units.names[:24] == pretrained.units.names
    assert fit.pretrained.units.names[24:] == tiny_sessions[2].unit_names
    assert fit.pretrained.sessions.names == (*pretrained.sessions.names, NEW)
    assert set(fit.pretrained.readouts) == {*pretrained.readouts, NEW}
    assert fit.pretrained.metrics == {"valid_r2": fit.valid_r2}


def test_history_and_snapshots(fit):
    assert [entry["step"] for entry in fit.history] == [0, 20, 40, 60]
    assert math.isnan(fit.history[0]["loss"])
    assert np.all(np.diff([entry["seconds"] for entry in fit.history]) > 0)
    assert fit.history[-1]["loss"] < fit.history[1]["loss"]
    assert list(fit.snapshots) == [0, 20, 40, 60]
    least = min(1 - entry["valid_r2"] for entry in fit.history)
    kept = [entry for entry in fit.history if 1 - entry["valid_r2"] <= (1 + TOLERANCE) * least][-1]
    assert fit.valid_r2 == kept["valid_r2"]
    assert_same_bits(fit.snapshots[kept["step"]], fit.pretrained.params["unit_embedding"][25:])
    moved = [np.abs(fit.snapshots[step + 20] - fit.snapshots[step]).max() for step in (0, 20, 40)]
    assert moved[0] > moved[1] > moved[2] > 0  # the learning rate falls


def test_a_fitted_model_is_saved(fit, tiny_sessions, tmp_path):
    fit.save(tmp_path / "fitted")
    found = load(tmp_path / "fitted")
    assert_same_bits(found.params, fit.pretrained.params)
    assert found.knows(tiny_sessions[2])
    assert found.metrics == fit.pretrained.metrics


def test_the_seed_decides_everything(pretrained, fit, tiny_sessions):
    again = fit_units(pretrained, tiny_sessions[2:], CONFIG, progress=False)
    assert_same_bits(again.pretrained.params, fit.pretrained.params)
    assert scores(again) == scores(fit)
    assert again.snapshots == {}
    short = replace(CONFIG, num_steps=1, seed=1)
    other = fit_units(pretrained, tiny_sessions[2:], short, keep_snapshots=True, progress=False)
    assert np.abs(other.snapshots[0] - fit.snapshots[0]).max() > 0


# --- evaluations on the valid split


def scripted(monkeypatch, scores) -> None:
    """Validation scores that come from a list."""
    scores = iter(scores)
    monkeypatch.setattr(FitSetup, "valid_scores", lambda self, params: {"valid_r2": next(scores)})


def test_the_best_rows_are_kept_and_fitting_stops_when_they_get_worse(
    pretrained, tiny_sessions, monkeypatch
):
    scripted(monkeypatch, [-1.0, 0.1, 0.5, 0.3, math.nan, 0.4])
    config = replace(CONFIG, eval_every=2, patience=2)
    fit = fit_units(pretrained, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
    assert [entry["step"] for entry in fit.history] == [0, 2, 4, 6, 8]
    assert fit.valid_r2 == 0.5
    assert_same_bits(fit.pretrained.params["unit_embedding"][25:], fit.snapshots[4])
    assert np.abs(fit.snapshots[8] - fit.snapshots[4]).max() > 0


def test_later_rows_that_are_hardly_worse_are_kept(pretrained, tiny_sessions, monkeypatch):
    """Of 0.8 unexplained, 0.1 are within the tolerance."""
    scripted(monkeypatch, [0.0, 0.2, 0.05, 0.2 - 0.7 * TOLERANCE, 0.2 - 0.9 * TOLERANCE, 0.0])
    config = replace(CONFIG, eval_every=2, patience=2, num_steps=8)
    fit = fit_units(pretrained, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
    assert fit.valid_r2 == 0.2 - 0.7 * TOLERANCE
    assert_same_bits(fit.pretrained.params["unit_embedding"][25:], fit.snapshots[6])


def test_rows_that_were_never_better_than_the_first(pretrained, tiny_sessions, monkeypatch):
    scripted(monkeypatch, [0.5, 0.1, 0.0, 0.0])
    config = replace(CONFIG, eval_every=2, patience=3)
    fit = fit_units(pretrained, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
    assert_same_bits(fit.pretrained.params["unit_embedding"][25:], fit.snapshots[0])


def test_without_any_score_the_last_rows_are_kept_and_the_log_says_so(
    pretrained, tiny_sessions, monkeypatch, caplog
):
    scripted(monkeypatch, [math.nan] * 3)
    config = replace(CONFIG, eval_every=2, num_steps=4)
    fit = fit_units(pretrained, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
    assert math.isnan(fit.valid_r2) and fit.pretrained.metrics == {}
    assert_same_bits(fit.pretrained.params["unit_embedding"][25:], fit.snapshots[4])
    warnings = [line.message for line in caplog.records if line.levelname == "WARNING"]
    assert len(warnings) == 1 and "no session has a valid_r2" in warnings[0]
    with pytest.raises(DataError, match="kept no snapshot of step 3; it has 0, 2, 4"):
        fit.at(3)


def without_valid(session: Session, session_id: str) -> Session:
    """The session, as another one, without a valid split."""
    behaviour = session.behaviour("cursor.vel")
    return Session.from_arrays(
        session.spike_times,
        session.spike_units,
        list(session.unit_ids),
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id=session_id,
        train=[(0, 50)],
        test=[(50, 60)],
    )


def test_without_a_valid_split_the_last_rows_are_kept(pretrained, tiny_sessions):
    session = without_valid(tiny_sessions[2], "new")
    fit = fit_units(pretrained, [session], CONFIG, keep_snapshots=True, progress=False)
    assert [entry["step"] for entry in fit.history] == [0, 20, 40, 60]
    assert all(math.isnan(entry["valid_r2"]) for entry in fit.history)
    assert math.isnan(fit.valid_r2)
    assert fit.pretrained.metrics == {}
    assert_same_bits(fit.pretrained.params["unit_embedding"][25:], fit.snapshots[60])
    assert evaluate(fit.pretrained, [session]).mean > 0.1


def test_several_sessions_at_once(pretrained, tiny_sessions):
    """One of them has no valid split, and does not count in the mean."""
    sessions = [without_valid(tiny_sessions[0], "new"), tiny_sessions[2]]
    fit = fit_units(pretrained, sessions, replace(CONFIG, num_steps=20), progress=False)
    assert fit.pretrained.sessions.names[2:] == ("new", NEW)
    assert fit.pretrained.params["unit_embedding"].shape[0] == 1 + 24 + 24
    assert fit.valid_r2 > fit.history[0]["valid_r2"]
    assert len(evaluate(fit.pretrained, [*tiny_sessions[:2], *sessions]).r2) == 4


def test_one_session_does_where_a_list_is_wanted(pretrained, tiny_sessions):
    config = replace(CONFIG, num_steps=2, eval_every=2)
    alone = fit_units(pretrained, tiny_sessions[2], config, progress=False)
    listed = fit_units(pretrained, tiny_sessions[2:], config, progress=False)
    assert_same_bits(alone.pretrained.params, listed.pretrained.params)


def test_the_adapted_model_keeps_its_settings(pretrained, fit):
    assert pretrained.fit is None
    assert fit.pretrained.fit == CONFIG
    assert fit.at(20).fit == CONFIG


def test_settings_survive_json():
    every_kind = FitConfig(
        backbone_rates=MappingProxyType({"": 1e-3, "head": 3e-3}),
        unit_dropout=UnitDropoutConfig(min_units=2, mode_units=3, max_units=5),
        num_labelled_seconds=4.0,
        rank=2,
    )
    for config in (every_kind, *STRATEGIES.values()):
        text = json.dumps(asdict(config))
        assert from_dict(FitConfig, json.loads(text)) == config
    with pytest.raises(ConfigError, match=r"FitConfig has no field 'rnak'. Did you mean 'rank'"):
        from_dict(FitConfig, {"rnak": 2})


# --- what cannot be fitted


@pytest.mark.unchecked
@pytest.mark.parametrize("path", ["a.h5", Path("a.h5")])
def test_paths_are_not_sessions(path, pretrained):
    text = r"a session is needed, but got .*a.h5.*, of type .* poyo_jax.Session.open\(path\)"
    for given in (path, [path]):
        with pytest.raises(DataError, match=text):
            fit_units(pretrained, given, progress=False)


def test_sessions_that_cannot_be_fitted(pretrained, tiny_sessions):
    with pytest.raises(DataError, match=r"there are no sessions to fit. Give at least one"):
        fit_units(pretrained, [])
    with pytest.raises(
        VocabError,
        match=r"knows session 'simulated/session_0' already. Decode it directly, fit its",
    ):
        fit_units(pretrained, tiny_sessions)
    with pytest.raises(VocabError, match="'simulated/session_2/unit_00' occurs twice"):
        fit_units(pretrained, [tiny_sessions[2]] * 2)


def test_readouts_that_do_not_fit(pretrained, tiny_sessions):
    def refused(kind, text, **readouts):
        with pytest.raises(kind, match=text):
            fit_units(pretrained, tiny_sessions[2:], CONFIG, readouts=readouts)

    one = Readout(value_key="cursor.vel", mean=(0,), std=(1,))
    refused(DataError, "means for 1 channel, but cursor.vel has 2", **{NEW: one})
    refused(
        DataError,
        "readout for session 'session_2', which is none of .* Did you mean 'simulated",
        session_2=one,
    )
    refused(
        SessionError,
        "no behaviour 'hand.vel'; it has cursor.vel",
        **{NEW: replace(one, value_key="hand.vel")},
    )
    flat = Session.from_arrays(
        [0.5], [0], ["a"], np.arange(20.0), np.arange(20.0), session_id="flat"
    )
    with pytest.raises(
        DataError,
        match=r"cursor.vel of session flat has 1 channel, but the model decodes 2. Choose",
    ):
        fit_units(pretrained, [flat])


def test_a_session_without_a_train_split(pretrained):
    session = Session.from_arrays(
        [0.5], [0], ["a"], [0, 1], np.zeros((2, 2)), session_id="new", test=[(0, 1)]
    )
    readouts = {"new": Readout(value_key="cursor.vel", mean=(0, 0), std=(1, 1))}
    with pytest.raises(DataError, match="session new has no train split"):
        fit_units(pretrained, [session], readouts=readouts)


@pytest.mark.parametrize(
    ("name", "value"), [("num_steps", 0), ("eval_every", 0), ("patience", 0), ("learning_rate", 0)]
)
def test_settings_that_cannot_work(name, value):
    with pytest.raises(ConfigError, match=f"FitConfig.{name} is {value}; it must be"):
        FitConfig(**{name: value})


def test_a_loss_that_is_not_finite(pretrained, tiny_sessions):
    session = tiny_sessions[2]
    extreme = Readout(value_key="cursor.vel", mean=(0, 0), std=(1e-25, 1e-25))
    text = "not finite at one of the steps 0 to 19 of the fit. Lower the rates of FitConfig"
    with pytest.raises(Diverged, match=text):
        fit_units(pretrained, [session], CONFIG, readouts={session.id: extreme}, progress=False)


@pytest.mark.unchecked
def test_a_fit_that_is_scored_by_another_metric_has_no_r2():
    model = SimpleNamespace(metrics={"valid_error": 0.5})
    setup = SimpleNamespace(metric=replace(R2, name="error", label="error"))
    fit = FitResult(model, [], units=None, sessions=None, _setup=setup, _snapshots={})  # pyright: ignore[reportArgumentType]
    assert fit.valid_score == 0.5
    with pytest.raises(DataError, match="scored by error, not by R2; read `valid_score`"):
        _ = fit.valid_r2
