"""The explorer says of a window what the recording holds and what the model decodes."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from poyo_jax import Session, WindowDecoder, decode, load
from poyo_jax.errors import DataError, VocabError
from poyo_jax.explore.explorer import Explorer
from poyo_jax.explore.questions import MAX_QUERIES, Question
from poyo_jax.explore.ready import window_sizes

ID, UNKNOWN = "simulated/session_0", "simulated/session_2"
START = 18.0  # of the test split


def question_of(window, **changes) -> Question:
    parts = {name: np.array(window[name]) for name in ("spike_times", "spike_units", "query_times")}
    return Question(session_id=ID, **parts | changes)


def test_the_overview_lists_what_is_there(explorer):
    overview = explorer.overview()
    assert overview["model"].startswith("dim 16 x depth 1") and overview["window_length"] == 1.0
    assert [session["known"] for session in overview["sessions"]] == [True, True, False]
    assert overview["sessions"][0] == {
        "id": ID,
        "known": True,
        "num_units": 12,
        "starts": (0.0, 59.0),
        "first": START,
    }


def test_a_window_holds_what_the_recording_holds(explorer, tiny_sessions):
    window, session = explorer.window(ID, START), tiny_sessions[0]
    times, units = session.spikes_between(START, START + 1)
    assert window["unit_ids"] == list(session.unit_ids)
    assert (
        window["spike_times"] == (times - START).tolist()
        and window["spike_units"] == units.tolist()
    )
    assert window["splits"] == ["test"] and window["problem"] is None and window["position"] is None
    behaviour = session.behaviour("cursor.vel")
    np.testing.assert_array_equal(
        window["targets"]["values"], behaviour.values(*behaviour.range(START, START + 1))
    )
    assert window["targets"]["times"] == window["query_times"] and len(window["query_times"]) == 50
    json.dumps(window, allow_nan=False)


def test_predictions_are_those_of_decode(explorer, tiny_run, tiny_sessions):
    window, pretrained = explorer.window(ID, START), load(tiny_run)
    answer = explorer.predict(question_of(window))
    decoder = WindowDecoder(pretrained, tiny_sessions[0])
    alone = decoder(window["spike_times"], window["spike_units"], window["query_times"])
    np.testing.assert_allclose(answer["values"], alone, rtol=0, atol=1e-5)
    decoded = decode(pretrained, tiny_sessions[0], "test")
    inside = (decoded.times >= START) & (
        decoded.times < START + 0.5
    )  # the other half comes from the next window
    np.testing.assert_allclose(answer["values"][:25], decoded.values[inside], rtol=0, atol=1e-4)
    assert answer["tokens"] == {"spike": len(window["spike_times"]), "start": 12, "stop": 12}


def test_edits_and_query_times_count(explorer):
    window = explorer.window(ID, START)
    before = np.array(explorer.predict(question_of(window))["values"])
    added = question_of(
        window,
        spike_times=np.array([*window["spike_times"], 0.5]),
        spike_units=np.array([*window["spike_units"], 3]),
    )
    after = explorer.predict(added)
    assert after["tokens"]["spike"] == len(window["spike_times"]) + 1
    assert np.abs(np.array(after["values"]) - before).max() > 1e-4
    some = explorer.predict(question_of(window, query_times=np.array(window["query_times"][5:9])))[
        "values"
    ]
    np.testing.assert_allclose(some, before[5:9], rtol=0, atol=1e-5)
    assert explorer.predict(question_of(window, query_times=np.zeros(0)))["values"] == []


def test_a_session_that_the_model_does_not_know(explorer):
    window = explorer.window(UNKNOWN, 3.0)
    assert (
        "does not know session 'simulated/session_2'" in window["problem"]
        and "fit_units" in window["problem"]
    )
    assert (
        window["spike_times"] and window["targets"]["times"] == [] and window["query_times"] == []
    )
    with pytest.raises(VocabError, match="fit_units"):
        explorer.predict(replace(question_of(window), session_id=UNKNOWN))


def test_what_cannot_be_answered(explorer, tiny_run, tiny_sessions):
    window = explorer.window(ID, START)
    with pytest.raises(
        DataError,
        match=r"no session 'simulated/session' here. Did you mean .* one of the 3 that are",
    ):
        explorer.window("simulated/session", 3.0)
    with pytest.raises(
        DataError, match=r"start is 59.5 s, but windows of simulated/session_0 start at 0 to 59 s"
    ):
        explorer.window(ID, 59.5)
    with pytest.raises(DataError, match="units 12 to 12, but the session has units 0 to 11"):
        explorer.predict(question_of(window, spike_times=np.zeros(1), spike_units=np.array([12])))
    most = window_sizes(tiny_sessions[0], 1.0)[-1]
    with pytest.raises(DataError, match=f"the window has {most + 1} spikes; send {most} at most"):
        explorer.predict(
            question_of(window, spike_times=np.zeros(most + 1), spike_units=np.zeros(most + 1, int))
        )
    with pytest.raises(DataError, match="several files hold a session 'simulated/session_1'"):
        Explorer(load(tiny_run), [*tiny_sessions, tiny_sessions[1]])
    with pytest.raises(DataError, match="there is no session to explore"):
        Explorer(load(tiny_run), [])


def test_windows_of_every_size_compile_in_the_background(tiny_run, tiny_sessions):
    explorer = Explorer(load(tiny_run), tiny_sessions)
    assert explorer.progress(ID) == {"ready": 0, "sizes": 0}
    explorer.warm_up()
    explorer._executor.submit(int).result()  # the decoder is made, and has queued its sizes
    explorer._executor.submit(int).result()
    sizes = window_sizes(tiny_sessions[0], 1.0)
    assert explorer.progress(ID) == {"ready": len(sizes), "sizes": len(sizes)}
    most = tiny_sessions[0].max_spikes(1.0)
    assert most <= sizes[-2] < sizes[-1]
    explorer.close()


def test_a_position_is_shown_where_there_is_one(tiny_run, tiny_data, tmp_path):
    path = tmp_path / "session_0.h5"
    path.write_bytes((tiny_data / "session_0.h5").read_bytes())
    with h5py.File(path, "a") as file:
        position = np.cumsum(file["cursor/vel"][:], axis=0) / 50
        position[3] = np.nan
        file["cursor"].create_dataset("pos", data=position)
    explorer = Explorer(load(tiny_run), [Session.open(path)])
    shown = explorer.window(ID, 0.0)["position"]
    assert shown["values"][3] == [None, None]
    np.testing.assert_allclose(shown["values"][4:], position[4:50])
    explorer.close()


def test_many_samples_are_thinned_and_none_are_replaced(tiny_run, tiny_sessions):
    session, times = tiny_sessions[0], np.arange(3000) / 600
    dense = Session.from_arrays(
        *session.spikes_between(0.0, 9.0),
        np.array(session.unit_ids),
        times,
        np.zeros((3000, 2)),
        session_id="session_0",
        brainset_id="simulated",
        domain=[(0.0, 9.0)],
    )
    explorer = Explorer(load(tiny_run), [dense])
    assert explorer.window(ID, 1.0)["query_times"] == (times[600:1200:3] - 1.0).tolist()
    window = explorer.window(ID, 7.0)
    assert window["targets"]["times"] == [] and len(window["query_times"]) == 100 <= MAX_QUERIES
    explorer.close()
