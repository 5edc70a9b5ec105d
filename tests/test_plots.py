"""What the figures show, read from their Axes; pictures themselves are looked at by people."""

import importlib
import sys
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from poyo_jax import plots
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import ConfigError, DataError, MissingDependencyError
from poyo_jax.tasks import R2
from poyo_jax.types import Prediction


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@dataclass
class Decoded:
    times: np.ndarray
    values: np.ndarray
    targets: np.ndarray


@pytest.fixture
def prediction():
    times = np.concatenate([np.arange(0, 5, 0.05), np.arange(8, 12, 0.05)])
    targets = np.stack([np.sin(times), np.cos(times)], axis=1)
    return Decoded(times, targets * 0.9, targets)


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_figures_go_into_the_axes_that_are_given(prediction):
    _, ax = plt.subplots()
    assert plots.decoding(prediction, 0, 10, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


def test_raster_draws_the_spikes_of_the_interval():
    session = simulate_session(0, num_units=4, duration=20.0)
    ax = plots.raster(session, 5.0, 6.0)
    times, units = session.spikes_between(5.0, 6.0)
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], times)
    np.testing.assert_allclose(segments[:, :, 1].mean(axis=1), units)
    assert ax.get_xlim() == (5.0, 6.0)
    assert ax.get_xlabel() == "time (s)"
    assert "4 units" in ax.get_title(loc="left")


def test_decoding_draws_measured_and_decoded_and_breaks_at_gaps(prediction):
    ax = plots.decoding(prediction, 2.0, 10.0, channel=1, quantity="velocity (cm/s)")
    _, measured, decoded = ax.get_lines()
    shown = (prediction.times >= 2.0) & (prediction.times < 10.0)
    for line, values in ((measured, prediction.targets), (decoded, prediction.values)):
        drawn = np.asarray(line.get_ydata())
        assert np.isnan(drawn).sum() == 1
        np.testing.assert_array_equal(drawn[~np.isnan(drawn)], values[shown, 1])
    assert ax.get_ylabel() == "y velocity (cm/s)"
    assert words(ax) == ["measured", "decoded"]


def test_decoding_explains_what_cannot_be_drawn(prediction):
    with pytest.raises(ConfigError, match="channel is 2; it must be at most 1"):
        plots.decoding(prediction, 0, 1, channel=2)
    with pytest.raises(ConfigError, match="channel is -3; it must be at least 0"):
        plots.decoding(prediction, 0, 1, channel=-3)
    with pytest.raises(
        DataError,
        match=r"no decoded sample lies in \[5.5, 7\) s; the prediction reaches from 0 to 11.95 s",
    ):
        plots.decoding(prediction, 5.5, 7)
    with pytest.raises(DataError, match="holds no samples"):
        plots.decoding(Decoded(np.empty(0), np.empty((0, 2)), np.empty((0, 2))), 0, 1)


def test_r2_by_session_draws_every_score_once():
    table = {
        "a": {"Wiener": 0.5, "POYO": 0.7},
        "b": {"POYO": 0.6},
        "c": {"Wiener": -0.2, "POYO": 0.1},
    }
    ax = plots.r2_by_session(table)
    points = {
        tuple(point)
        for collection in ax.collections
        for point in np.round(collection.get_offsets(), 6).tolist()
    }
    assert points == {(0.5, 0), (0.7, 0), (0.6, 1), (-0.2, 2), (0.1, 2)}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    assert words(ax) == ["Wiener", "POYO"]
    assert ax.get_xlim()[0] < -0.2 and ax.get_xlim()[1] == 1.0
    lower = replace(R2, label="error", higher_is_better=False, perfect=0.0)
    ax = plots.r2_by_session({"a": {"POYO": 3.0}}, metric=lower)
    assert ax.get_xlabel() == "error on the test split"
    assert ax.get_xlim()[0] == 0.0 and ax.get_xlim()[1] > 3.0
    with pytest.raises(DataError, match="no session"):
        plots.r2_by_session({})


def test_r2_by_size_draws_every_seed_and_the_fits():
    table = {"2 layers": {1: [0.3, 0.4], 4: [0.5], 16: [0.6]}, "6 layers": {1: [0.2], 4: [0.3]}}
    ax = plots.r2_by_size(
        table, size="sessions", fits={"2 layers": lambda sizes: 0.7 - 0.3 / sizes, "6 layers": None}
    )
    np.testing.assert_allclose(
        ax.collections[0].get_offsets(), [(1, 0.3), (1, 0.4), (4, 0.5), (16, 0.6)]
    )
    fitted, joined = (np.array(line.get_xydata()) for line in ax.lines)
    np.testing.assert_allclose(fitted[[0, -1]], [(1, 0.4), (16, 0.7 - 0.3 / 16)])
    np.testing.assert_allclose(joined, [(1, 0.2), (4, 0.3)])
    assert (ax.get_xscale(), ax.get_xlabel(), words(ax)) == (
        "log",
        "sessions",
        ["2 layers", "6 layers"],
    )
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "16"]
    with pytest.raises(DataError, match="the table of scores has no curve"):
        plots.r2_by_size({}, size="sessions")


