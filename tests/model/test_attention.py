"""Every back end of attention against the plain one, alone and in the model, and which of them is
chosen.

cuDNN and TPUs are not at hand: JAX's plain implementation of the same function stands in for the
one, the interpreter of Pallas for the other. What they are compiled to is checked as text.
"""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_properties
from golden_model import packed
from test_properties import (
    BATCH,
    CONFIG,
    PACKED,
    SEED,
    SESSIONS,
    UNITS,
    assert_close,
    gradient_of,
    loss_of,
    predictor,
)

from poyo_jax.config import ModelConfig, OptimConfig, RunConfig
from poyo_jax.decoding.predict import make_predict_step
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import ConfigError
from poyo_jax.model.attention import api as attention
from poyo_jax.model.attention import flash, tokens
from poyo_jax.model.attention.api import attend, choose
from poyo_jax.model.attention.flash import RETURNS_LOG_SUM, attend_with_log_sum
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.hardware import own_platform, platform_of
from poyo_jax.model.rotary import token_rotation
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.step import make_train_step
from poyo_jax.types import PADDING

params = test_properties.params  # a fixture
STAND_INS = {
    "cudnn": partial(flash.cudnn, implementation="xla"),
    "splash": partial(flash.splash, interpret=True),
}
SEEDS = jnp.array([3, 8], jnp.uint32)
KEYS, LENGTHS = 300, jnp.array([1, 300], jnp.int32)
needs_log_sum = pytest.mark.skipif(
    not RETURNS_LOG_SUM, reason="this version of JAX returns no log-sum-exp"
)


def skip_unless_cudnn_has_a_stand_in():
    try:
        jax.jit(STAND_INS["cudnn"])(*arrays(jnp.bfloat16))[0].block_until_ready()
    except jax.errors.JaxRuntimeError:
        pytest.skip("jax.nn.dot_product_attention has no bfloat16 on CPUs in this version of JAX")


@pytest.fixture
def stand_ins(monkeypatch):
    """Flash attention that runs anywhere, in float32 too."""
    monkeypatch.setattr(attention, "_obstacle", lambda *_: None)
    for name, stand_in in STAND_INS.items():
        monkeypatch.setitem(flash.FLASH, name, stand_in)


def arrays(dtype=jnp.float32, keys=KEYS, head_dim=16):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((2, 3, n, head_dim)), dtype) for n in (70, keys, keys)]


def with_gradient(function):
    """(arrays) -> (result, gradient of a sum in which every element has a weight of its own)."""

    def weighted(*inputs):
        out = function(*inputs)
        return sum(
            (x * jnp.cos(jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape))).sum()
            for x in jax.tree.leaves(out)
        )

    return jax.jit(
        lambda *inputs: (function(*inputs), jax.grad(weighted, tuple(range(len(inputs))))(*inputs))
    )


def assert_all_close(actual, expected):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("back_end", ["chunked", "cudnn", "splash"])
def test_a_back_end_gives_what_the_plain_one_gives(stand_ins, back_end):
    actual, expected = (
        with_gradient(partial(attend, back_end=name))(*arrays()) for name in (back_end, "xla")
    )
    assert_all_close(actual, expected)


def test_chunks_drop_the_same_weights():
    drop = partial(attend, attention_dropout=0.3, seeds=SEEDS)
    actual, expected = (
        with_gradient(partial(drop, back_end=name))(*arrays()) for name in ("chunked", "xla")
    )
    assert_all_close(actual, expected)
    assert np.abs(expected[0] - attend(*arrays())).max() > 0.1


MASKS = {
    "keys": np.arange(KEYS) % 3 > 0,
    "causal": np.arange(KEYS) <= 4 * np.arange(70)[:, None],
    "heads and windows": np.random.default_rng(1).random((2, 3, 70, KEYS)) < 0.5,
}


@pytest.mark.parametrize("back_end", ["xla", "chunked", "auto"])
@pytest.mark.parametrize("name", MASKS)
def test_masked_keys_are_as_if_removed(back_end, name):
    def by_formula(query, key, value):
        scores = jnp.einsum("bhqk,bhmk->bhqm", query, key) / np.sqrt(query.shape[-1])
        return jax.nn.softmax(jnp.where(MASKS[name], scores, -jnp.inf)) @ value

    masked = with_gradient(partial(attend, back_end=back_end, mask=MASKS[name]))(*arrays())
    assert_all_close(masked, with_gradient(by_formula)(*arrays()))
    if name == "keys":
        query, key, value = arrays()
        kept = attend(query, key[:, :, MASKS[name]], value[:, :, MASKS[name]])
        assert_close(masked[0], kept)


