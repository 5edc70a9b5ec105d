"""Models of several outputs: readouts, batches, losses, training, decoding, checkpoints."""

import json
import os
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import poyo_jax
from poyo_jax import (
    Readout,
    decode,
    decode_outputs,
    evaluate,
    evaluate_outputs,
    load,
    measure_readout,
    train_model,
    with_outputs,
)
from poyo_jax.config import Config, ModelConfig, OutputConfig, from_dict, to_dict
from poyo_jax.data.batches.augment import augment
from poyo_jax.data.batches.pipeline import EvalBatches, TrainBatches
from poyo_jax.data.batches.tokens import ModelSession, cut_window
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding import StreamDecoder, WindowDecoder
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import CheckpointError, ConfigError, DataError
from poyo_jax.model.build import build_model, empty_batch, init_params
from poyo_jax.tasks import SHORTFALL, Classes, Counts, Gaussian
from poyo_jax.tasks.choose import choosing_metric, query_losses
from poyo_jax.train.step import balanced
from poyo_jax.types import Prediction

KINDS = {
    "velocity": ("cursor.vel", "continuous"),
    "direction": ("reach.direction", "classes"),
    "emg": ("emg.envelope", "continuous"),
    "events": ("events.count", "counts"),
}
STEPS = 12
NO_SCALE = {"mean": (), "std": ()}


def readout(session, name):
    key, kind = KINDS[name]
    return measure_readout(session, key, name=name, kind=kind)


@pytest.fixture(scope="module")
def sessions():
    """The second of them has no muscles, and the third has velocity alone."""
    return [add_behaviours(tiny.simulate(number), number) for number in range(3)]


@pytest.fixture(scope="module")
def readouts(sessions):
    names = [("velocity", "direction", "emg", "events"), ("direction", "velocity"), ("velocity",)]
    return {
        session.id: [readout(session, name) for name in own]
        for session, own in zip(sessions, names, strict=True)
    }


@pytest.fixture(scope="module")
def config(sessions, readouts):
    plain = tiny.config(num_steps=STEPS, log_every=6, eval_every=STEPS, save_every=STEPS)
    return with_outputs(plain, readouts, sessions, weights={"events": 0.5})


@pytest.fixture(scope="module")
def trained(config, sessions, readouts, tmp_path_factory):
    """A model of four outputs, and the folder of its run."""
    folder = tmp_path_factory.mktemp("run")
    return train_model(config, sessions, folder, readouts=readouts, progress=False), folder


@pytest.fixture(scope="module")
def sources(config, sessions, readouts):
    units = Vocab(name for session in sessions for name in session.unit_names)
    names = Vocab(session.id for session in sessions)
    return [
        ModelSession.build(
            session, tuple(readouts[session.id]), units, names, session.split("train"), config.model
        )
        for session in sessions
    ]


# --- tasks


def test_the_gaussian_loss_is_the_log_likelihood_and_begins_at_variance_one():
    rng = np.random.default_rng(0)
    targets, mean = rng.normal(size=(2, 3, 5, 2)).astype(np.float32)
    log_variance = rng.uniform(-2, 2, mean.shape).astype(np.float32)
    outputs = np.concatenate([mean, log_variance], axis=-1)
    expected = 0.5 * (log_variance + (targets - mean) ** 2 / np.exp(log_variance)).mean(axis=-1)
    np.testing.assert_allclose(Gaussian().loss(outputs, targets), expected, rtol=1e-5)
    zero = np.concatenate([mean, np.zeros_like(mean)], axis=-1)
    squared = ((mean - targets) ** 2).mean(axis=-1)
    np.testing.assert_allclose(Gaussian().loss(zero, targets), squared / 2, rtol=1e-6)
    scale = Readout(value_key="a.b", mean=(1.0, 2.0), std=(3.0, 4.0))
    details = Gaussian().details(outputs[0], scale)
    np.testing.assert_allclose(details["std"], np.exp(log_variance[0] / 2) * [3, 4], rtol=1e-6)
    wild = np.array([[[0.0, 1e6], [1e6, -1e6]]], np.float32)
    gradient = jax.grad(lambda x: Gaussian().loss(x, jnp.ones((1, 2, 1))).sum())(jnp.array(wild))
    assert np.isfinite(gradient).all()


