"""A trained model on disk and in words."""

import os
from dataclasses import replace

import jax
import numpy as np
import pytest

from poyo_jax import decode, load
from poyo_jax.errors import CheckpointError


def test_the_best_step_is_loaded(tiny_run):
    scores = {step: load(tiny_run, step=step).metrics["valid_r2"] for step in (50, 100, 150)}
    best = load(tiny_run)
    assert best.metrics["valid_r2"] == max(scores.values())
    assert best.step == max(scores, key=scores.get)
    assert load(str(tiny_run), step=50).step == 50


def test_saved_models_come_back(tiny_run, tmp_path):
    pretrained = load(tiny_run)
    pretrained.save(tmp_path / "deep" / "model")
    found = load(tmp_path / "deep" / "model")
    assert jax.tree.structure(found.params) == jax.tree.structure(pretrained.params)
    jax.tree.map(np.testing.assert_array_equal, found.params, pretrained.params)
    for name in ("config", "units", "sessions", "readouts", "metrics", "step"):
        assert getattr(found, name) == getattr(pretrained, name)
    assert os.listdir(tmp_path / "deep" / "model" / "checkpoints") == [str(pretrained.step)]


def test_models_trained_with_a_back_end_of_another_platform_are_loaded(
    tiny_run, tiny_sessions, tmp_path
):
    pretrained = load(tiny_run)
    config = replace(pretrained.config, run=replace(pretrained.config.run, attention="splash"))
    replace(pretrained, config=config).save(tmp_path)
    expected = decode(pretrained, tiny_sessions[0])
    np.testing.assert_array_equal(decode(load(tmp_path), tiny_sessions[0]).values, expected.values)


def test_saving_does_not_replace_another_model(tiny_run, tmp_path):
    pretrained = load(tiny_run)
    with pytest.raises(
        CheckpointError,
        match="holds checkpoints already; save to another folder, or delete that one",
    ):
        pretrained.save(tiny_run)
    (tmp_path / "checkpoints" / "150.orbax-checkpoint-tmp").mkdir(
        parents=True
    )  # left by a killed process
    pretrained.save(tmp_path)
    assert load(tmp_path).step == pretrained.step


def test_a_folder_that_cannot_be_written(tiny_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        CheckpointError,
        match=r"cannot be written to .*file/model/checkpoints .*that you may write there",
    ):
        load(tiny_run).save(tmp_path / "file" / "model")


def test_repr(tiny_run):
    pretrained = load(tiny_run, step=150)
    score = pretrained.metrics["valid_r2"]
    assert repr(pretrained) == (
        "Pretrained(dim 16 x depth 1, 0.01 M backbone parameters; 2 sessions, 24 units; step 150; "
        f"valid_r2 {score:.3f})"
    )
    assert repr(replace(pretrained, metrics={})).endswith("step 150)")


def test_known_sessions(tiny_run, tiny_sessions):
    pretrained = load(tiny_run)
    assert [pretrained.knows(session) for session in tiny_sessions] == [True, True, False]
