"""One session for a list, a path for a session, a path for a model: taken, or a sentence."""

from pathlib import Path

import numpy as np
import pytest

import poyo_jax
from poyo_jax import plots, surgery
from poyo_jax.baselines import fit_baseline, spike_counts, wiener_filter
from poyo_jax.data import default_readout
from poyo_jax.errors import ConfigError, DataError, PoyoError
from poyo_jax.explore.explorer import Explorer
from poyo_jax.finetune import few_shot_curve, finetune, labelled_intervals, learn_tuning, tuning_map
from poyo_jax.presets import demo
from poyo_jax.report import write_report
from poyo_jax.tuning import tuning_features, untrained_rows

# Functions of a model, one or several sessions, and a folder for files.
SEVERAL = {
    "evaluate": lambda model, sessions, _: poyo_jax.evaluate(model, sessions),
    "fit_units": lambda model, sessions, _: poyo_jax.fit_units(model, sessions, known="refit"),
    "finetune": lambda model, sessions, _: finetune(model, sessions),
    "learn_tuning": lambda model, sessions, _: learn_tuning(model, sessions),
    "tuning_map": lambda model, sessions, _: tuning_map(model, sessions),
    "Explorer": lambda model, sessions, _: Explorer(model, sessions),
    "write_report": lambda model, sessions, out: write_report(out / "a.html", model, sessions),
    "adapt": lambda model, sessions, _: poyo_jax.Decoder(model).adapt(sessions),
}
ONE = {
    "decode": lambda model, session, _: poyo_jax.decode(model, session),
    "WindowDecoder": lambda model, session, _: poyo_jax.WindowDecoder(model, session),
    "few_shot_curve": lambda model, session, _: few_shot_curve(model, session),
    "predict": lambda model, session, _: poyo_jax.Decoder(model).predict(session),
    "score": lambda model, session, _: poyo_jax.Decoder(model).score(session),
}
MODEL = {
    "subset": lambda model: surgery.subset_sessions(model, []),
    "rename": lambda model: surgery.rename_sessions(model, {}),
    "rename units": lambda model: surgery.rename_units(model, {}),
    "merge": lambda model: surgery.merge_models(model, model),
    "to_torch": lambda model: poyo_jax.to_torch(model),
    "save_torch": lambda model: poyo_jax.save_torch(model, "never"),
}
READOUT = poyo_jax.Readout(value_key="cursor.vel", mean=(0.0, 0.0), std=(1.0, 1.0))
SESSION = {
    "fit_baseline": lambda session: fit_baseline("wiener", session),
    "wiener_filter": lambda session: wiener_filter(session, READOUT),
    "spike_counts": lambda session: spike_counts(session, np.ones(1), np.arange(2.0)),
    "default_readout": lambda session: default_readout(session),
    "labelled_intervals": lambda session: labelled_intervals(session, 1.0),
    "tuning_features": lambda session: tuning_features(session, READOUT, None),
    "raster": lambda session: plots.raster(session, 0.0, 1.0),
}


@pytest.fixture(scope="module")
def model(tiny_run):
    return poyo_jax.load(tiny_run)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
