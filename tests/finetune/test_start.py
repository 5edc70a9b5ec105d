"""Where new rows start and how they move, and that it saves steps."""

import copy
from dataclasses import replace
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax import evaluate, fit_units, load
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune import FitConfig, learn_tuning
from poyo_jax.finetune.setup import FitJob
from poyo_jax.finetune.starts import (
    best_tables,
    coordinates,
    sessions_with_same_units,
    starting_points,
    starting_rows,
    tables_of_same_units,
)
from poyo_jax.types import Batch

NEW = "simulated/session_2"
OLD = "simulated/session_0"
CONFIG = FitConfig(num_steps=60, batch_size=16, eval_every=5, patience=100, learning_rate=0.3)


def renamed(session, name):
    found = copy.copy(session)
    found.session_id, found.id = name, f"simulated/{name}"
    found.unit_names = tuple(f"{found.id}/{unit}" for unit in session.unit_ids)
    return found


def steps_to(history, score):
    return next((entry["step"] for entry in history if entry["valid_r2"] >= score), np.inf)


def test_tuning_saves_half_of_the_steps(pretrained, tuned, tiny_sessions):
    """To 95 % of what rows reach that start at the mean of the trained ones."""
    random, matched = (
        fit_units(model, tiny_sessions[2:], CONFIG, start_from={}, progress=False)
        for model in (pretrained, tuned)
    )
    goal = 0.95 * max(look["valid_r2"] for look in random.history)
    assert (
        random.valid_r2 > 0.2
        and matched.history[0]["valid_r2"] > random.history[0]["valid_r2"] + 0.05
    )
    assert steps_to(matched.history, goal) <= 0.5 * steps_to(random.history, goal)
    assert matched.valid_r2 > random.valid_r2 - 0.02


def test_the_map_is_saved_with_the_model(tuned, tmp_path):
    tuned.save(tmp_path / "model")
    found = load(tmp_path / "model").tuning
    assert found is not None and tuned.tuning is not None
    for name in ("mean", "std", "weights", "origin"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tuned.tuning, name))


def test_what_the_map_is_learned_from(pretrained, tiny_sessions):
    with pytest.raises(
        DataError, match=r"no sessions to learn the tuning of units from. Give those of pretraining"
    ):
        learn_tuning(pretrained, [])
    with pytest.raises(VocabError, match="does not know session 'simulated/session_2'"):
        learn_tuning(pretrained, tiny_sessions)


def test_coordinates_are_standard_deviations_of_the_trained_rows():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4))
    steps = coordinates(
        np.concatenate([np.zeros((1, 4)), rng.standard_normal((100_000, 4)) @ mixing])
    )
    np.testing.assert_allclose(steps.T @ steps, mixing.T @ mixing, rtol=0, atol=0.05)
    alone = coordinates(np.concatenate([np.zeros((1, 4)), np.ones((1, 4))]))
    np.testing.assert_allclose(alone.T @ alone, 0.02**2 * np.eye(4), rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        coordinates(np.zeros((1, 4))).T @ coordinates(np.zeros((1, 4))), 0.0004 * np.eye(4)
    )


def test_rows_start_from_the_same_units_of_another_day(pretrained, before, tiny_sessions):
    config = replace(CONFIG, num_steps=1)
    fit = fit_units(
        pretrained, tiny_sessions[2:], config, start_from=OLD, keep_snapshots=True, progress=False
    )
    np.testing.assert_array_equal(fit.snapshots[0], before["unit_embedding"][1:13])
    pairs = {f"{NEW}/unit_03": f"{OLD}/unit_05"}
    fit = fit_units(
        pretrained, tiny_sessions[2:], config, start_from=pairs, keep_snapshots=True, progress=False
    )
    np.testing.assert_array_equal(fit.snapshots[0][3], before["unit_embedding"][1 + 5])
    assert np.abs(fit.snapshots[0][2] - before["unit_embedding"][1 + 2]).max() > 0


def test_starting_points_that_nobody_has(pretrained, tiny_sessions):
    def refused(text, start_from):
        with pytest.raises(VocabError, match=text):
            starting_points(pretrained, tiny_sessions[2:], start_from)

    refused(
        r"'simulated/session_9' is not in the vocabulary of 2 names. Did you mean",
        "simulated/session_9",
    )
    refused(
        r"start_from names 'session_2/unit_03', which no given",
        {"session_2/unit_03": f"{OLD}/unit_05"},
    )
    refused(r"'unit_05' is not in the vocabulary of 24 names", {f"{NEW}/unit_03": "unit_05"})