@pytest.mark.parametrize("back_end", ["xla", "chunked"])
def test_a_query_without_keys_gets_zeros_and_no_gradient(back_end):
    mask = np.arange(70)[:, None] > 0
    out, gradient = with_gradient(partial(attend, back_end=back_end, mask=mask))(*arrays())
    assert not out[:, :, 0].any() and out[:, :, 1:].any()
    assert not gradient[0][:, :, 0].any()
    assert all(np.isfinite(x).all() for x in gradient)


@pytest.mark.parametrize("back_end", ["xla", "chunked"])
def test_dropout_and_masks_go_together(back_end):
    drop = partial(attend, attention_dropout=0.3, seeds=SEEDS, mask=MASKS["causal"])
    actual, expected = (
        with_gradient(partial(drop, back_end=name))(*arrays()) for name in (back_end, "xla")
    )
    assert_all_close(actual, expected)
    assert np.abs(expected[0] - attend(*arrays(), mask=MASKS["causal"])).max() > 0.1


def literal(query, key, value, lengths):
    """Attention to the first keys and the log-sum-exp of their scores, as their formulas say."""
    scores = jnp.einsum("bhqk,bhmk->bhqm", query, key) / np.sqrt(query.shape[-1])
    scores = jnp.where(np.arange(key.shape[2]) < lengths[:, None, None, None], scores, -jnp.inf)
    return jax.nn.softmax(scores) @ value, jax.nn.logsumexp(scores, axis=-1)


@needs_log_sum
def test_the_log_sum_has_its_gradient():
    cudnn = STAND_INS["cudnn"]
    actual = with_gradient(lambda *x: attend_with_log_sum(cudnn, *x, LENGTHS))(*arrays())
    assert_all_close(actual, with_gradient(lambda *x: literal(*x, LENGTHS))(*arrays()))


@pytest.mark.parametrize("back_end", ["xla", "chunked", "cudnn", "splash"])
def test_sums_over_keys_are_float32(stand_ins, back_end):
    """Of 4,000 values around 1 a sum in bfloat16 would stop growing at 256."""
    if back_end == "cudnn":
        skip_unless_cudnn_has_a_stand_in()
    query, key, value = arrays(jnp.bfloat16, keys=4000)
    key, value = 0.1 * key, 1 + 0.01 * value
    out = jax.jit(partial(attend, back_end=back_end))(query, key, value)
    assert out.dtype == jnp.bfloat16
    expected = attend(*(x.astype(jnp.float32) for x in (query, key, value)), back_end="xla")
    np.testing.assert_allclose(out.astype(jnp.float32), expected, rtol=2**-7)


def attend_to_rows(size, dtype):
    """Attention to 512 tokens of one window, which lie in rows of `size`."""
    rng = np.random.default_rng(3)
    query, table = (jnp.asarray(rng.standard_normal(n), dtype) for n in ((2, 8, 16), (40, 64)))
    shape = (512 // size, size)
    times = jnp.asarray(rng.random(shape), jnp.float32)
    rows = tokens.TokenRows(
        entries=jnp.asarray(rng.integers(0, 40, shape), jnp.int32),
        rotation=token_rotation(times, jnp.zeros_like(times), 16),
        mask=jnp.ones(shape, bool),
        offsets=jnp.zeros(len(times), jnp.int32),
        seeds=None,
    )
    windows = jnp.zeros(len(times), jnp.int32)
    attend = partial(attention.attend_tokens, rows_per_group=2, back_end="chunked")
    return attend(query, table, rows, windows, 1).astype(jnp.float32)


def test_rows_of_a_window_are_merged_before_they_are_rounded():
    expected = attend_to_rows(512, jnp.float32)

    def error(size):
        difference = attend_to_rows(size, jnp.bfloat16) - expected
        return np.sqrt(np.mean(np.square(difference))) / np.std(expected)

    assert error(64) < 1.05 * error(512) < 0.02


# --- in the model


def model_with(back_end, config=CONFIG, where=None, **run):
    return build_model(config, RunConfig(attention=back_end, **run), UNITS, SESSIONS, where)


ONE_EMPTY = BATCH._replace(
    token_kinds=np.where(np.arange(4)[:, None] == 2, np.int8(PADDING), BATCH.token_kinds)
)
BATCHES = {"padded": ONE_EMPTY, "packed": packed(ONE_EMPTY, 8, multiple=8)}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("back_end", ["chunked", "cudnn", "splash"])
def test_the_model_is_the_same_with_every_back_end(stand_ins, params, back_end, batch):
    still = dataclasses.replace(
        CONFIG, attention_dropout=0.0
    )  # of weights; the other dropouts remain
    ours, plain = model_with(back_end, still), model_with("xla", still)
    assert_close(predictor(ours)(params, batch), predictor(plain)(params, batch))
    actual, expected = (
        jax.tree.leaves(gradient_of(model)(params, batch, SEED)) for model in (ours, plain)
    )
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=3e-5 * np.abs(y).max())