def test_paths_are_neither_sessions_nor_models(name, model, tiny_sessions, tmp_path):
    call = (SEVERAL | ONE)[name]
    for path in ("a.h5", Path("a.h5"), ["a.h5"]):
        with pytest.raises(DataError, match=r"a session is needed, but got 'a.h5', of type .*open"):
            call(model, path, tmp_path)
    for wrong in (None, 3, tiny_sessions[0].id.encode(), [model]):
        with pytest.raises(DataError, match="a session is needed"):
            call(model, wrong, tmp_path)
    for path in ("run", Path("run")):
        with pytest.raises(DataError, match=r"a model is needed, but got 'run', .*poyo_jax.load"):
            call(path, tiny_sessions[0], tmp_path)
    with pytest.raises(DataError, match="a model is needed, but got Session"):
        call(tiny_sessions[0], tiny_sessions[0], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.unchecked
@pytest.mark.parametrize("name", MODEL)
def test_what_changes_a_model_needs_one(name, model):
    for wrong, text in (("run", "'run', of type str. Load it"), (poyo_jax.Decoder(model), "Give")):
        with pytest.raises(DataError, match=f"a model is needed, but got .*{text}"):
            MODEL[name](wrong)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", SESSION)
def test_what_reads_a_session_needs_one(name, tiny_sessions):
    for wrong, text in (
        ("a.h5", "a session is needed, but got 'a.h5'"),
        (tiny_sessions[:2], "one session is needed, but got 2"),
        ([], "one session is needed, but got 0"),
    ):
        with pytest.raises(DataError, match=text):
            SESSION[name](wrong)


@pytest.mark.unchecked
def test_training_needs_settings_and_sessions(tiny_sessions, tmp_path):
    workdir = tmp_path / "never"
    with pytest.raises(ConfigError, match=r"needs a Config, but got .*function demo.*demo\(\)"):
        poyo_jax.train_model(demo, tiny_sessions, workdir)
    with pytest.raises(DataError, match=r"a session is needed, but got 'a.h5'"):
        poyo_jax.train_model(demo(), ["a.h5"], workdir)
    with pytest.raises(ConfigError, match="max_minutes is -1; it must be positive or None"):
        poyo_jax.train_model(demo(), tiny_sessions, workdir, max_minutes=-1)
    with pytest.raises(ConfigError, match=r"profile\[1\] is 0.5; it must be an integer"):
        poyo_jax.train_model(demo(), tiny_sessions, workdir, profile=(0, 0.5))
    for wrong in ((5,), (5, 3), (5, 5)):
        with pytest.raises(ConfigError, match=r"profile is \(5.*; it must be two steps, the earl"):
            poyo_jax.train_model(demo(), tiny_sessions, workdir, profile=wrong)
    with pytest.raises(ConfigError, match=r"resume is 'nver'; .*Did you mean 'never'"):
        poyo_jax.train_model(demo(), tiny_sessions, workdir, resume="nver")
    assert not workdir.exists()


@pytest.mark.unchecked
def test_numbers_of_functions_have_a_range(model, tiny_run, tiny_sessions):
    session = tiny_sessions[0]
    calls = {
        "step is 1.5": lambda: poyo_jax.load(tiny_run, step=1.5),
        "seed is -1": lambda: fit_baseline("wiener", session, seed=-1),
        "bin_size is 0": lambda: wiener_filter(session, READOUT, bin_size=0),
        "past is 2.5": lambda: wiener_filter(session, READOUT, past=2.5),
        r"ridges\[0\] is nan": lambda: wiener_filter(session, READOUT, ridges=[np.nan]),
        r"amounts\[1\] is 0": lambda: few_shot_curve(model, session, amounts=[10.0, 0]),
        r"seeds\[0\] is 0.5": lambda: few_shot_curve(model, session, seeds=[0.5]),
        "num_seconds is nan": lambda: labelled_intervals(session, 1.0, num_seconds=np.nan),
        "num_trials is 0": lambda: labelled_intervals(session, 1.0, num_trials=0),
        "window_length is 0": lambda: labelled_intervals(session, 0.0),
        "dim is 0": lambda: untrained_rows(np.zeros((2, 4), np.float32), 0),
        "offsets": lambda: spike_counts(session, np.ones(1), np.array([1.0, 0.0])),
        "stop is 1.0": lambda: plots.raster(session, 2.0, 1.0),
        "readouts are given by session id": lambda: poyo_jax.fit_units(
            model, session, known="refit", readouts=READOUT
        ),
        "a readout is needed, but got 'cursor.vel'": lambda: fit_baseline(
            "wiener", session, "cursor.vel"
        ),
        "search is 3": lambda: fit_baseline("wiener", session, search=3),
        "no sessions to evaluate": lambda: poyo_jax.evaluate(model, []),
        "path of a model is needed, but got Pretrained": lambda: poyo_jax.load(model),
        "known is 'refti'": lambda: poyo_jax.fit_units(model, session, known="refti"),
        "no strategy 3": lambda: finetune(model, session, 3),
    }
    for text, call in calls.items():
        with pytest.raises(PoyoError, match=text):
            call()


def test_one_session_does_where_a_list_is_wanted(model, tiny_sessions):
    session = tiny_sessions[0]
    alone, listed = poyo_jax.evaluate(model, session), poyo_jax.evaluate(model, [session])
    assert alone.scores == listed.scores
    assert poyo_jax.Decoder(model).score(session) == listed.mean
    explorer = Explorer(model, session)
    assert [entry["id"] for entry in explorer.overview()["sessions"]] == [session.id]
    explorer.close()
    origins = [tuning_map(model, given).origin for given in (session, [session])]
    np.testing.assert_array_equal(*origins)
    assert surgery.subset_sessions(model, session.id).sessions.names == (session.id,)
