"""Units are fitted in a second process, and a stream goes on with them."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from native_models import model_of_two_outputs

from poyo_jax import Session, StreamDecoder, native
from poyo_jax.config import ModelConfig
from poyo_jax.errors import ConfigError, DataError, MissingDependencyError, PoyoError
from poyo_jax.finetune import STRATEGIES, Recalibration, recalibration
from poyo_jax.native.library import find_compiler

pytestmark = pytest.mark.slow
CONFIG = replace(STRATEGIES["unit_identification"], num_steps=2, eval_every=2)
MODEL_CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=1, num_latents=4, latent_step=0.25
)


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def finished(job: Recalibration):
    """Wait for the second process."""
    job._process.join(120)
    return job.poll()


def test_a_stream_goes_on_with_fitted_units(pretrained, tiny_sessions, tmp_path):
    session = tiny_sessions[0]
    stream = StreamDecoder(pretrained, session, back_end="native")
    stream.push(*session.spikes_between(0.0, 1.1))
    before = stream.predict(1.0).values
    job = Recalibration(pretrained, session, CONFIG, hop=0.05)
    assert job.poll() is None  # it takes seconds
    stream.prepare()
    engine = finished(job)
    assert engine is not None and job.poll() is engine
    stream.swap(engine)
    with pytest.raises(ConfigError, match=r"has swapped its engine.*save that one"):
        stream.save(tmp_path / "rig.poyo")
    fitted = job.pretrained()
    expected = StreamDecoder(fitted, session, back_end="native")
    expected.push(*session.spikes_between(0.0, 1.1))
    expected.predict(1.0)
    job.close()
    assert np.array_equal(stream.predict(1.05).values, expected.predict(1.05).values)
    expected.reset()
    expected.push(*session.spikes_between(0.0, 1.1))
    assert not np.array_equal(expected.predict(1.0).values, before)
    backbones = (jax.tree.leaves(model.params["backbone"]) for model in (pretrained, fitted))
    assert all(np.array_equal(*leaves) for leaves in zip(*backbones, strict=True))


def test_a_fit_that_fails_says_why(pretrained, tiny_sessions):
    whole = tiny_sessions[0]
    untrained = whole.with_splits(train=[], valid=[], test=[(0.0, 20.0)])
    job = Recalibration(pretrained, untrained, CONFIG, hop=0.05)
    with pytest.raises(PoyoError, match=r"the recalibration has failed .*The stream goes on"):
        finished(job)
    job.close()
    assert not job._folder.exists()


def test_other_failures_are_told_too(pretrained, tiny_sessions, monkeypatch, tmp_path):
    """What the second process leaves behind when its memory ends."""

    def no_memory(*_, **__):
        raise MemoryError("no room for 3 GB")

    pretrained.save(tmp_path / recalibration.MODEL)
    tiny_sessions[0].save(tmp_path / recalibration.BLOCK)
    monkeypatch.setattr(recalibration, "fit_units", no_memory)
    monkeypatch.setattr(recalibration.os, "nice", lambda _: 0)
    with pytest.raises(SystemExit):
        recalibration._fit(str(tmp_path), CONFIG, 0.05, (0.0,), None)
    assert (tmp_path / recalibration.REASON).read_text() == "MemoryError: no room for 3 GB"


def test_a_compiler_that_is_missing_is_missed_before_the_fit(
    pretrained, tiny_sessions, monkeypatch
):
    def missing():
        raise MissingDependencyError("there is no compiler.")

    monkeypatch.setattr(recalibration, "load_library", missing)
    with pytest.raises(MissingDependencyError, match="there is no compiler"):
        Recalibration(pretrained, tiny_sessions[0], CONFIG, hop=0.05)


@pytest.mark.unchecked
def test_settings_are_checked_before_the_fit(pretrained, tiny_sessions):
    def refused(kind, text, model, session, **settings):
        with pytest.raises(kind, match=text):
            Recalibration(model, session, CONFIG, **{"hop": 0.05} | settings)

    known, new = tiny_sessions[0], tiny_sessions[2]
    refused(ConfigError, r"hop is -1; it must be in \(0, 1.0\]", pretrained, known, hop=-1)
    refused(ConfigError, r"queries\[0\] is 9", pretrained, known, queries=(9,))
    refused(ConfigError, "threads is 99; it must be at most 8", pretrained, known, threads=99)
    refused(
        DataError, "the model has no output 'hand'; its output is", pretrained, known, output="hand"
    )
    for change in ({"head_dim": 12}, {"task": "poyo_jax.tasks:Gaussian"}):
        model = replace(pretrained.config.model, **change)
        other = replace(pretrained, config=replace(pretrained.config, model=model))
        for session in (known, new):
            refused(ConfigError, "the native back end computes", other, session)


def test_one_of_several_outputs_is_named(tmp_path, monkeypatch):
    model, session = model_of_two_outputs(MODEL_CONFIG)
    with pytest.raises(DataError, match=r"several outputs: 'hand', 'muscles'. Name one with out"):
        Recalibration(model, session, hop=0.05)
    model.save(tmp_path / "model")
    session.save(tmp_path / "block.h5")
    monkeypatch.setattr(recalibration.os, "nice", lambda _: None)
    fit = SimpleNamespace(pretrained=model)
    monkeypatch.setattr(recalibration, "fit_units", lambda *_, **__: fit)
    recalibration._fit(str(tmp_path), CONFIG, 0.05, (0.0,), "muscles")
    assert native.load(tmp_path / "fitted.poyo").engine.num_channels == 3


@pytest.mark.unchecked
def test_the_model_is_needed(tiny_sessions: list[Session]):
    with pytest.raises(PoyoError, match="a model is needed"):
        Recalibration("run", tiny_sessions[0], hop=0.05)  # pyright: ignore[reportArgumentType]