def test_classes_are_scored_by_accuracy_and_its_balanced_form():
    three = Readout(value_key="a.b", kind="classes", classes=("x", "y", "z"))
    targets = np.array([[0], [0], [0], [0], [1], [2]], float)
    values = np.array([[0], [0], [0], [1], [1], [0]], float)
    task = Classes()
    (balanced_metric,) = task.other_metrics
    sums = task.metric.sums(targets[:3], values[:3], three)
    sums = sums + task.metric.sums(targets[3:], values[3:], three)
    assert task.metric.score(sums) == pytest.approx(4 / 6)
    assert balanced_metric.score(sums) == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert np.isnan(task.metric.score(np.zeros((3, 3))))
    logits = np.log(np.array([[[0.5, 0.25, 0.25]]]))
    assert task.loss(logits, np.array([[[1.0]]])) == pytest.approx(np.log(4))
    np.testing.assert_allclose(task.details(logits[0], three)["probabilities"], [[0.5, 0.25, 0.25]])
    assert task.predict(logits[0], three) == 0 and task.target_size(3) == 1


def test_counts_are_scored_by_the_deviance_they_explain():
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.5, 8, (400, 2))
    counts, task = rng.poisson(rates).astype(float), Counts()
    any_counts = Readout(value_key="a.b", kind="counts")

    def score(values):
        parts = [slice(0, 100), slice(100, 400)]
        sums = sum(task.metric.sums(counts[part], values[part], any_counts) for part in parts)
        return task.metric.score(sums)

    assert score(counts) == pytest.approx(1)
    assert score(np.broadcast_to(counts.mean(axis=0), counts.shape)) == pytest.approx(0)
    assert 0.3 < score(rates) < 0.9
    np.testing.assert_allclose(task.predict(np.log(rates), any_counts), rates)
    better = task.loss(np.log(rates)[None], counts[None]).mean()
    assert better < task.loss(np.log(rates)[None] + 0.5, counts[None]).mean()
    with pytest.raises(DataError, match=r"a\.b has the value 0\.5, but counts are whole numbers"):
        task.normalise(np.array([[0.5]]), any_counts)


def test_classes_have_no_r2():
    numbers = np.array([[0.0], [1.0]])
    prediction = Prediction(
        session_id="s",
        times=np.array([0.0, 1.0]),
        values=numbers,
        targets=numbers,
        scored=np.ones(2, bool),
        output="side",
        kind="classes",
        classes=("left", "right"),
    )
    with pytest.raises(DataError, match="side of session s has classes, which have no R2"):
        _ = prediction.r2


# --- configuration


def test_outputs_are_made_from_readouts(config, sessions, readouts):
    velocity, direction, emg, events = config.model.outputs
    assert (velocity.name, velocity.num_channels) == ("velocity", 2)
    assert direction.classes == ("E", "N", "NE", "NW", "S", "SE", "SW", "W")
    assert (emg.num_channels, events.weight, emg.weight) == (12, 0.5, 1.0)
    assert choosing_metric(config.model) is SHORTFALL
    spread = with_outputs(config, readouts, sessions, spread=True).model.outputs
    assert [output.task.split(":")[1] for output in spread] == [
        "Gaussian",
        "Classes",
        "Gaussian",
        "Counts",
    ]


def test_settings_with_and_without_outputs_are_saved(config):
    assert from_dict(Config, to_dict(config)) == config
    plain = tiny.config()
    assert "outputs" not in to_dict(plain)["model"] and from_dict(Config, to_dict(plain)) == plain


