"""Where new rows start and how they move, and that it saves steps."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax import fit_units, load
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune import FitConfig, learn_tuning
from poyo_jax.finetune.start import coordinates, starting_points, with_session_rows
from poyo_jax.types import Batch

NEW = "simulated/session_2"
OLD = "simulated/session_0"
CONFIG = FitConfig(num_steps=60, batch_size=16, eval_every=5, patience=100, learning_rate=0.3)


def steps_to(history, score):
    return next((entry["step"] for entry in history if entry["valid_r2"] >= score), np.inf)


def test_tuning_saves_half_of_the_steps(pretrained, tuned, tiny_sessions):
    """To 95 % of what rows reach that start at the mean of the trained ones."""
    random, matched = (fit_units(model, tiny_sessions[2:], CONFIG, progress=False) for model in (pretrained, tuned))
    goal = 0.95 * random.valid_r2
    assert random.valid_r2 > 0.2 and matched.history[0]["valid_r2"] > random.history[0]["valid_r2"] + 0.05
    assert steps_to(matched.history, goal) <= 0.5 * steps_to(random.history, goal)
    assert matched.valid_r2 > random.valid_r2 - 0.02


def test_the_map_is_saved_with_the_model(tuned, tmp_path):
    tuned.save(tmp_path / "model")
    found = load(tmp_path / "model").tuning
    assert found is not None and tuned.tuning is not None
    for name in ("mean", "std", "weights", "origin"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tuned.tuning, name))


def test_what_the_map_is_learned_from(pretrained, tiny_sessions):
    with pytest.raises(DataError, match=r"no sessions to learn the tuning of units from. Give those of pretraining"):
        learn_tuning(pretrained, [])
    with pytest.raises(VocabError, match="does not know session 'simulated/session_2'"):
        learn_tuning(pretrained, tiny_sessions)


def test_coordinates_are_standard_deviations_of_the_trained_rows():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4))
    steps = coordinates(np.concatenate([np.zeros((1, 4)), rng.standard_normal((100_000, 4)) @ mixing]))
    np.testing.assert_allclose(steps.T @ steps, mixing.T @ mixing, rtol=0, atol=0.05)
    alone = coordinates(np.concatenate([np.zeros((1, 4)), np.ones((1, 4))]))
    np.testing.assert_allclose(alone.T @ alone, 0.02**2 * np.eye(4), rtol=0, atol=1e-8)
    np.testing.assert_allclose(coordinates(np.zeros((1, 4))).T @ coordinates(np.zeros((1, 4))), 0.0004 * np.eye(4))


def test_rows_start_from_the_same_units_of_another_day(pretrained, before, tiny_sessions):
    config = replace(CONFIG, num_steps=1)
    fit = fit_units(pretrained, tiny_sessions[2:], config, start_from=OLD, keep_snapshots=True, progress=False)
    np.testing.assert_array_equal(fit.snapshots[0], before["unit_embedding"][1:13])
    pairs = {f"{NEW}/unit_03": f"{OLD}/unit_05"}
    fit = fit_units(pretrained, tiny_sessions[2:], config, start_from=pairs, keep_snapshots=True, progress=False)
    np.testing.assert_array_equal(fit.snapshots[0][3], before["unit_embedding"][1 + 5])
    assert np.abs(fit.snapshots[0][2] - before["unit_embedding"][1 + 2]).max() > 0


def test_starting_points_that_nobody_has(pretrained, tiny_sessions):
    def refused(text, start_from):
        with pytest.raises(VocabError, match=text):
            starting_points(pretrained, tiny_sessions[2:], start_from)

    refused(r"'simulated/session_9' is not in the vocabulary of 2 names. Did you mean", "simulated/session_9")
    refused(r"start_from names 'session_2/unit_03', which no given", {"session_2/unit_03": f"{OLD}/unit_05"})
    refused(r"'unit_05' is not in the vocabulary of 24 names", {f"{NEW}/unit_03": "unit_05"})


def test_a_session_starts_from_the_trained_row_that_decodes_it_best():
    """Row r predicts its number; the windows of session 1 want 3, those of session 2 want what stands there."""
    trained = np.arange(5.0, dtype=np.float32)[:, None]
    empty = Batch(**dict.fromkeys(Batch._fields, jnp.zeros(1)))
    batch = empty._replace(
        targets=jnp.array([[[3.0]], [[9.0]], [[3.0]]]),
        target_weights=jnp.array([[1.0], [1.0], [0.0]]),
        session_rows=jnp.array([1, 2, 2]),
    )

    def predict(params, batch):
        return params["session_embedding"][batch.session_rows][:, None]

    params = {"session_embedding": jnp.array([[0.0], [1.0], [9.0]]), "backbone": None}
    found = with_session_rows(predict, params, batch, trained, [1, 2], seed=0)["session_embedding"]
    np.testing.assert_array_equal(found, [[0.0], [3.0], [9.0]])