@pytest.mark.parametrize("batch", [BATCH, PACKED], ids=["padded", "packed"])
@pytest.mark.parametrize("back_end", ["xla", "chunked"])
def test_dropout_of_attention_is_the_same_in_chunks(monkeypatch, params, back_end, batch):
    monkeypatch.setattr(tokens, "CHUNK_TOKENS", 16)  # so that padded rows become several chunks
    model = model_with(back_end, rows_per_group=2)
    assert_close(loss_of(model)(params, batch, SEED), loss_of()(params, BATCH, SEED))


@pytest.mark.parametrize("batch", [BATCH, PACKED], ids=["padded", "packed"])
@pytest.mark.parametrize("back_end", ["xla", "chunked", "cudnn", "splash"])
def test_bfloat16_stays_near_float32(stand_ins, params, back_end, batch):
    if back_end == "cudnn":
        skip_unless_cudnn_has_a_stand_in()
    model = model_with(
        back_end, dataclasses.replace(CONFIG, attention_dropout=0.0), compute_dtype="bfloat16"
    )
    predictions, expected = predictor(model)(params, batch), predictor()(params, batch)
    assert predictions.dtype == np.float32
    error = np.sqrt(np.mean(np.square(predictions - expected))) / np.std(expected)
    assert 1e-4 < error < 0.06  # bfloat16 rounds by up to 0.4 %, again and again
    made = (
        jax.eval_shape(gradient_of(model), params, batch, SEED),
        jax.eval_shape(loss_of(model), params, batch, SEED),
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(np.float32)}


# --- which one is chosen

BF16, F32 = jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)
FITTING = {"dtype": BF16, "head_dim": 64, "attention_dropout": 0.0}


@pytest.mark.parametrize(
    ("where", "asked", "chosen"),
    [
        ("cpu", {}, ("xla", "chunked")),
        ("cuda", {}, ("cudnn", "cudnn" if RETURNS_LOG_SUM else "chunked")),
        ("cuda", {"dtype": F32}, ("xla", "chunked")),
        ("cuda", {"head_dim": 256}, ("xla", "chunked")),
        ("cuda", {"attention_dropout": 0.2}, ("xla", "chunked")),
        ("tpu", {}, ("splash", "chunked")),
        ("tpu", {"dtype": F32}, ("splash", "chunked")),
        ("tpu", {"attention_dropout": 0.2}, ("xla", "chunked")),
        ("tpu", {"masked": True}, ("xla", "chunked")),
        ("cuda", {"masked": True}, ("xla", "chunked")),
        ("rocm", {}, ("xla", "chunked")),
    ],
)
def test_auto_takes_what_the_platform_has(where, asked, chosen):
    asked = FITTING | asked | {"platform": where}
    assert (choose("auto", **asked), choose("auto", **asked, packed=True)) == chosen
    assert (choose("xla", **asked), choose("xla", **asked, packed=True)) == ("xla", "xla")
    assert (choose("chunked", **asked), choose("chunked", **asked, packed=True)) == (
        "chunked",
        "chunked",
    )