def test_one_output_sets_the_width_and_the_task_of_the_model():
    only = OutputConfig(name="wheel", num_channels=1)
    model = ModelConfig(outputs=(only,))
    assert (model.num_channels, model.task) == (1, only.task) and model.all_outputs == (only,)
    assert replace(model, dim=32).num_channels == 1
    with pytest.raises(ConfigError, match=r"num_channels is 3; it must be left out, or 1 as in"):
        replace(model, num_channels=3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "a b"}, r"OutputConfig.name is 'a b'; it must be letters"),
        ({"num_channels": 0}, r"OutputConfig.num_channels is 0"),
        ({"weight": -1.0}, r"OutputConfig.weight is -1"),
        ({"classes": ("x", "y", "x")}, r"it must be 2 different names"),
    ],
)
def test_an_output_that_cannot_be_is_explained(change, text):
    with pytest.raises(ConfigError, match=text):
        OutputConfig(**({"name": "a"} | change))


def test_two_outputs_with_one_name_are_refused():
    output = OutputConfig(name="a")
    with pytest.raises(ConfigError, match=r"two outputs with the name 'a'. Give each a name"):
        ModelConfig(outputs=(output, replace(output, num_channels=3)))


# --- readouts


def test_classes_are_positions_by_name_whatever_their_numbers_in_a_session(sessions):
    """Two sessions with other codes for the same names give the same targets."""
    plain = tiny.simulate(0)
    times = np.arange(0, 60, 0.25)
    names = np.where(times % 2 < 1, "right", "left")
    one = plain.with_behaviour("task.side", times, names)
    other = plain.with_behaviour("task.side", times, np.where(names == "left", "left", "zoo"))
    both = Readout(value_key="task.side", kind="classes", classes=("left", "right", "zoo"))
    units, ids = Vocab(plain.unit_names), Vocab([plain.id])
    windows = []
    for session in (one, other):
        model = with_outputs(Config(), {session.id: both}, [session]).model
        train = session.split("train")
        source = ModelSession.build(session, both, units, ids, train, model)
        windows.append(cut_window(source, 2.0, 1.0))
    assert set(windows[0].targets[:, 0]) == {1} and set(windows[1].targets[:, 0]) == {2}


def test_weights_of_classes_are_weights_of_samples(sessions, config):
    session = sessions[0]
    direction = readout(session, "direction")
    weighted = replace(direction, class_weights=(("E", 3.0), ("N", 0.0)))
    units, ids = Vocab(session.unit_names), Vocab([session.id])
    by_class = {"E": set(), "N": set(), "W": set()}
    model = with_outputs(Config(), {session.id: weighted}, [session]).model
    source = ModelSession.build(session, weighted, units, ids, session.split("train"), model)
    for start in range(40):
        window = cut_window(source, start, 1.0)
        inside = window.target_weights > 0
        for name, weights in by_class.items():
            own = window.targets[:, 0] == direction.classes.index(name)
            weights |= set((window.target_weights[own & (inside | (name == "N"))]).tolist())
    assert by_class["E"] == {3.0} and by_class["W"] == {1.0}
    assert by_class["N"] == {0.0}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            lambda t: np.where(t < 58, np.where(t % 2, "a", "b"), "c"),
            r"class 'c' of task.x .* test split alone",
        ),
        (lambda t: np.where(t == 1, "a", "b"), r"class 'a' of task.x .* has one sample"),
        (lambda t: np.full(len(t), "a"), r"has 1 classes .*two are the fewest"),
        (lambda t: t % 2 + 0.5, r"the label 0.5, but classes are whole numbers or names"),
        (lambda t: np.full(len(t), np.nan), r"task.x .* has no finite sample to train on"),
        (lambda t: np.ones((len(t), 2)), r"has 2 values a sample, but a class is one number"),
    ],
)
def test_labels_that_cannot_be_learned_are_explained(values, text):
    times = np.arange(0, 60, 0.5)
    session = tiny.simulate(0).with_splits(train=[(0, 40)], valid=[(40, 50)], test=[(50, 60)])
    session = session.with_behaviour("task.x", times, values(times))
    with pytest.raises(DataError, match=text):
        measure_readout(session, "task.x", kind="classes")


