"""A model of several outputs in the report and in the explorer."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import tiny
from pages import content_of

from poyo_jax import decode_outputs, evaluate_outputs, load, measure_readouts, with_outputs
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.decoding.calibration import Calibration
from poyo_jax.decoding.offline import Evaluation
from poyo_jax.errors import DataError
from poyo_jax.explore.explorer import Explorer
from poyo_jax.explore.questions import Question
from poyo_jax.more_outputs import add_outputs
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
def sessions(tiny_sessions):
    return [add_behaviours(tiny_sessions[0])]


@pytest.fixture(scope="module")
def model(sessions, tiny_run):
    """A trained model of velocity, and of directions with a head that has learned nothing."""
    readouts = {sessions[0].id: tuple(measure_readouts(sessions[0], keys=KEYS))}
    _, direction = with_outputs(tiny.config(), readouts, sessions).model.outputs
    return replace(add_outputs(load(tiny_run), [direction]), readouts=readouts)


def test_the_report_shows_every_output(model, sessions, tmp_path):
    evaluations = evaluate_outputs(model, sessions)
    content = content_of(
        write_report(tmp_path / "report.html", model, sessions, evaluation=evaluations)
    )
    assert list(content["outputs"]) == ["cursor_vel", "reach_direction"]
    hand, direction = content["outputs"].values()
    assert hand["claims"] is None and direction["claims"]["error"] > 0
    assert len(direction["confusion"]["classes"]) == 8
    assert content["metric"]["label"] == "R² of cursor_vel"
    assert {name for name in content["highlights"] if name.startswith("mean")} == {
        "mean test R² of cursor_vel ± SD",
        "mean test accuracy of reach_direction ± SD",
    }
    assert content["recordings"][sessions[0].id]["key"] == "cursor.vel"
    [row] = content["sessions"]
    assert row["decodes"] == "cursor.vel (cm/s), reach.direction"


def test_the_explorer_decodes_the_output_that_is_chosen(model, sessions):
    [session] = sessions
    explorer = Explorer(model, sessions)
    start = float(session.split("test").starts[0])
    found = {}
    for output in ("", *KEYS):
        answer = explorer.window(session.id, start, output.replace(".", "_"))
        assert answer["problem"] is None
        assert answer["outputs"] == ["cursor_vel", "reach_direction"]
        spikes = [np.array(answer[name]) for name in ("spike_times", "spike_units")]
        times = np.array(answer["query_times"])
        question = Question(session.id, *spikes, times, output=answer["output"])
        found[output] = answer["quantity"], explorer.predict(question)["values"]
    assert found[""] == found["cursor.vel"] and np.shape(found[""][1]) == (50, 2)
    key, directions = found["reach.direction"]
    expected = decode_outputs(model, session, overlap=1)["reach_direction"].values[: len(times)]
    assert key == "reach.direction" and directions == expected.tolist()
    with pytest.raises(
        DataError, match=r"no output 'cursor_vek'; it has cursor_vel, .*Did you mean"
    ):
        explorer.window(session.id, start, "cursor_vek")
    explorer.close()
