"""Numbers of the PyTorch reference: rotation, predictions, latents, gradients, and five steps of
training.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_model import TINY, golden_batch, load, packed, params_from_torch
from whole_model import loss_sum, predict

from poyo_jax.config import OptimConfig, RunConfig
from poyo_jax.distributed.mesh import make_mesh, put_batch, replicated
from poyo_jax.model.build import build_model
from poyo_jax.model.poyo import Backbone
from poyo_jax.model.rotary import omega, token_rotation
from poyo_jax.train.optim.choose import choose_optimizer, make_schedules
from poyo_jax.train.state import TrainState
from poyo_jax.train.step import Fixed, make_train_step

ARRAYS = load("poyo_tiny")
BATCH, MASK = golden_batch(ARRAYS), ARRAYS["batch/output_mask"]
PARAMS = params_from_torch(ARRAYS, "param", TINY.depth)
PACKED = {size: packed(BATCH, size, multiple=multiple) for size, multiple in ((8, 4), (32, 1))}
MODEL = build_model(TINY, RunConfig(), len(ARRAYS["vocab/unit"]), len(ARRAYS["vocab/session"]))


@jax.jit
@jax.value_and_grad
def value_and_gradient(params, batch):
    return loss_sum(MODEL, params, batch, None, 1) / batch.target_weights.sum()


def worst(actual, expected):
    """Largest difference of two trees, over the largest number of each tensor; layers are tensors
    of their own.
    """

    def of_tensor(path, actual, expected):
        layered = any(getattr(entry, "key", None) == "layers" for entry in path)
        axes = tuple(range(int(layered), expected.ndim))
        return (np.abs(actual - expected).max(axes) / np.abs(expected).max(axes)).max()

    errors = jax.tree_util.tree_map_with_path(of_tensor, jax.device_get(actual), expected)
    return max(jax.tree.leaves(errors))


def _encoded(backbone, unit_vectors, batch):
    """Latents after the encoder, without dropout."""
    return backbone.encoder.update(backbone.attend(unit_vectors, batch, None), None)


@pytest.mark.parametrize("batch", [BATCH, *PACKED.values()], ids=["padded", *map(str, PACKED)])
def test_predictions_equal_the_reference(batch):
    predictions = jax.jit(partial(predict, MODEL, microbatch_windows=2))(PARAMS, batch)
    np.testing.assert_allclose(predictions[MASK], ARRAYS["out/f64ts"][MASK], rtol=0, atol=5e-6)


def test_the_module_itself_is_as_good_as_the_reference():
    ours = np.asarray(jax.jit(MODEL.apply)({"params": PARAMS}, BATCH))[MASK]
    theirs, exact = ARRAYS["out/f64ts"][MASK], ARRAYS["out/f64model"][MASK]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    assert np.abs(ours - exact).max() < 2 * np.abs(theirs - exact).max()  # exact: all in float64


def test_latents_equal_the_reference():
    module = Backbone(MODEL.config, MODEL.compute)
    silent = jax.tree_util.tree_map_with_path(
        silence, PARAMS["backbone"]
    )  # the processor adds nothing

    @jax.jit
    def latents(backbone, units, batch):
        encoded = module.apply({"params": backbone}, units, batch, method=_encoded)
        processed = module.apply({"params": backbone}, encoded, None, method="process")
        return encoded, processed

    encoded, processed = latents(PARAMS["backbone"], PARAMS["unit_embedding"], BATCH)
    np.testing.assert_allclose(encoded, ARRAYS["inter/enc_latents"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(processed, ARRAYS["inter/proc_latents"], rtol=0, atol=5e-6)
    _, unprocessed = latents(silent, PARAMS["unit_embedding"], BATCH)
    np.testing.assert_allclose(unprocessed, encoded, rtol=0, atol=5e-6)


def test_stored_parameters_are_in_the_order_of_their_use():
    """The backbone gives the predictions of the reference from the parameters as they are."""
    module = Backbone(MODEL.config, MODEL.compute)
    units = PARAMS["unit_embedding"][BATCH.unit_rows]
    sessions = PARAMS["session_embedding"][BATCH.session_rows]
    actual = jax.jit(module.apply)({"params": PARAMS["backbone"]}, units, sessions, BATCH)
    np.testing.assert_allclose(actual[MASK], ARRAYS["out/f64ts"][MASK], rtol=0, atol=5e-6)


def silence(path, x):
    names = [entry.key for entry in path]
    last = names[-2] in ("output", "contract")
    return 0 * x if names[0] == "processor" and last else x


@pytest.mark.parametrize("batch", [BATCH, PACKED[8]], ids=["padded", "8"])
@pytest.mark.parametrize("loss", ["mse", "weighted"])
def test_losses_and_gradients_equal_the_reference(batch, loss):
    weights = MASK.astype(np.float32) if loss == "mse" else BATCH.target_weights
    batch = batch._replace(target_weights=weights)
    value, gradient = value_and_gradient(PARAMS, batch)
    np.testing.assert_allclose(value, ARRAYS[f"loss/{loss}"], rtol=2e-6)
    expected = params_from_torch(ARRAYS, f"grad_{loss}", TINY.depth)
    assert not gradient["unit_embedding"][0].any() and not gradient["session_embedding"][0].any()
    assert not gradient["backbone"]["encoder"]["token_kind_embedding"][3].any()
    assert worst(gradient, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("batch", [BATCH, PACKED[32]], ids=["padded", "32"])
def test_five_training_steps_equal_the_reference(batch):
    arrays = load("train5")
    meta = json.loads(str(arrays["meta"]))
    settings = OptimConfig(
        learning_rate=meta["lr"],
        weight_decay=meta["weight_decay"],
        pct_start=meta["pct_start"],
    )
    mesh = make_mesh()
    rule = choose_optimizer(settings, mesh)
    step = make_train_step(MODEL, rule.follow, mesh, microbatch_windows=None)
    fixed = Fixed.of(make_schedules(settings, meta["total_steps"]), 0, mesh)
    state = TrainState(np.zeros((), np.int32), PARAMS, jax.jit(rule.init)(PARAMS))
    state = jax.device_put(state, replicated(mesh))
    for number, expected in enumerate(arrays["loss"], start=1):
        state, metrics = step(state, put_batch(batch, mesh), fixed)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5, err_msg=f"step {number}")
        if f"step{number}/readout.bias" in arrays:
            assert (
                worst(state.params, params_from_torch(arrays, f"step{number}", TINY.depth)) < 1e-5
            ), number
    assert state.step == meta["num_steps"] == 5


@pytest.mark.parametrize("head_dim", [16, 32, 64, 128])
def test_frequencies_equal_the_reference_bit_for_bit(head_dim):
    expected = load("rotary")[f"omega/{head_dim}"]
    count = head_dim // 4
    assert omega(head_dim).dtype == expected.dtype
    np.testing.assert_array_equal(omega(head_dim), expected[:count])
    assert not expected[count:].any()  # the half of the head that does not rotate


@pytest.mark.parametrize("head_dim", [16, 64])
def test_rotation_of_tokens_equals_the_reference(head_dim):
    arrays = load("rotary")
    times = arrays["t"].astype(np.float32)
    rotation = token_rotation(
        jnp.asarray(times), jnp.asarray((arrays["t"] - times).astype(np.float32)), head_dim
    )
    cos, sin = np.split(arrays[f"emb_f64/{head_dim}"], 2, axis=1)
    for ours, theirs in ((rotation.cos, cos), (rotation.sin, sin)):
        np.testing.assert_array_equal(
            theirs[:, 0::2], theirs[:, 1::2]
        )  # every angle stands there twice
        np.testing.assert_allclose(ours, theirs[:, : head_dim // 2 : 2], rtol=0, atol=2e-6)
