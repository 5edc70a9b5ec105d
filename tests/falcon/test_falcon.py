"""FALCON: bins in, values out, equal to offline decoding; the official evaluator on made-up files.

Tests that need falcon-challenge say so and skip where it is missing (extra `falcon`).
"""

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

import poyo_jax
from poyo_jax import Session, decode
from poyo_jax.data.readout import default_readout
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import ConfigError, DataError, MissingDependencyError, RawDataError
from poyo_jax.falcon import (
    FalconDecoder,
    falcon_session,
    save_streams,
    streams_of_folder,
    streams_of_model,
)
from poyo_jax.falcon.recordings import TARGETS
from poyo_jax.falcon.text import ALPHABET, channels_to_text, text_to_channels
from poyo_jax.model.build import build_model, init_params
from poyo_jax.pretrained import Pretrained

GOLDEN = Path(__file__).parent.parent / "golden_checkpoints" / "v3"
NEEDS_FALCON = "needs falcon-challenge: pip install 'poyo_jax[falcon]'"
TASKS = ("h1", "h2", "m1", "m2")


def task(name: str = "m2", num_channels: int = 12) -> SimpleNamespace:
    """Stands for a FalconConfig; the tag of a session is the name of its file."""
    kind = SimpleNamespace(name=name)
    return SimpleNamespace(task=kind, n_channels=num_channels, hash_dataset=lambda stem: stem)


@pytest.fixture(scope="module")
def model():
    return poyo_jax.load(GOLDEN)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(0.3, size=(150, 12)) * rng.integers(1, 4, size=(150, 12))


@pytest.fixture(scope="module")
def session(model, counts):
    """A session of these bins, with the units that the golden model knows."""
    ids = [name.partition("/")[2] for name in model.units.names]
    targets = np.random.default_rng(1).normal(size=(len(counts), 2))
    domain = [[0.0, 0.02 * len(counts)]]
    return Session.from_counts(
        counts, 0.02, targets, session_id="golden", unit_ids=ids, domain=domain
    )


def streamed(decoder: FalconDecoder, counts: np.ndarray, *tags: str) -> np.ndarray:
    """Values [bins, files, outputs] of the same bins served for every file."""
    decoder.reset(list(tags))
    bins = np.repeat(counts[:, None], len(tags), axis=1)
    return np.stack([decoder.predict(row) for row in bins])


