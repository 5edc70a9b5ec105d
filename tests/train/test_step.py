"""Training and prediction steps: the same numbers on any number of devices, and what is frozen
stays.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from model_sessions import simulated
from train_on_devices import BATCHES, MESHES, MODEL, STEPS
from whole_model import predict

from poyo_jax.config import OptimConfig, RunConfig
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.decoding.predict import make_predict_step
from poyo_jax.distributed.mesh import make_mesh, put_batch, replicated
from poyo_jax.model.build import build_model, empty_batch
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.state import TrainState, init_state
from poyo_jax.train.step import Fixed, make_train_step
from poyo_jax.types import PADDING

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def runs():
    """What train_on_devices.py printed."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    result = subprocess.run(
        [sys.executable, str(TESTS / "train_on_devices.py")],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_training_does_not_depend_on_the_devices_or_their_arrangement(runs, mesh):
    alone = runs["1x1"]["metrics"]
    assert len({loss for loss, _ in alone}) == len(alone) == STEPS
    np.testing.assert_allclose(runs["{}x{}".format(*mesh)]["metrics"], alone, rtol=1e-5)


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_units_start_alike_whatever_the_devices_and_their_arrangement(runs, mesh):
    assert runs["{}x{}".format(*mesh)]["tuned"] == runs["1x1"]["tuned"]


def test_parameters_are_divided_along_fsdp(runs):
    assert runs["1x1"]["held"] == runs["4x1"]["held"] == 1
    assert 0.5 < runs["2x2"]["held"] < 0.6  # all but norms and embeddings
    assert 0.25 < runs["1x4"]["held"] < 0.4


def test_a_step_is_compiled_once_for_every_shape(runs):
    assert len(runs) == len(MESHES)
    for run in runs.values():
        assert 1 <= run["compiled"] <= run["shapes"]


# --- one device


@pytest.fixture(scope="module")
def batch():
    sources, *_ = simulated(num_sessions=2)
    return TrainBatches(sources, BATCHES, MODEL.window_length, 1)[0]


@pytest.fixture(scope="module")
def model():
    return build_model(MODEL, RunConfig(), 64, 3)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh()


OPTIM = OptimConfig(learning_rate=0.01)


@pytest.fixture(scope="module")
def rule(mesh):
    return choose_optimizer(OPTIM, mesh)


@pytest.fixture(scope="module")
def fixed(mesh):
    return Fixed.of(make_schedules(OPTIM, 100), 3, mesh)


@pytest.fixture(scope="module")
def train_step(model, rule, mesh):
    return make_train_step(model, rule.follow, mesh, microbatch_windows=4)


@pytest.fixture(scope="module")
def start(model, rule, mesh):
    """The state before the first step, in numpy: steps take the one given to them."""
    return jax.device_get(init_state(model, rule, 0, mesh))


def copy(tree, mesh):
    return jax.device_put(jax.tree.map(np.array, tree), replicated(mesh))


def test_the_loss_is_the_weighted_mean_and_dropout_differs_between_steps(
    model, mesh, batch, start, train_step, fixed
):
    losses = []
    for step in (0, 0, 1):
        state = start._replace(step=np.int32(step))
        _, metrics = train_step(copy(state, mesh), put_batch(batch, mesh), fixed)
        losses.append(float(metrics["loss"]))
    assert losses[0] == losses[1] and abs(losses[2] / losses[0] - 1) > 1e-4
    predictions = jax.jit(partial(predict, model, microbatch_windows=None))(start.params, batch)
    errors = np.square(predictions - batch.targets).mean(axis=-1)
    still = (batch.target_weights * errors).sum() / batch.target_weights.sum()
    assert losses[0] == pytest.approx(float(still), rel=0.2)  # at the start, dropout changes little


def test_a_batch_without_weight_has_no_loss_and_a_finite_gradient(
    mesh, batch, start, train_step, fixed
):
    silent = batch._replace(target_weights=np.zeros_like(batch.target_weights))
    state, metrics = train_step(copy(start, mesh), put_batch(silent, mesh), fixed)
    assert metrics["loss"] == 0 and metrics["gradient_norm"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)) and state.step == 1


def test_what_is_frozen_stays_and_what_learns_moves_the_same(
    mesh, batch, start, rule, train_step, fixed
):
    full, metrics = train_step(copy(start, mesh), put_batch(batch, mesh), fixed)
    tables = {name: table for name, table in start.params.items() if name != "backbone"}
    frozen = copy({"backbone": start.params["backbone"]}, mesh)
    state = copy(TrainState(start.step, tables, jax.jit(rule.init)(tables)), mesh)
    state, of_tables = train_step(state, put_batch(batch, mesh), fixed._replace(frozen=frozen))
    np.testing.assert_allclose(of_tables["loss"], metrics["loss"], rtol=1e-6)
    assert 0 < of_tables["gradient_norm"] < metrics["gradient_norm"]
    assert set(state.params) == set(tables) == {"unit_embedding", "session_embedding"}
    for name, moved in state.params.items():
        assert not np.array_equal(moved, tables[name])
        np.testing.assert_allclose(moved, full.params[name], rtol=0, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, frozen["backbone"], start.params["backbone"])


def test_only_rows_of_the_batch_move(mesh, batch, start, train_step, fixed):
    state, _ = train_step(copy(start, mesh), put_batch(batch, mesh), fixed)
    moved = np.flatnonzero(
        (np.asarray(state.params["unit_embedding"]) != start.params["unit_embedding"]).any(axis=1)
    )
    tokens = batch.token_kinds != PADDING
    assert moved.tolist() == sorted(set(batch.unit_rows[batch.token_units[tokens]].tolist()))
    assert (
        not state.params["unit_embedding"][0].any()
        and not state.params["session_embedding"][0].any()
    )


def test_prediction_steps_predict(model, mesh, batch, start):
    step = make_predict_step(model, mesh, microbatch_windows=2)
    assert make_predict_step(model, mesh, microbatch_windows=2) is step  # nothing is compiled twice
    expected = jax.jit(partial(predict, model, microbatch_windows=None))(start.params, batch)
    np.testing.assert_allclose(
        step(start.params, put_batch(batch, mesh)), expected, rtol=0, atol=1e-6
    )


def test_tables_start_small_and_their_padding_row_at_zero(start):
    for name in ("unit_embedding", "session_embedding"):
        table = start.params[name]
        assert not table[0].any() and table[1:].std() == pytest.approx(0.02, rel=0.2), name


def test_the_empty_batch_holds_padding_alone():
    batch = empty_batch(MODEL)
    assert np.all(batch.token_kinds == PADDING) and not batch.target_weights.any()