def test_training_curve_draws_loss_and_valid_r2():
    history = [
        {"step": 0, "loss": 1.0},
        {"step": 10, "loss": 0.5, "valid_r2": 0.2},
        {"step": 20, "valid_r2": 0.4},
    ]
    ax = plots.training_curve(history)
    [loss] = ax.get_lines()
    np.testing.assert_array_equal(loss.get_xydata(), [[0, 1.0], [10, 0.5]])
    right = next(other for other in ax.figure.axes if other is not ax)
    np.testing.assert_array_equal(right.get_lines()[0].get_xydata(), [[10, 0.2], [20, 0.4]])
    assert len(plots.training_curve(history[:1]).figure.axes) == 1
    with pytest.raises(DataError, match="none of the 1 rows of the history has a step and a loss"):
        plots.training_curve([{"step": 3, "valid_r2": 0.1}])


def test_unit_embedding_keeps_distances_of_a_planar_table():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(8, 2)))[0].T
    rows = rng.normal(size=(5, 2)) @ plane
    ax = plots.unit_embedding({0: 0.1 * rows, 50: rows})
    first, last = (collection.get_offsets() for collection in ax.collections[1:])
    distances = np.linalg.norm(rows[:, None] - rows, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(last[:, None] - last, axis=-1), distances, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(first[:, None] - first, axis=-1), 0.1 * distances, atol=1e-9
    )
    assert "step 0" in ax.get_title(loc="left") and "step 50" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    "snapshots",
    [{}, {0: np.zeros((3, 4)), 1: np.zeros((2, 4))}, {0: np.zeros((1, 4))}, {0: np.zeros(4)}],
)
def test_unit_embedding_explains_what_cannot_be_drawn(snapshots):
    with pytest.raises(DataError, match="need one shape"):
        plots.unit_embedding(snapshots)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for name in ("poyo_jax.plots", "poyo_jax.plots.axes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingDependencyError, match=r"matplotlib.*pip install poyo_jax\[plots\]"):
        importlib.import_module("poyo_jax.plots")


def classes(values, targets, names=("left", "right")):
    times = np.arange(len(values)) / 10
    columns = (np.array(each, float)[:, None] for each in (values, targets))
    return Prediction("s", times, *columns, np.ones(len(values), bool), "side", "classes", names)


def test_a_learned_spread_is_a_band(prediction):
    std = np.full_like(prediction.values, 0.5)
    ax = plots.decoding(Spread(prediction.times, prediction.values, prediction.targets, std), 0, 5)
    [band] = ax.collections
    heights = np.ptp(band.get_paths()[0].vertices[:, 1])
    assert heights == pytest.approx(np.ptp(prediction.values[:100, 0]) + 2 * 0.5 * 1.2816, rel=1e-3)
    assert words(ax) == ["measured", "decoded", "80 % interval"]


@dataclass
class Spread(Decoded):
    std: np.ndarray


def test_classes_are_steps_by_their_names():
    ax = plots.decoding(classes([0, 1, 1, 0], [0, 1, 0, 0]), 0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["left", "right"]
    assert {line.get_drawstyle() for line in ax.get_lines()} == {"steps-post"}


def test_a_confusion_matrix_has_shares_of_measured_classes():
    several = [classes([0, 1, 1, 1], [0, 0, 1, 1]), classes([0], [0])]
    ax = plots.confusion(several)
    np.testing.assert_allclose(ax.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    assert words(ax) == ["0.67", "0.33", "0.00", "1.00"]
    assert ax.get_title(loc="left") == "accuracy 0.800, 5 samples"
    for given, told in (
        ([], "got 0"),
        ([classes([0], [0]), classes([0], [0], ("a", "b"))], "got 2"),
        (replace(classes([0], [0]), scored=np.zeros(1, bool)), "no scored sample"),
    ):
        with pytest.raises(DataError, match=told):
            plots.confusion(given)


@dataclass
class Claims:
    claimed: np.ndarray
    observed: np.ndarray
    weights: np.ndarray
    error: float = 0.05


def test_reliability_compares_what_is_claimed_and_observed():
    points = np.array([0.5, 0.8]), np.array([0.4, 0.8])
    ax = plots.reliability(Claims(*points, np.array([0.5, 0.5])))
    np.testing.assert_allclose(ax.get_lines()[1].get_xydata(), np.stack(points, axis=1))
    assert "0.050" in ax.get_title(loc="left")
    with pytest.raises(DataError, match="claims nothing about its errors"):
        plots.reliability(Claims(np.zeros(0), np.zeros(0), np.zeros(0)))
