"""Tasks: how an output is trained and scored, and how a configuration names them."""

import subprocess
import sys
import types
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from poyo_jax import Readout, WindowDecoder, evaluate, load, train_model
from poyo_jax.checkpoint.store import best_step
from poyo_jax.config import ModelConfig
from poyo_jax.decoding import Evaluation
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.import_path import resolve
from poyo_jax.metrics import r2_score
from poyo_jax.tasks import R2, Classes, Counts, Gaussian, Metric, Regression, choose_task

READOUT = Readout(value_key="cursor.vel", mean=(1.0, -2.0), std=(3.0, 4.0))
LABELS = Readout(value_key="reach.direction", kind="classes", classes=("left", "right"))
ERROR = Metric(
    name="error",
    label="error",
    text="error",
    higher_is_better=False,
    perfect=0.0,
    sums=lambda targets, values, readout: np.array([len(targets), (targets != values).sum()]),
    score=lambda sums: sums[1] / sums[0],
)


@dataclass(frozen=True)
class Wide(Regression):
    """Two outputs for every channel, of which the first of each pair is the value."""

    def output_size(self, num_channels):
        return 2 * num_channels

    def loss(self, outputs, targets):
        return abs(outputs[..., ::2] - targets).sum(axis=-1)

    def predict(self, outputs, readout):
        return super().predict(outputs[..., ::2], readout)


def named(path: str) -> ModelConfig:
    return ModelConfig(task=path)


# --- regression


def test_the_loss_is_bit_for_bit_the_mean_squared_error():
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(2, 5, 40, 3)).astype(np.float32) * 10
    weights = rng.random((5, 40), dtype=np.float32)

    def total(loss):
        return lambda outputs: (weights * loss(outputs, targets)).sum()

    def squared(outputs, targets):
        return jnp.square(outputs - targets).mean(axis=-1)

    task = Regression()
    for transform in (lambda f: f, jax.grad):
        ours = jax.jit(transform(total(task.loss)))(outputs)
        expected = jax.jit(transform(total(squared)))(outputs)
        assert np.asarray(ours).tobytes() == np.asarray(expected).tobytes()
    assert task.loss(outputs, targets).shape == (5, 40)


def test_values_are_normalised_by_the_readout_and_back():
    task, values = Regression(), np.array([[1.0, -2.0], [4.0, 2.0], [-5.0, np.nan]], np.float32)
    normalised = task.normalise(values, READOUT)
    np.testing.assert_array_equal(normalised, [[0, 0], [1, 1], [-2, np.nan]])
    np.testing.assert_array_equal(task.predict(normalised, READOUT), values)
    assert task.output_size(12) == 12


def test_r2_is_that_of_sums_that_are_added():
    rng = np.random.default_rng(0)
    targets, values = rng.normal(size=(2, 30, 2))
    first, second = slice(0, 11), slice(11, 30)
    total = sum(R2.sums(targets[some], values[some], READOUT) for some in (first, second))
    assert R2.score(total) == pytest.approx(r2_score(targets, values), abs=1e-12)


# --- metrics


def test_a_metric_has_a_key_and_a_direction():
    assert R2.key("valid") == "valid_r2" and ERROR.key("test") == "test_error"
    assert R2.rank(0.5) > R2.rank(0.4) and ERROR.rank(0.5) < ERROR.rank(0.4)
    assert R2.shortfall(0.75) == 0.25 and ERROR.shortfall(0.75) == 0.75
    scores = {10: 0.5, 20: 0.4, 30: 0.6, 40: 0.4}
    assert best_step({step: R2.rank(score) for step, score in scores.items()}) == 30
    assert best_step({step: ERROR.rank(score) for step, score in scores.items()}) == 40


def test_scores_of_another_metric_are_not_called_r2():
    assert Evaluation({"a": 0.5}, {}).r2 == {"a": 0.5}
    with pytest.raises(DataError, match=r"scored by error, not by R2; read `evaluation.scores`"):
        _ = Evaluation({"a": 0.5}, {}, ERROR).r2


# --- a task that a configuration names


def test_the_default_task_is_regression():
    assert choose_task(ModelConfig()) == Regression()


