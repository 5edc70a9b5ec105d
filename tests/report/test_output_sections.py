"""A model of several outputs in the report and in the explorer."""

import base64

import numpy as np
import pytest
import tiny
from pages import content_of

from poyo_jax import evaluate_outputs, measure_readouts, train_model, with_outputs
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.decoding.calibration import Calibration
from poyo_jax.decoding.offline import Evaluation
from poyo_jax.explore.explorer import Explorer
from poyo_jax.report import write_report
from poyo_jax.report.outputs import outputs
from poyo_jax.tasks import ACCURACY
from poyo_jax.types import Prediction

KEYS = ["cursor.vel", "reach.direction"]


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed["data"]), "<f4")


def prediction(values, targets, **more):
    columns = (np.array(each, float)[:, None] for each in (values, targets))
    return Prediction(
        "s", np.arange(len(values)) / 10, *columns, np.ones(len(values), bool), **more
    )


def test_classes_have_a_confusion_matrix():
    side = prediction([0, 1, 1, 1], [0, 0, 1, 1], kind="classes", classes=("a", "b"))
    evaluation = Evaluation({"s": 0.75}, {"s": side}, ACCURACY, {"balanced_accuracy": {"s": 0.8}})
    shown = outputs({"side": evaluation})["side"]
    assert shown["confusion"] == {"classes": ["a", "b"], "shares": [[0.5, 0.5], [0.0, 1.0]]}
    assert (shown["label"], shown["mean"], shown["others"]) == (
        *("accuracy", 0.75),
        {"balanced accuracy": 0.8},
    )
    assert shown["claims"] is None and shown["excerpt"]["classes"] == ["a", "b"]


def test_a_spread_has_a_band_and_its_calibration():
    hand = prediction([0, 1], [0.5, 1], std=np.full((2, 1), 2.0))
    claims = Calibration(np.array([0.5, 0.8]), np.array([0.4, 0.9]), np.array([0.5, 0.5]))
    shown = outputs({"hand": Evaluation({"s": 0.5}, {"s": hand}, calibration=claims)})["hand"]
    assert shown["claims"]["coverage"] == {"50%": 0.4, "80%": 0.9}
    assert shown["claims"]["error"] == pytest.approx(0.1)
    width = unpacked(shown["excerpt"]["high"]) - unpacked(shown["excerpt"]["low"])
    np.testing.assert_allclose(width, 2 * 2.0 * 1.2816, rtol=1e-4)


def test_one_continuous_output_needs_no_section():
    assert outputs({"": Evaluation({"s": 0.5}, {"s": prediction([0, 1], [0, 1])})}) is None
    assert outputs({"": Evaluation({}, {})}) is None


@pytest.fixture(scope="module")
def sessions():
    return [add_behaviours(tiny.simulate(0))]


@pytest.fixture(scope="module")
def model(sessions, tmp_path_factory):
    """A model of two outputs."""
    readouts = {sessions[0].id: measure_readouts(sessions[0], keys=KEYS)}
    config = with_outputs(tiny.config(num_steps=2, eval_every=2), readouts, sessions, spread=True)
    folder = tmp_path_factory.mktemp("run")
    return train_model(config, sessions, folder, readouts=readouts, progress=False)


def test_the_report_shows_every_output(model, sessions, tmp_path):
    evaluations = evaluate_outputs(model, sessions)
    content = content_of(
        write_report(tmp_path / "report.html", model, sessions, evaluation=evaluations)
    )
    assert list(content["outputs"]) == ["cursor_vel", "reach_direction"]
    hand, direction = content["outputs"].values()
    assert hand["claims"]["coverage"] and len(direction["confusion"]["classes"]) > 1
    assert content["metric"]["label"] == "R² of cursor_vel"
    assert {name for name in content["highlights"] if name.startswith("mean")} == {
        "mean test R² of cursor_vel ± SD",
        "mean test accuracy of reach_direction ± SD",
    }
    assert content["recordings"][sessions[0].id]["key"] == "cursor.vel"
    [row] = content["sessions"]
    assert row["decodes"] == "cursor.vel (cm/s), reach.direction"


def test_the_explorer_says_that_it_decodes_one_output(model, sessions):
    explorer = Explorer(model, sessions)
    start = float(sessions[0].domain.starts[0])
    answer = explorer.window(sessions[0].id, start)
    assert "the model decodes several outputs (cursor_vel, reach_direction)" in answer["problem"]
    explorer.close()
