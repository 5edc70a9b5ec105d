"""`python -m poyo_jax evaluate` says what it leaves out, and refuses early what cannot be done."""

import numpy as np
import pytest
from native_models import random_model

from poyo_jax import Session
from poyo_jax.cli.evaluate import known_sessions, main
from poyo_jax.config import ModelConfig

CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=1, num_latents=4, latent_step=0.25
)


def session_of(units: int, name: str) -> Session:
    behaviour = np.linspace(0, 10, 101), np.zeros((101, 2))
    session = Session.from_arrays([0.0], [0], range(units), *behaviour, session_id=name)
    return session.with_splits(train=[], valid=[], test=[(0.0, 10.0)])


@pytest.fixture(scope="module")
def pretrained():
    return random_model(CONFIG)[0]


@pytest.fixture
def model(pretrained, tmp_path) -> str:
    """Folder of a model that knows the session "one" with 20 units."""
    pretrained.save(tmp_path / "model")
    return str(tmp_path / "model")


def refused(capsys, *words: str) -> str:
    """What the command says when it exits with an error."""
    with pytest.raises(SystemExit, match="2"):
        main(list(words))
    return "".join(capsys.readouterr())


def test_what_is_left_out_is_named(pretrained, tmp_path, capsys):
    session_of(20, "one").save(tmp_path / "one.h5")
    session_of(20, "two").save(tmp_path / "two.h5")
    [known] = known_sessions(pretrained, tmp_path)
    assert known.session_id == "one"
    other = known.id.replace("one", "two")
    assert capsys.readouterr().out == f"left out, since the model does not know them: {other}\n"


def test_a_known_session_with_new_units_is_refused(model, tmp_path, capsys):
    folder = tmp_path / "sessions"
    folder.mkdir()
    session_of(21, "one").save(folder / "one.h5")
    sentence = "but not 1 of its 21 units"
    assert sentence in refused(capsys, model, str(folder))
    assert sentence in refused(capsys, model, str(folder / "one.h5"))


def test_predictions_go_into_a_folder(model, tmp_path, capsys):
    session_of(20, "one").save(tmp_path / "one.h5")
    (tmp_path / "file").write_text("")
    words = [model, str(tmp_path / "one.h5"), "--predictions", str(tmp_path / "file")]
    said = refused(capsys, *words)
    assert "file cannot be written (File exists)" in said and "decoding" not in said