def test_a_session_refuses_a_class_that_the_model_does_not_know(sessions):
    session = sessions[0]
    direction = readout(session, "direction")
    few = replace(direction, classes=("E", "W"))
    model = with_outputs(Config(), {session.id: few}, [session]).model
    units, ids = Vocab(session.unit_names), Vocab([session.id])
    source = ModelSession.build(session, few, units, ids, session.domain, model)
    with pytest.raises(DataError, match=r"has the class '\w+', which is none of E, W"):
        for start in range(20):
            cut_window(source, start, 1.0)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "label"}, r"has the kind 'label'; choose 'continuous', 'classes', 'counts'"),
        ({"kind": "classes"}, r"classes are not scaled, so leave them out"),
        ({"mean": (), "std": ()}, r"pass one of each per channel"),
        ({"classes": ("a", "b")}, r"none for other kinds"),
        (
            NO_SCALE | {"kind": "classes", "classes": ("a",)},
            r"at least two different names",
        ),
        (
            {
                "kind": "classes",
                "mean": (),
                "std": (),
                "classes": "ab",
                "class_weights": [("c", 1)],
            },
            r"weights the class 'c', which is none of",
        ),
    ],
)
def test_a_readout_that_cannot_be_is_explained(change, text):
    fields = {"value_key": "a.b", "mean": (0.0,), "std": (1.0,)}
    with pytest.raises(ConfigError, match=text):
        Readout(**(fields | change))


def test_a_plain_readout_is_saved_as_before():
    plain = Readout(value_key="cursor.vel", mean=(0.0,), std=(1.0,))
    assert set(plain.to_dict()) == {
        "value_key",
        "mean",
        "std",
        "interval_weights",
        "eval_interval",
    }
    assert plain.name == "cursor_vel"
    named = replace(plain, name="velocity")
    assert Readout.from_json(named.to_json()) == named


# --- batches


def test_a_batch_holds_the_queries_of_every_output_at_its_own_rate(sources, config):
    window = cut_window(sources[0], 3.0, 1.0)
    counts = np.bincount(window.query_outputs, minlength=4)
    assert counts.tolist() == [50, 20, 200, 10]
    assert window.targets.shape == (280, 12)
    for number in range(4):
        own = window.query_outputs == number
        assert (np.diff(window.query_times[own]) > 0).all()
        alone = replace(sources[0], outputs=(sources[0].outputs[number],))
        expected = cut_window(alone, 3.0, 1.0)
        width = expected.targets.shape[1]
        np.testing.assert_array_equal(window.targets[own][:, :width], expected.targets)
        np.testing.assert_array_equal(window.target_weights[own], expected.target_weights)
    batches = TrainBatches(sources, config.data, 1.0, 3)
    batch = batches[0]
    assert batch.query_outputs.shape == batch.query_times.shape and batch.targets.shape[-1] == 12
    assert {batch.query_times.shape for batch in map(batches.__getitem__, range(3))} == {
        batch.query_times.shape
    }
    evaluated = EvalBatches(sources, [np.array([1.0])] * 3, config.data, 1.0)[0]
    asked = evaluated.query_outputs[evaluated.target_weights > 0]
    assert set(asked.tolist()) == {0, 1, 2, 3}


def test_queries_move_towards_the_next_of_their_output_and_classes_stay(sources, config):
    window = cut_window(sources[0], 3.0, 1.0)
    moved = augment(window, 1.0, replace(config.data, query_jitter=1.0), 0)
    assert len(moved.query_times) == len(window.query_times) - 4
    for number in range(4):
        before, after = window.query_outputs == number, moved.query_outputs == number
        times = moved.query_times[after]
        assert (times >= window.query_times[before][:-1]).all()
        assert (times <= window.query_times[before][1:]).all()
        unchanged = np.array_equal(moved.targets[after], window.targets[before][:-1])
        assert unchanged == (number in (1, 3))


# --- losses


