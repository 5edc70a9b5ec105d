"""Where new rows start and how they move, and that it saves steps."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax import evaluate, fit_units, load
from poyo_jax.config import Config, ModelConfig
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.simulate import simulate_session
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune import FitConfig, learn_tuning
from poyo_jax.finetune.coordinates import row_coordinates, scatter_of_rows
from poyo_jax.finetune.setup import set_up
from poyo_jax.finetune.starts import (
    Start,
    choose_starts,
    first_guesses,
    same_unit_candidates,
    sessions_with_same_units,
    starting_points,
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


def test_tuning_saves_steps(pretrained, tuned, tiny_sessions):
    """To 95 % of what rows reach that start at the mean of the trained ones, over two seeds.

    By how much differs between models as small as this one; `experiments.studies.adapt_small`
    measures it on larger ones.
    """
    steps, scores = {"random": [], "matched": []}, {"random": [], "matched": []}
    for seed in range(2):
        config = replace(CONFIG, num_steps=120, seed=seed)
        random, matched = (
            fit_units(model, tiny_sessions[2:], config, start_from={}, progress=False)
            for model in (pretrained, tuned)
        )
        assert matched.history[0]["valid_r2"] > random.history[0]["valid_r2"] + 0.05
        goal = 0.95 * max(entry["valid_r2"] for entry in random.history)
        for name, fit in (("random", random), ("matched", matched)):
            steps[name].append(steps_to(fit.history, goal))
            scores[name].append(fit.valid_r2)
    assert np.mean(scores["random"]) > 0.2
    assert sum(steps["matched"]) <= 0.75 * sum(steps["random"]) < np.inf
    assert np.mean(scores["matched"]) > np.mean(scores["random"]) - 0.02


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
    steps = scatter_of_rows(
        np.concatenate([np.zeros((1, 4)), rng.standard_normal((100_000, 4)) @ mixing])
    )
    np.testing.assert_allclose(steps.T @ steps, mixing.T @ mixing, rtol=0, atol=0.05)
    alone = scatter_of_rows(np.concatenate([np.zeros((1, 4)), np.ones((1, 4))]))
    np.testing.assert_allclose(alone.T @ alone, 0.02**2 * np.eye(4), rtol=0, atol=1e-8)
    of_none = scatter_of_rows(np.zeros((1, 4)))
    np.testing.assert_allclose(of_none.T @ of_none, 0.0004 * np.eye(4))
    trained = np.concatenate([np.zeros((1, 4)), mixing])
    np.testing.assert_array_equal(row_coordinates(trained, "trained"), scatter_of_rows(trained))
    np.testing.assert_array_equal(row_coordinates(trained, "plain"), np.eye(4))


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
    # A unit starts from a unit, and a session from a session.
    refused(rf"'{OLD}' is not in the vocabulary of 24 names", {f"{NEW}/unit_03": OLD})
    refused(r"unit_05' is not in the vocabulary of 2 names", {NEW: f"{OLD}/unit_05"})


def test_an_empty_name_is_no_starting_point(pretrained, tiny_sessions):
    with pytest.raises(VocabError, match="'' is not in the vocabulary"):
        fit_units(pretrained, tiny_sessions[2:], CONFIG, start_from="", progress=False)


@pytest.mark.unchecked
def test_starting_points_are_a_mapping_or_an_id(pretrained, tiny_sessions):
    with pytest.raises(
        DataError, match=r"start_from is \['monday'\]; it must be the id of a known"
    ):
        starting_points(pretrained, tiny_sessions[2:], ["monday"])


ONE_CHANNEL = Config(model=ModelConfig(num_channels=1))


class FakeSetup(SimpleNamespace):
    """Two sessions with two units and one; a window is decoded as the sum of its session's row and
    that of the first unit of its session.
    """

    def __init__(self, batch: Batch):
        backbone = {"backbone": {"bias": np.zeros(1, np.float32)}}
        super().__init__(
            first_look=lambda: [batch],
            mesh=make_mesh(),
            pretrained=SimpleNamespace(params=backbone, config=ONE_CHANNEL),
        )

    def predict_step(self, params, batch):
        first_unit = jnp.array([0, 1, 3])
        rows = params["session_embedding"] + params["unit_embedding"][first_unit]
        return rows[batch.session_rows][:, None]


def start(session: float, *units: float, must_beat_mean: bool = False) -> Start:
    rows = np.array(units, np.float32)[:, None]
    return Start(rows, np.array([session], np.float32), "", must_beat_mean)


@pytest.mark.unchecked
def test_sessions_start_from_the_candidate_that_decodes_them_best():
    """The last window has no weight."""
    empty = Batch(**dict.fromkeys(Batch._fields, np.zeros(1)))
    batch = empty._replace(
        query_times=np.zeros((3, 1)),
        query_outputs=None,
        targets=np.array([[[3.0]], [[9.0]], [[3.0]]]),
        target_weights=np.array([[1.0], [1.0], [0.0]]),
        session_rows=np.array([1, 2, 2]),
    )
    setup = cast(Any, FakeSetup(batch))
    first = [start(1.0, 0.0, 5.0), start(9.0, 0.0)]
    second = [start(2.0, 0.0, 6.0), start(8.0, 0.5)]
    third = start(1.0, 2.0, 7.0)
    candidates = [[first[0], second[0], third], [first[1], second[1]]]
    assert choose_starts(setup, candidates) == [third, first[1]]
    for strict, best in ((False, 1), (True, 0)):  # both are worse than 0
        options = [start(-2.0, 0.0, 0.0), start(-1.0, 0.0, 0.0, must_beat_mean=strict)]
        assert choose_starts(setup, [options, [first[1]]]) == [options[best], first[1]]


@pytest.mark.unchecked
def test_a_single_candidate_is_taken_untried():
    """It needs neither a batch nor a model."""
    setup = cast(Any, SimpleNamespace())
    only = [[start(1.0, 0.0)], [start(2.0, 0.0)]]
    assert choose_starts(setup, only) == [options[0] for options in only]


def test_the_first_sessions_tried_are_those_that_share_most_units(pretrained, tuned, tiny_sessions):
    """Of two known sessions the second has only one of the new session's units."""
    new = tiny_sessions[2]
    names = [*(f"{OLD}/{unit}" for unit in new.unit_ids), "simulated/session_1/unit_03"]
    fewer = replace(pretrained, units=Vocab(names))
    setup = set_up(tuned, [new], CONFIG, {}, "refuse")
    guess = first_guesses(setup, {})[0]
    units = np.asarray(pretrained.params["unit_embedding"])
    sessions = np.asarray(pretrained.params["session_embedding"])

    assert sessions_with_same_units(fewer, new, 0) == [OLD, "simulated/session_1"]
    setup = replace(setup, pretrained=fewer)
    mean, same, one = same_unit_candidates(setup, new, guess)
    np.testing.assert_array_equal(same.unit_rows, units[1:13])
    np.testing.assert_array_equal(same.session_row, sessions[1])
    np.testing.assert_array_equal(one.unit_rows[3], units[13])
    others = np.delete(one.unit_rows, 3, 0)
    np.testing.assert_array_equal(others, np.delete(guess.unit_rows, 3, 0))
    assert mean.must_beat_mean and same.must_beat_mean and one.must_beat_mean
    np.testing.assert_allclose(mean.unit_rows[3], (units[4] + units[13]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(mean.unit_rows, 3, 0), np.delete(units[1:13], 3, 0))
    np.testing.assert_allclose(mean.session_row, sessions[1:3].mean(axis=0), rtol=1e-6)


def test_starts_are_compared_on_labels_that_tuning_has_not_seen(tuned, tiny_sessions):
    """On the valid split, with all units; a session without one is compared on its labels."""
    new = tiny_sessions[2]
    without = new.with_splits(valid=Intervals.from_pairs([]))
    for session, split in ((new, "valid"), (without, "train")):
        setup = set_up(tuned, [session], CONFIG, {}, "refuse")
        [batch] = setup.first_look()
        targets = np.asarray(batch.targets)[np.asarray(batch.target_weights) > 0]
        readout = setup.train[0].readout
        behaviour = session.behaviour(readout.value_key)
        times = behaviour.times_at(np.arange(behaviour.count))
        within = behaviour.values(0, behaviour.count)[session.split(split).contains(times)]
        expected = (within - readout.mean) / readout.std
        gaps = np.abs(targets[:, None] - expected[None]).max(axis=-1).min(axis=1)
        assert len(targets) > 100
        assert gaps.max() < 1e-4


def test_starts_are_compared_on_equally_many_windows_of_each_session(pretrained):
    """Of more sessions than a batch has windows, and of different lengths."""
    sessions = [
        simulate_session(number, session_id=f"day_{number}", num_units=4, duration=seconds)
        for number, seconds in enumerate([20.0, 120.0] * 5)
    ]
    setup = set_up(pretrained, sessions, replace(CONFIG, batch_size=8), {}, "refuse")
    batches = setup.first_look()
    rows = np.concatenate([batch.session_rows for batch in batches])
    weights = np.concatenate([batch.target_weights for batch in batches]).sum(axis=1)
    counts = np.bincount(rows[weights > 0])
    assert len(counts) == len(sessions) + 1 and set(counts[1:]) == {8}
    assert len({batch.token_kinds.shape for batch in batches}) == 1


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
    messages = [text for text in caplog.messages if "starts from" in text]
    assert messages[0] == (
        "simulated/another_day starts from simulated/session_0, whose units have the same ids"
    )
    assert messages[1].startswith("simulated/another_day starts from the mean of the trained rows")
    assert len(messages) == 2


def test_rows_are_pulled_to_where_they_start(tuned, tiny_sessions):
    def distance(weight):
        config = replace(CONFIG, prior_weight=weight, patience=1000)
        fit = fit_units(tuned, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
        first, last = (fit.snapshots[step] for step in (0, 60))
        return float(
            np.linalg.norm(
                (last - first)
                @ np.linalg.inv(scatter_of_rows(np.asarray(tuned.params["unit_embedding"])))
            )
        )

    free, weak, strong = map(distance, (0.0, 10.0, 1000.0))
    assert strong < 0.3 * weak < 0.3 * free
