"""Units are fitted in a second process, and a stream goes on with them."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from poyo_jax import Session, StreamDecoder
from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.finetune import STRATEGIES, Recalibration
from poyo_jax.native.library import find_compiler

pytestmark = pytest.mark.slow
CONFIG = replace(STRATEGIES["unit_identification"], num_steps=2, eval_every=2)


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


def test_a_stream_goes_on_with_fitted_units(pretrained, tiny_sessions):
    session = tiny_sessions[0]
    stream = StreamDecoder(pretrained, session, back_end="native")
    stream.push(*session.spikes_between(0.0, 1.1))
    before = stream.predict(1.0).values
    job = Recalibration(pretrained, session, CONFIG, hop=0.05)
    assert job.poll() is None  # it takes seconds
    stream.prepare()
    engine = finished(job)
    assert engine is not None
    stream.swap(engine)
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


@pytest.mark.unchecked
def test_the_model_is_needed(tiny_sessions: list[Session]):
    with pytest.raises(PoyoError, match="a model is needed"):
        Recalibration("run", tiny_sessions[0], hop=0.05)  # pyright: ignore[reportArgumentType]