def test_sessions_start_from_the_tables_that_decode_them_best():
    """A window is decoded as the sum of its session's row and that of the first unit of its
    session.
    """
    empty = Batch(**dict.fromkeys(Batch._fields, jnp.zeros(1)))
    batch = empty._replace(
        targets=jnp.array([[[3.0]], [[9.0]], [[3.0]]]),
        target_weights=jnp.array([[1.0], [1.0], [0.0]]),
        session_rows=jnp.array([1, 2, 2]),
    )
    sources = [
        Mock(spec=ModelSession, session_row=1, unit_rows=np.array([1, 2])),
        Mock(spec=ModelSession, session_row=2, unit_rows=np.array([3])),
    ]

    def predict(params, batch):
        first_unit = jnp.array([0, 1, 3])
        return (params["session_embedding"] + params["unit_embedding"][first_unit])[
            batch.session_rows
        ][:, None]

    def tables(session, unit):
        columns = {"session_embedding": [[0.0], *session], "unit_embedding": [[0.0], *unit]}
        return {name: np.array(column, np.float32) for name, column in columns.items()}

    params = tables([[1.0], [9.0]], [[0.0], [5.0], [0.0]]) | {"backbone": None}
    others = [
        tables([[2.0], [8.0]], [[0.0], [6.0], [0.5]]),
        tables([[1.0], [8.0]], [[2.0], [7.0], [0.0]]),
    ]
    found, chosen = best_tables(predict, params, batch, sources, others)
    np.testing.assert_array_equal(chosen[1:], [2, 0])
    np.testing.assert_array_equal(found["session_embedding"], [[0.0], [1.0], [9.0]])
    np.testing.assert_array_equal(found["unit_embedding"], [[0.0], [2.0], [7.0], [0.0]])
    assert found["backbone"] is None
    far = [tables([[-1.0], [9.0]], [[0.0], [0.0], [0.0]])]
    start = tables([[-2.0], [9.0]], [[0.0], [0.0], [0.0]]) | {"backbone": None}
    for strict, expected in ((False, -1.0), (True, -2.0)):  # both are worse than 0
        found, _ = best_tables(predict, start, batch, sources, far, better_than_mean=strict)
        assert found["session_embedding"][1] == expected


def test_the_first_sessions_tried_are_those_that_share_most_units(pretrained, tuned, tiny_sessions):
    """Of two known sessions the second has but one of the new session's units."""
    new = tiny_sessions[2]
    names = [*(f"{OLD}/{unit}" for unit in new.unit_ids), "simulated/session_1/unit_03"]
    fewer = replace(pretrained, units=Vocab(names))
    source = FitJob(tuned, [new], CONFIG, {}, {}, "refuse")._train[0]
    tables = starting_rows(tuned, [source], {}, 0)
    trained = {
        name: np.asarray(table) for name, table in pretrained.params.items() if name != "backbone"
    }

    twins = sessions_with_same_units(fewer, new, 0)
    assert twins == [OLD, "simulated/session_1"]
    same, one = tables_of_same_units(fewer, [source], [twins], tables)
    np.testing.assert_array_equal(same["unit_embedding"][1:], trained["unit_embedding"][1:13])
    np.testing.assert_array_equal(same["session_embedding"][1], trained["session_embedding"][1])
    np.testing.assert_array_equal(one["unit_embedding"][4], trained["unit_embedding"][13])
    np.testing.assert_array_equal(
        np.delete(one["unit_embedding"], 4, 0), np.delete(tables["unit_embedding"], 4, 0)
    )


def test_units_of_the_same_name_that_are_others_are_left_alone(pretrained, tiny_sessions):
    """The simulated sessions name their units alike, but none has a unit of another: their rows
    decode nothing.
    """
    tried, untried = (
        fit_units(
            pretrained,
            tiny_sessions[2:],
            replace(CONFIG, num_steps=1),
            start_from=start_from,
            progress=False,
        )
        for start_from in (None, {})
    )
    assert tried.history[0]["valid_r2"] == untried.history[0]["valid_r2"]


def test_a_recording_of_known_units_is_decoded_from_the_start(pretrained, tiny_sessions, caplog):
    """The same recording under another name: its units are found, and nothing needs to be
    learned.
    """
    day = renamed(tiny_sessions[0], "another_day")
    caplog.set_level("INFO", logger="poyo_jax")
    tried, untried = (
        fit_units(
            pretrained, [day], replace(CONFIG, num_steps=1), start_from=start_from, progress=False
        )
        for start_from in (None, {})
    )
    known = evaluate(pretrained, [tiny_sessions[0]], split="valid").mean
    assert tried.history[0]["valid_r2"] == pytest.approx(
        known, abs=0.01
    )  # its readout leans on the other sessions
    assert untried.history[0]["valid_r2"] < known - 0.1
    said = [text for text in caplog.messages if "start" in text]
    assert said == [
        "simulated/another_day starts from simulated/session_0, whose units have the same ids"
    ]


def test_rows_are_pulled_to_where_they_start(tuned, tiny_sessions):
    def distance(weight):
        config = replace(CONFIG, prior_weight=weight, patience=1000)
        fit = fit_units(tuned, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
        first, last = (fit.snapshots[step] for step in (0, 60))
        return float(
            np.linalg.norm(
                (last - first)
                @ np.linalg.inv(coordinates(np.asarray(tuned.params["unit_embedding"])))
            )
        )

    free, weak, strong = map(distance, (0.0, 10.0, 1000.0))
    assert strong < 0.3 * weak < 0.3 * free