def test_a_query_has_the_loss_of_its_output_alone(config):
    rng = np.random.default_rng(0)
    numbers = np.array([[0, 1, 2, 3, 0]], np.int8)
    outputs = jnp.array(rng.normal(size=(1, 5, 2 + 8 + 12 + 1)), jnp.float32)
    targets = np.zeros((1, 5, 12), np.float32)
    targets[0, 0, :2], targets[0, 1, 0], targets[0, 2], targets[0, 3, 0] = (1, -2), 5, -3, 4

    def losses(outputs):
        return query_losses(config.model, outputs, jnp.array(targets), jnp.array(numbers))

    expected = [
        ((outputs[0, 0, :2] - targets[0, 0, :2]) ** 2).mean(),
        -jax.nn.log_softmax(outputs[0, 1, 2:10])[5],
        ((outputs[0, 2, 10:22] + 3) ** 2).mean(),
        jnp.exp(outputs[0, 3, 22]) - 4 * outputs[0, 3, 22],
        (outputs[0, 4, :2] ** 2).mean(),
    ]
    np.testing.assert_allclose(losses(outputs)[0], expected, rtol=1e-5)
    gradient = jax.grad(lambda x: losses(x).sum())(outputs * 100)
    assert np.isfinite(gradient).all()
    assert not gradient[0, 0, 2:].any() and gradient[0, 0, :2].all()


def test_outputs_count_by_their_windows_and_weights_not_by_their_rates(sources, config):
    batch = jax.tree.map(jnp.asarray, TrainBatches(sources, config.data, 1.0, 3)[0])
    scaled, windows = balanced(batch, config.model.outputs, make_mesh(devices=jax.devices()[:1]))
    counts = []
    for number, output in enumerate(config.model.outputs):
        own = np.asarray(batch.query_outputs) == number
        has = ((np.asarray(batch.target_weights) > 0) & own).any(axis=1).sum()
        total = float(np.asarray(scaled.target_weights)[own].sum())
        assert total == pytest.approx(output.weight * has, rel=1e-5)
        counts.append(has)
    assert windows == max(counts) and min(counts) < max(counts)


def test_heads_and_embedding_are_there_for_several_outputs_alone(config):
    def backbone(model_config):
        model = build_model(model_config, config.run, 3, 2)
        return jax.eval_shape(lambda: init_params(model, 0))["backbone"]

    several, one = backbone(config.model), backbone(tiny.config().model)
    assert set(several["head"]) == {
        "to_velocity",
        "to_direction",
        "to_emg",
        "to_events",
        "embedding",
    }
    assert set(one["head"]) == {"kernel", "bias"}
    assert several["head"]["embedding"].shape == (4, 16)
    assert several["head"]["to_emg"]["kernel"].shape == (16, 12)
    named = replace(tiny.config().model, outputs=(OutputConfig(name="velocity"),))
    assert jax.tree.structure(backbone(named)) == jax.tree.structure(one)
    assert empty_batch(tiny.config().model).query_outputs is None


# --- a model of several outputs


def test_every_output_is_scored_in_its_own_metric(trained, sessions):
    model, folder = trained
    assert set(model.metrics) == {
        "valid_velocity_r2",
        "valid_direction_accuracy",
        "valid_direction_balanced_accuracy",
        "valid_emg_r2",
        "valid_events_deviance",
        "valid_shortfall",
    }
    firsts = ("velocity_r2", "direction_accuracy", "emg_r2", "events_deviance")
    shortfalls = [1 - model.metrics[f"valid_{name}"] for name in firsts]
    assert model.metrics["valid_shortfall"] == pytest.approx(np.mean(shortfalls))
    assert model.metadata.rank == -model.metrics["valid_shortfall"]
    lines = (folder / "metrics.jsonl").read_text()
    parts = [f'"loss_{name}"' for name in ("velocity", "direction", "emg", "events")]
    assert all(part in lines for part in parts)
    evaluations = evaluate_outputs(model, sessions)
    assert {name: len(each.scores) for name, each in evaluations.items()} == {
        "velocity": 3,
        "direction": 2,
        "emg": 1,
        "events": 1,
    }
    assert evaluations["direction"].metric.name == "accuracy"
    assert set(evaluations["direction"].other_scores) == {"balanced_accuracy"}
    one = evaluate(model, sessions, output="emg")
    assert one.scores == evaluations["emg"].scores