def test_a_task_of_ones_own_is_used_once_it_is_imported():
    assert choose_task(named(f"{__name__}:Wide")) == Wide()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("Regression", "ModelConfig.task is 'Regression'; it must be an import path"),
        (None, "ModelConfig.task is None; it must be an import path 'module:Class'"),
        ("poyo_jax.tasks:Regresion", "no class 'Regresion'. Did you mean 'Regression'"),
        ("poyo_jax.task:Regression", "no module poyo_jax.task. Did you mean 'poyo_jax.tasks'"),
        ("poyo_jax.tasks.more:Regression", "no module poyo_jax.tasks.more. .*update poyo_jax"),
        ("poyo_jax.tasks:R2", "which is of type Metric; it must name a class"),
        ("poyo_jax.tasks:Metric", "is not a task: it has no metric, output_size, .*Regression"),
        ("subprocess:Popen", "is not a task"),
        ("antigravity:Task", "antigravity has not been imported.*`import antigravity`"),
        ("os.path:", "must be an import path"),
        ("lazy_attributes:Task", "module lazy_attributes has no class 'Task'"),
    ],
)
def test_a_path_that_names_no_task_is_explained(path, text, monkeypatch):
    def make_attribute(name):
        pytest.fail("an attribute was made, which may import a module")

    module = types.ModuleType("lazy_attributes")
    vars(module)["__getattr__"] = make_attribute
    monkeypatch.setitem(sys.modules, "lazy_attributes", module)
    with pytest.raises(ConfigError, match=text):
        choose_task(named(path))


def test_a_path_imports_nothing_outside_the_package(tmp_path):
    (tmp_path / "stranger.py").write_text("raise SystemExit('code of a stranger has run')\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from poyo_jax.errors import ConfigError
from poyo_jax.import_path import resolve
try:
    resolve("stranger:Task", "ModelConfig.task")
except ConfigError:
    assert "stranger" not in sys.modules
    assert resolve("poyo_jax.tasks:Regression", "ModelConfig.task").__name__ == "Regression"
    assert "jax" not in sys.modules
    print("safe")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "safe\n", done.stderr


def test_other_settings_are_named_in_the_message():
    with pytest.raises(ConfigError, match=r"ModelConfig.processor is 'x'"):
        resolve("x", "ModelConfig.processor")


# --- a task in a model


def test_an_unknown_task_in_a_saved_model_is_a_sentence(tiny_run, tmp_path, monkeypatch):
    pretrained = load(tiny_run)
    model = replace(pretrained.config.model, task="poyo_jax.tasks:Poisson")
    config = replace(pretrained.config, model=model)
    monkeypatch.setattr("poyo_jax.tasks.Poisson", Regression, raising=False)
    replace(pretrained, config=config).save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"has no class 'Poisson'.*update the package"):
        load(tmp_path)


def test_the_width_of_outputs_may_differ_from_that_of_targets(tiny_sessions, tmp_path):
    config = tiny.config(num_steps=3, eval_every=3, save_every=3)
    config = replace(config, model=replace(config.model, task=f"{__name__}:Wide"))
    trained = train_model(config, tiny_sessions[:1], tmp_path, progress=False)
    kernel = trained.params["backbone"]["head"]["kernel"]
    assert kernel.shape[-1] == 2 * config.model.num_channels
    evaluation = evaluate(trained, tiny_sessions[:1])
    (prediction,) = evaluation.predictions.values()
    assert prediction.values.shape == prediction.targets.shape
    assert evaluation.metric == R2 and "valid_r2" in trained.metrics
    decoder = WindowDecoder(trained, tiny_sessions[0])
    assert decoder([0.1], [0], [0.5, 0.6]).shape == (2, 2)


# --- ensembles


@pytest.mark.parametrize(
    "task, readout", [(Regression(), READOUT), (Counts(), LABELS), (Classes(), LABELS)]
)
def test_outputs_of_an_ensemble_are_those_of_the_mean(task, readout):
    outputs = np.random.default_rng(0).normal(size=(3, 20, 2)) * 20
    together = task.average(outputs)
    if not task.details(together, readout):
        alone = np.mean([task.predict(each, readout) for each in outputs], axis=0)
        np.testing.assert_allclose(task.predict(together, readout), alone)
        return
    alone = np.mean([task.details(each, readout)["probabilities"] for each in outputs], axis=0)
    found = task.details(together, readout)["probabilities"]
    np.testing.assert_allclose(found, alone, atol=1e-12)
    np.testing.assert_array_equal(task.predict(together, readout)[:, 0], alone.argmax(axis=1))


def test_the_spread_of_an_ensemble_is_that_of_the_mixture():
    task, rng = Gaussian(), np.random.default_rng(0)
    outputs = rng.normal(size=(2, 1, 4))
    together = task.average(outputs)
    means = [task.predict(each, READOUT) for each in outputs]
    spreads = [task.details(each, READOUT)["std"] for each in outputs]
    drawn = rng.normal(means, spreads, (200_000, 2, 1, 2)).reshape(-1, 2)
    np.testing.assert_allclose(task.predict(together, READOUT)[0], drawn.mean(axis=0), atol=0.05)
    std = task.details(together, READOUT)["std"][0]
    np.testing.assert_allclose(std, drawn.std(axis=0), rtol=0.01)
    assert (std > np.mean(spreads, axis=0)).all()