def close(seen: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_bins_decode_as_offline(model, session, counts):
    offline = decode(model, session, split="all", causal_step=0.02)
    np.testing.assert_allclose(offline.times, 0.01 + 0.02 * np.arange(len(counts)))
    decoder = FalconDecoder(task(), streams_of_model(model, [session]), batch_size=2)
    values = streamed(decoder, counts, "golden", "golden")
    close(values[:, 0], offline.values)
    np.testing.assert_array_equal(values[:, 0], values[:, 1])
    again = streamed(decoder, counts[:20], "golden")
    np.testing.assert_array_equal(again[:, 0], values[:20, 0])  # reset forgets everything
    assert decoder.on_done(np.ones(1)) is None
    decoder.set_batch_size(4)
    assert decoder.batch_size == 4


def test_a_decoder_does_not_see_what_comes_later(model, session, counts):
    decoder = FalconDecoder(task(), streams_of_model(model, [session]))
    first = streamed(decoder, counts[:30], "golden")
    changed = np.concatenate([counts[:20], counts[20:30] + 1])
    np.testing.assert_array_equal(streamed(decoder, changed, "golden")[:20], first[:20])


def test_observed_bins_count(model, session, counts):
    decoder = FalconDecoder(task(), streams_of_model(model, [session]))
    values = streamed(decoder, counts[:10], "golden")
    decoder.reset([Path("golden.nwb")])
    for row in counts[:9]:
        decoder.observe(row[None])
    np.testing.assert_array_equal(decoder.predict(counts[9:10]), values[9])


def test_files_for_a_submission_decode_the_same(model, session, counts, tmp_path):
    try:
        poyo_jax.native.build(tmp_path / "library")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    [path] = save_streams(model, [session], tmp_path)
    assert path.name == "golden.poyo"
    decoder = FalconDecoder(task(), streams_of_folder(tmp_path))
    offline = decode(model, session, split="all", causal_step=0.02).values
    seen = streamed(decoder, counts, "golden")[:, 0]
    np.testing.assert_allclose(seen, offline, rtol=1e-4, atol=1e-4 * np.abs(offline).max())


def test_handwriting_becomes_text_at_the_end_of_a_trial(model, session, counts):
    decoder = FalconDecoder(task("h2"), streams_of_model(model, [session]))
    values = streamed(decoder, counts[:30], "golden")[:, 0]
    assert decoder.on_done(np.ones(1)) == channels_to_text(values)
    assert decoder.on_done(np.ones(1)) == ""


def test_text_and_channels():
    channels = text_to_channels("The cat", 70)
    assert channels.shape == (70, len(ALPHABET)) and (channels.sum(axis=1) == 1).all()
    assert channels_to_text(channels) == "the>cat"
    assert channels_to_text(text_to_channels("hello", 50)) == "helo"
    for text in ("", "naïve"):
        with pytest.raises(
            RawDataError, match=r"has other characters than .* Leave this trial out"
        ):
            text_to_channels(text, 50)


# --- what is refused


def test_bins_of_another_shape(model, session):
    decoder = FalconDecoder(task(), streams_of_model(model, [session]))
    decoder.reset(["golden"])
    with pytest.raises(DataError, match=r"have shape \(12,\), but \(1, 12\) is needed"):
        decoder.predict(np.zeros(12))


def test_sessions_that_have_no_decoder(model, session, tmp_path):
    decoder = FalconDecoder(task(), streams_of_model(model, [session]))
    with pytest.raises(DataError, match=r"'golde'\. Did you mean 'golden'\? .* Calibrate on this"):
        decoder.reset(["golde"])
    with pytest.raises(DataError, match=r"there is no \.poyo file in .*save_streams"):
        streams_of_folder(tmp_path)


def test_models_of_another_task(model, session):
    decoder = FalconDecoder(task("m1", 64), streams_of_model(model, [session]))
    with pytest.raises(DataError, match="has 12 units, but the task m1 has 64 channels"):
        decoder.reset(["golden"])


def test_names_that_tell_no_session(model, session):
    config = replace_hash(lambda stem: {}[stem])
    decoder = FalconDecoder(config, streams_of_model(model, [session]))
    with pytest.raises(RawDataError, match=r"does not tell the session of m2 .* Keep the names"):
        decoder.reset(["monday"])


def replace_hash(function) -> SimpleNamespace:
    config = task()
    config.hash_dataset = function
    return config


def test_tags_of_handwriting_are_those_of_the_evaluator(model, session):
    config = replace_hash(lambda stem: "ses-20220518")
    decoder = FalconDecoder(config, streams_of_model(model, [session]))
    with pytest.raises(DataError, match=r"session '2022\.05\.18'"):
        decoder.reset(["x"])


def test_another_task():
    with pytest.raises(ConfigError, match="task is 'm3'"):
        falcon_session("x.nwb", "m3")


def test_files_without_falcon_challenge(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "falcon_challenge.config", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'poyo_jax\[falcon\]'"):
        falcon_session(tmp_path / "x.nwb", "m2")


# --- the official evaluator


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A function that makes files of a task once, and returns their folder."""
    pytest.importorskip("falcon_challenge", reason=NEEDS_FALCON)
    from experiments.falcon.make_files import main

    folder = tmp_path_factory.mktemp("falcon")

    def made(name: str) -> Path:
        if not (folder / name).exists():
            main([str(folder), "--task", name, "--num-trials", "2"])
        return folder / name

    return made


def untrained(sessions: list[Session], target: str) -> Pretrained:
    """A tiny model with random parameters that knows the sessions."""
    config = tiny.config()
    channels = sessions[0].behaviour(target).num_channels
    config = replace(config, model=replace(config.model, num_channels=channels))
    units = Vocab(name for session in sessions for name in session.unit_names)
    names = Vocab(session.id for session in sessions)
    module = build_model(config.model, config.run, units.num_rows, names.num_rows)
    readouts = {session.id: default_readout(session) for session in sessions}
    return Pretrained(config, init_params(module, 0), units, names, readouts, {}, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of pynwb, torch and falcon-challenge
@pytest.mark.parametrize("name", TASKS)
def test_the_official_evaluator_decodes_as_offline(name, data, tmp_path, monkeypatch, capsys):
    from experiments.falcon.evaluate import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVAL_DATA_PATH", str(data(name).parent))
    paths = sorted((data(name) / "minival").glob("*.nwb"))
    sessions = [falcon_session(path, name) for path in paths]
    model = untrained(sessions, TARGETS[name])
    save_streams(model, sessions, tmp_path / "models")
    main([str(tmp_path / "models"), "--task", name])
    assert "Held In" in capsys.readouterr().out
    [predictions] = pickle.loads((tmp_path / "local_prediction.pkl").read_bytes()).values()
    assert len(predictions) == len(sessions) + 1  # and the latency
    for session in sessions[:2]:
        tag = session.id.partition("/")[2]
        expected = decode(model, session, split="all", causal_step=0.02).values
        if name == "h2":
            assert predictions["ses-" + tag.replace(".", "")][0] == texts_of(session, expected)
        else:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(predictions[tag], expected, rtol=1e-4, atol=1e-4 * scale)


def texts_of(session: Session, values: np.ndarray) -> list[str]:
    """The texts of the two trials of a file; the mask leaves out the first five bins."""
    first = len(values) // 2 - 2
    assert len(values) == len(values[:first]) + 100
    return [channels_to_text(values[:first]), channels_to_text(values[first:])]


@pytest.mark.filterwarnings("ignore")
def test_files_of_another_task(data, tmp_path):
    path = next((data("m2") / "minival").glob("*.nwb"))
    with pytest.raises(RawDataError, match=r"no file of FALCON M1: .* and it looks like M2\. Give"):
        falcon_session(path, "m1")
    (tmp_path / path.name).write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RawDataError, match="cannot be read as a file of FALCON"):
        falcon_session(tmp_path / path.name, "m2")
    (tmp_path / "monday.nwb").write_bytes(path.read_bytes())
    with pytest.raises(RawDataError, match="does not tell the session of m2"):
        falcon_session(tmp_path / "monday.nwb", "m2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sessions_have_what_the_files_have(data):
    from falcon_challenge.dataloaders import load_nwb

    from poyo_jax.falcon.recordings import task_config

    for name in ("h1", "m1", "m2"):
        path = sorted((data(name) / "held_in_calib").glob("*.nwb"))[0]
        counts, targets, _, mask = load_nwb(path, task_config(name).task)
        session = falcon_session(path, name)
        assert len(session.unit_ids) == task_config(name).n_channels
        assert len(session.spike_times) == counts.sum()
        values = session.behaviour(TARGETS[name]).values(0, len(counts))
        np.testing.assert_allclose(values[mask], targets[mask])
        assert np.isnan(values[~mask]).all() and (~mask).sum() == 5