REFUSED = [
    (
        "cudnn",
        "cuda",
        {"masked": True},
        "'cudnn' takes no mask, and this attention has one. Set RunConfig.attention to 'xla' or",
    ),
    (
        "cudnn",
        "cpu",
        {},
        "needs an NVIDIA GPU of compute capability 8.0 or higher; here it would run on cpu. Run it",
    ),
    (
        "splash",
        "cuda",
        {},
        "'splash' needs a TPU; here it would run on cuda. Run it there, or set RunConfig.attention",
    ),
    (
        "cudnn",
        "cuda",
        {"dtype": F32},
        "computes in bfloat16, not float32. Set RunConfig.compute_dtype to 'bfloat16', or",
    ),
    (
        "cudnn",
        "cuda",
        {"head_dim": 136},
        "head_dim to be a multiple of 8 and at most 128; it is 136. Change it, or set",
    ),
    ("cudnn", "cuda", {"head_dim": 12}, "head_dim to be a multiple of 8 and at most 128; it is 12"),
    (
        "cudnn",
        "cuda",
        {"attention_dropout": 0.2},
        "cannot drop attention weights, and ModelConfig.attention_dropout is ",
    ),
    (
        "splash",
        "tpu",
        {"attention_dropout": 0.2},
        "attention_dropout is 0.2. Train with 0, or set RunConfig.attention to",
    ),
]


@pytest.mark.parametrize(("back_end", "where", "asked", "text"), REFUSED)
def test_what_cannot_be_done_is_refused(back_end, where, asked, text):
    with pytest.raises(ConfigError, match=text):
        choose(back_end, platform=where, **FITTING | asked)


def test_gpus_without_flash_attention_are_not_asked_for_it():
    def where(capability):
        return platform_of(SimpleNamespace(platform="gpu", compute_capability=capability))

    assert choose("auto", platform=where("9.0"), **FITTING) == "cudnn"
    assert choose("auto", platform=where("gfx90a"), **FITTING) == "xla"
    assert choose("auto", platform=where("7.5"), **FITTING) == "xla"
    with pytest.raises(ConfigError, match=r"here it would run on a GPU of compute capability 7\.5"):
        choose("cudnn", platform=where("7.5"), **FITTING)


def test_steps_refuse_before_anything_is_computed():
    assert own_platform() == "cpu"
    with pytest.raises(
        ConfigError,
        match=(
            r"needs an NVIDIA GPU of .*; here it would run on cpu. Run it there, or set RunConfig"
        ),
    ):
        make_predict_step(model_with("cudnn"), make_mesh(), microbatch_windows=None)
    model = model_with("cudnn", where="cuda", compute_dtype="bfloat16")
    make_predict_step(
        model, make_mesh(), microbatch_windows=None
    )  # there is no dropout without training
    rule = choose_optimizer(OptimConfig(learning_rate=3.125e-5), make_mesh())
    with pytest.raises(ConfigError, match="cannot drop attention weights"):
        make_train_step(model, rule.follow, make_mesh(), microbatch_windows=None)


# --- what they compile to

# Heads of 64, as the presets.
LARGE = ModelConfig(dim=16, depth=1, self_heads=2, num_latents=16, attention_dropout=0.0)


@pytest.fixture
def with_cudnn(monkeypatch):
    from jax._src.cudnn import fused_attention_stablehlo as checks

    monkeypatch.setattr(checks, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(checks, "check_compute_capability", lambda _: True)


def lowered(batch, where):
    """The gradient of a model with automatic attention in bfloat16, as it would be handed to the
    compiler.
    """
    model = model_with("auto", LARGE, where, compute_dtype="bfloat16")
    shapes = jax.eval_shape(partial(init_params, model, 0))
    gradient = gradient_of(model)
    return gradient.trace(shapes, batch, SEED).lower(lowering_platforms=(where,)).as_text()


@pytest.mark.parametrize("batch", [BATCH, PACKED], ids=["padded", "packed"])
def test_cuda_gets_cudnn(with_cudnn, batch):
    """Encoder, processor and decoder; the encoder twice where the log-sum-exp of its rows has a
    gradient.
    """
    text = lowered(batch, "cuda")
    assert text.count("@__cudnn$fmhaSoftmaxBackward(") == (
        3 if batch is BATCH else 4 if RETURNS_LOG_SUM else 2
    )
    assert "fmhaScaleBias" not in text  # a bias would be stored, and has given NaN


@pytest.mark.parametrize("batch", [BATCH, PACKED], ids=["padded", "packed"])
def test_tpus_get_splash(batch):
    """Processor and decoder, and the encoder of padded rows; one kernel for each backward pass."""
    text = lowered(batch, "tpu")
    assert text.count("splash_mha_dkv") >= (3 if batch is BATCH else 2)
    assert "splash_mha_dq" not in text