def test_parts_of_the_loss_add_up_to_it(trained):
    _, folder = trained
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in (line for line in lines if "loss" in line):
        parts = [value for name, value in line.items() if name.startswith("loss_")]
        assert len(parts) == 4 and sum(parts) == pytest.approx(line["loss"], rel=1e-5)


def test_decode_returns_each_output_at_its_own_times(trained, sessions):
    model, _ = trained
    decoded = decode_outputs(model, sessions[0])
    assert list(decoded) == ["velocity", "direction", "emg", "events"]
    rates = {name: 1 / np.median(np.diff(each.times)) for name, each in decoded.items()}
    assert rates == pytest.approx({"velocity": 50, "direction": 20, "emg": 200, "events": 10})
    direction = decoded["direction"]
    np.testing.assert_allclose(direction.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(direction.probabilities.argmax(axis=1), direction.values[:, 0])
    assert direction.labels[0] in direction.classes and direction.kind == "classes"
    assert (decoded["events"].values > 0).all() and decoded["emg"].values.shape[1] == 12
    assert decoded["velocity"].std is None
    one = decode(model, sessions[0], output="direction")
    np.testing.assert_array_equal(one.values, direction.values)
    assert decode(model, sessions[2]).output == "velocity"


def test_several_outputs_are_asked_for_by_name(trained, sessions):
    model, _ = trained
    with pytest.raises(DataError, match=r"several outputs: 'velocity', .*or call decode_outputs"):
        decode(model, sessions[0])
    with pytest.raises(DataError, match=r"no output 'emgs'; its outputs are .*Did you mean 'emg'"):
        evaluate(model, sessions, output="emgs")
    with pytest.raises(DataError, match=r"several outputs: 'velocity', 'direction', 'emg', 'eve"):
        WindowDecoder(model, sessions[0])
    with pytest.raises(DataError, match=r"has several readouts \(velocity, direction"):
        model.readout(sessions[0].id)


def test_a_stream_decodes_one_output_as_decode_does(trained, sessions):
    model, _ = trained
    session = sessions[0]
    start = float(session.split("test").starts[0])
    expected = decode_outputs(model, session, overlap=1)["emg"]
    stream = StreamDecoder(model, session, queries=(0.5,), output="emg")
    stream.push(*session.spikes_between(start, start + 1))
    place = np.argmin(np.abs(expected.times - (start + 0.5)))
    found = stream.predict(start + 1).values[0]
    np.testing.assert_allclose(found, expected.values[place], atol=1e-4)


def test_a_checkpoint_carries_its_outputs(trained, sessions, tmp_path):
    model, folder = trained
    again = load(folder)
    assert again.config.model == model.config.model and again.readouts == model.readouts
    model.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "reach.direction (8 classes)" in card and "events.count (counts)" in card
    saved = load(tmp_path)
    expected = decode(model, sessions[1], output="direction")
    np.testing.assert_array_equal(
        decode(saved, sessions[1], output="direction").values, expected.values
    )


def test_a_run_of_several_outputs_is_continued(trained, config, sessions, readouts, tmp_path):
    model, _ = trained
    half = replace(config, run=replace(config.run, save_every=STEPS // 2))
    with pytest.raises(poyo_jax.errors.Interrupted):
        train_model(
            half, sessions, tmp_path, readouts=readouts, progress=False, writers=[_StopAt(6)]
        )
    again = train_model(half, sessions, tmp_path, readouts=readouts, progress=False)
    for one, other in zip(
        jax.tree.leaves(again.params), jax.tree.leaves(model.params), strict=True
    ):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


class _StopAt:
    """Asks for a stop when the metrics of a step are written."""

    def __init__(self, step):
        self._step = step

    def write(self, step, values):
        if step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self):
        pass


def test_names_of_several_outputs_are_those_of_poyo_plus(trained, readouts):
    """There and back, by the names that POYO+ of torch_brain has."""
    model, _ = trained
    state = poyo_jax.to_torch(model)
    assert state["task_emb.weight"].shape == (4, 16)
    assert state["readout.projections.emg.weight"].shape == (12, 16)
    again = poyo_jax.from_torch(state, config=model.config.model, readouts=readouts)
    leaves = zip(jax.tree.leaves(again.params), jax.tree.leaves(model.params), strict=True)
    assert all(np.array_equal(one, other) for one, other in leaves)
    with pytest.raises(CheckpointError, match=r"POYO\+ with the outputs direction, emg, events, v"):
        poyo_jax.from_torch(state, readouts=readouts)
    with pytest.raises(ConfigError, match=r"has 4 outputs, but torch_brain's POYO has one"):
        poyo_jax.save_torch(model, "model.ckpt")
    unnamed = {name: [replace(each[0], name="hand"), *each[1:]] for name, each in readouts.items()}
    with pytest.raises(DataError, match=r"'hand' of session .* is none of the outputs velocity"):
        poyo_jax.from_torch(state, config=model.config.model, readouts=unnamed)


# --- bad input


def train(config, sessions, readouts, folder):
    train_model(config, sessions, folder, readouts=readouts, progress=False)


def test_an_output_that_no_session_has_is_refused(config, sessions, tmp_path):
    alone = {sessions[2].id: readout(sessions[2], "velocity")}
    with pytest.raises(DataError, match=r"has the output 'direction', but none of the 1 sessions"):
        train(config, sessions[2:], alone, tmp_path)


def test_readouts_that_do_not_fit_the_outputs_are_explained(config, sessions, readouts, tmp_path):
    session = sessions[0]
    velocity, direction, emg, _ = readouts[session.id]
    for wrong, text in [
        ([velocity, replace(emg, name="velocity")], r"two readouts with the name 'velocity'"),
        (replace(velocity, name="hand"), r"'hand' of session .* is none of the outputs"),
        (replace(emg, name="velocity"), r"has 12 channels, but the model decodes 2"),
        (replace(direction, name="velocity"), r"has classes values, but the model decodes contin"),
    ]:
        with pytest.raises(DataError, match=text):
            train(config, [session], {session.id: wrong}, tmp_path)


def test_targets_that_are_all_missing_are_explained(config, sessions, readouts, tmp_path):
    times = np.arange(0, 60, 0.1)
    session = sessions[0].with_behaviour("more.vel", times, np.full((len(times), 2), np.nan))
    blank = Readout(value_key="more.vel", mean=(0.0, 0.0), std=(1.0, 1.0), name="velocity")
    given = [blank, *readouts[session.id][1:]]
    with pytest.raises(
        DataError, match=r"more.vel of session .* has no finite sample in the train"
    ):
        train(config, [session], {session.id: given}, tmp_path)


def test_readouts_of_one_name_that_differ_are_explained(config, sessions):
    velocity, emg = readout(sessions[0], "velocity"), readout(sessions[1], "emg")
    given = {sessions[0].id: velocity, sessions[1].id: replace(emg, name="velocity")}
    with pytest.raises(DataError, match=r"'velocity' has 12 channels .* Give the readouts diff"):
        with_outputs(config, given, sessions)
    with pytest.raises(DataError, match=r"a readout for session 'x', which is none of the 3"):
        with_outputs(config, {"x": velocity}, sessions)
    with pytest.raises(DataError, match=r"weights names the output 'x', but the readouts are of"):
        with_outputs(config, {sessions[0].id: velocity}, sessions, weights={"x": 1.0})


def test_names_of_classes_are_checked():
    times = np.arange(0, 60, 0.5)
    mixed = np.array(["a", 3] * 60, object)
    with pytest.raises(poyo_jax.errors.SessionError, match=r"the label 3 of type int among texts"):
        tiny.simulate(0).with_behaviour("task.x", times, mixed)
    named = tiny.simulate(0).with_behaviour("task.x", times, ["a", None] * 60)
    assert named.behaviour("task.x").classes == ("a",)
    assert named.behaviour("cursor.vel").unit == "cm/s"
    other = named.with_behaviour("emg.x", times, times, unit="mV")
    assert other.behaviour("emg.x").unit == "mV" and other.behaviour("cursor.vel").unit == "cm/s"
