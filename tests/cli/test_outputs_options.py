"""--decode names what a command decodes; scores of several outputs are printed apart."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from poyo_jax.cli.evaluate import save_predictions
from poyo_jax.cli.outputs import readouts_of
from poyo_jax.cli.pretrain import chosen_outputs
from poyo_jax.cli.sessions import outputs_lines
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.decoding.calibration import Calibration
from poyo_jax.decoding.offline import Evaluation
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.presets import demo
from poyo_jax.tasks import ACCURACY
from poyo_jax.types import Prediction


@pytest.fixture(scope="module")
def sessions():
    return [tiny.simulate(0), add_behaviours(tiny.simulate(1))]


def test_each_session_is_decoded_for_what_it_has(sessions):
    named = ["cursor.vel", "reach.direction", "events.count:counts"]
    readouts = readouts_of(sessions, named)
    kinds = [[readout.kind for readout in readouts[session.id]] for session in sessions]
    assert kinds == [["continuous"], ["continuous", "classes", "counts"]]
    assert readouts_of(sessions, []) == {}


@pytest.mark.parametrize(
    ("named", "kind", "told"),
    [
        (["cursor.vel", "cursor.acc"], DataError, "no session has the behaviour 'cursor.acc'"),
        (["emg.envelope"], DataError, "has none of emg.envelope, but cursor"),
        (["cursor.vel:class"], ConfigError, "names the kind 'class'; choose continuous, classes"),
    ],
)
def test_names_that_do_not_fit_are_explained(sessions, named, kind, told):
    with pytest.raises(kind, match=told):
        readouts_of(sessions, named)


def test_the_model_gets_the_named_outputs(sessions):
    options = SimpleNamespace(
        decode=("cursor.vel", "reach.direction"), spread=True, config=demo(), outputs=()
    )
    config, readouts = chosen_outputs(options, sessions)
    assert [output.name for output in config.model.outputs] == ["cursor_vel", "reach_direction"]
    assert config.model.outputs[0].task.endswith("Gaussian") and len(readouts) == 2
    options = SimpleNamespace(decode=(), spread=False, config=demo())
    assert chosen_outputs(options, sessions) == (options.config, None)
    with pytest.raises(ConfigError, match="--spread is for --decode"):
        chosen_outputs(SimpleNamespace(decode=(), spread=True, config=demo()), sessions)


def decoded(**more):
    times, values = np.arange(2.0), np.array([[0.0], [1.0]])
    return Prediction("lab/s", times, values, values, np.ones(2, bool), **more)


def test_scores_of_several_outputs_are_printed_apart():
    claims = Calibration(np.array([0.5, 0.8]), np.array([0.45, 0.81]), np.array([0.5, 0.5]))
    both = {"lab/s": decoded(quantity="hand.vel (cm/s)"), "lab/t": decoded(quantity="a.b")}
    hand = Evaluation({"lab/s": 0.5}, both, calibration=claims)
    side = Evaluation({"lab/s": 0.75}, {"lab/s": decoded()}, ACCURACY)
    lines = outputs_lines({"hand": hand, "side": side}, "test").splitlines()
    assert lines[0] == "hand" and lines[1].split() == ["lab/s", "test", "R2", "0.500"]
    assert lines[3].split("; ") == [
        "  inside the intervals of 50%: 45.0%, 80%: 81.0%",
        "expected calibration error 0.030",
    ]
    assert lines[4] == "  decoded: hand.vel (cm/s), a.b"
    assert lines[5] == "side" and lines[6].split() == ["lab/s", "test", "accuracy", "0.750"]
    only = outputs_lines({"hand": hand}, "test").splitlines()
    assert only == [line.removeprefix("  ") for line in lines[1:5]]


def test_archives_hold_what_an_output_has(tmp_path):
    probabilities = np.full((2, 2), 0.5)
    side = decoded(kind="classes", classes=("a", "b"), probabilities=probabilities)
    save_predictions(Evaluation({}, {"lab/s": side}), tmp_path, "_side")
    with np.load(tmp_path / "lab_s_side.npz") as archive:
        assert set(archive) == {
            *("times", "values", "targets", "scored"),
            "classes",
            "probabilities",
        }
        assert archive["classes"].tolist() == ["a", "b"]
