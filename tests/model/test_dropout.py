"""Dropout masks: how often they drop, and what they are a function of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.poyo import Backbone
from poyo_jax.types import SPIKE, Batch

SEEDS = np.random.default_rng(7).integers(2**32, size=8, dtype=np.uint32)
drop = jax.jit(dropout, static_argnums=1)


def masks(rate, shape=(8, 50, 40), seeds=SEEDS):
    return np.asarray(drop(jnp.ones(shape), rate, seeds)) > 0


def share_within(share, rate, count):
    """Whether a share of `count` independent draws is within five standard deviations of the
    rate.
    """
    return abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / count)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4, 0.9])
def test_elements_are_dropped_at_the_rate_and_the_others_scaled(rate):
    x = jnp.arange(1.0, 1 + 8 * 5000).reshape(8, 5000)
    dropped = np.asarray(drop(x, rate, SEEDS))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], np.asarray(x)[kept] / (1 - rate), rtol=1e-6)
    for part in (kept, kept[0], kept[:, ::2], kept[:, 1::2], kept[:, :2500]):
        assert share_within(1 - part.mean(), rate, part.size)


def test_masks_of_different_seeds_and_elements_are_independent():
    kept = masks(0.3)
    pairs = [(kept[a], kept[b]) for a in range(8) for b in range(a)]
    pairs += [
        (kept[:, 1:], kept[:, :-1]),
        (kept[:, :, 1:], kept[:, :, :-1]),
        (kept[:, 8:], kept[:, :-8]),
    ]
    for one, other in pairs:
        assert share_within((one & other).mean(), 0.49, one.size)


def test_a_mask_depends_on_seed_and_number_alone():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 6, 10)), jnp.float32)
    whole = drop(x, 0.4, SEEDS)
    np.testing.assert_array_equal(drop(x[3:5], 0.4, SEEDS[3:5]), whole[3:5])
    numbers = jnp.arange(60, dtype=jnp.uint32).reshape(6, 10)
    for rows in (slice(0, 2), slice(2, 6)):
        np.testing.assert_array_equal(drop(x[:, rows], 0.4, SEEDS, numbers[rows]), whole[:, rows])


def test_without_seeds_or_rate_nothing_is_dropped():
    x = jnp.ones((8, 3))
    assert drop(x, 0.5, None) is not None and np.array_equal(drop(x, 0.5, None), x)
    assert np.array_equal(drop(x, 0.0, SEEDS), x)


def test_dropout_keeps_the_type_and_passes_gradients_where_it_keeps():
    assert drop(jnp.ones((8, 3), jnp.bfloat16), 0.5, SEEDS).dtype == jnp.bfloat16
    x = jnp.ones((8, 50))
    gradient = jax.grad(lambda x: drop(x, 0.5, SEEDS).sum())(x)
    np.testing.assert_array_equal(gradient, drop(x, 0.5, SEEDS))


def test_fold_gives_every_number_its_own_seed():
    seeds = np.asarray(fold(jnp.uint32(0), jnp.arange(20000)))
    assert seeds.dtype == np.uint32 and len(np.unique(seeds)) == 20000
    bits = np.unpackbits(seeds.view(np.uint8)).reshape(-1, 32)
    assert all(share_within(bit.mean(), 0.5, len(bit)) for bit in bits.T)
    chained = fold(fold(jnp.uint32(1), jnp.arange(100))[:, None], jnp.arange(100))
    assert len(np.unique(chained)) > 9990  # of 10,000


# --- masks inside the model

WINDOWS, TOKENS = 32, 64
CONFIG = ModelConfig(dim=64, depth=2, head_dim=16, self_heads=2, num_latents=4, latent_step=0.25)
MODEL = build_model(CONFIG, RunConfig(), 2, 2)
BACKBONE = Backbone(MODEL.config, MODEL.compute)
WINDOW_SEEDS = np.arange(WINDOWS, dtype=np.uint32)


@pytest.fixture
def silent():
    """The backbone's parameters, all zero."""
    shapes = jax.eval_shape(partial(init_params, MODEL, 0))["backbone"]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture(scope="module")
def process():
    """(parameters, seeds) -> latents of the processor, from nothing attended to."""
    attended = jnp.zeros((WINDOWS, 16, CONFIG.cross_heads * CONFIG.head_dim))

    def latents(backbone, seeds):
        encoded = backbone.encoder.update(attended, seeds)
        return backbone.process(encoded, seeds)

    return jax.jit(lambda params, seeds: BACKBONE.apply({"params": params}, seeds, method=latents))


def test_residual_dropout_differs_between_layers_branches_windows_and_steps(silent, process):
    """Every branch of every layer adds 1, so that the latents count in how many of four masks an
    element is kept.
    """
    for branch, last in (("attention", "output"), ("feedforward", "contract")):
        linear = silent["processor"]["layers"][branch][last]
        linear["bias"] = jnp.ones_like(linear["bias"])
    counts, others = (
        np.asarray(process(silent, seeds)) * 0.6
        for seeds in (WINDOW_SEEDS, WINDOW_SEEDS + np.uint32(WINDOWS))
    )
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-5)
    for kept, probability in enumerate(
        [0.4**4, 4 * 0.6 * 0.4**3, 6 * 0.36 * 0.16, 4 * 0.4 * 0.6**3, 0.6**4]
    ):
        share = np.isclose(counts, kept, atol=1e-5).mean()
        assert share_within(share, probability, counts.size), kept
    correlations = np.corrcoef(np.concatenate([counts, others]).reshape(2 * WINDOWS, -1))
    assert np.abs(correlations - np.eye(2 * WINDOWS)).max() < 6 / np.sqrt(counts[0].size)


def test_feedforward_dropout_has_its_rate(silent, process):
    """The first block passes 1 through each of its hidden channels to one latent channel."""
    block, hidden = silent["encoder"]["feedforward"], 4 * CONFIG.dim
    gate = 20.0  # far enough from zero for GELU to be the identity
    block["expand"]["bias"] = jnp.concatenate([jnp.full(hidden, 1 / gate), jnp.full(hidden, gate)])
    block["contract"]["kernel"] = jnp.eye(hidden, CONFIG.dim)
    seen = np.asarray(process(silent, WINDOW_SEEDS)) * 0.8
    kept = np.isclose(seen, 1, atol=1e-5)
    assert np.all(kept | (seen == 0)) and share_within(1 - kept.mean(), 0.2, kept.size)


def test_attention_dropout_has_its_rate(silent):
    """All tokens have the same weight and the same value, so that what is gathered counts how many
    are kept.
    """
    encoder = silent["encoder"]
    encoder["context_norm"]["bias"] = jnp.ones(CONFIG.dim)
    kernel = encoder["key_value"]["kernel"]
    encoder["key_value"]["kernel"] = jnp.full_like(kernel, 1 / CONFIG.dim)
    batch = jax.tree.map(jnp.asarray, constant_batch())
    encode = jax.jit(
        lambda params, seeds: BACKBONE.apply(
            {"params": params}, jnp.zeros((2, 64)), batch, seeds, method="attend"
        )
    )
    gathered = np.asarray(encode(silent, WINDOW_SEEDS)).reshape(
        WINDOWS, 16, CONFIG.cross_heads, CONFIG.head_dim
    )
    counts = gathered[..., -1] * 0.8 * TOKENS  # the last channel of a head does not rotate
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
    assert share_within(1 - counts.mean() / TOKENS, 0.2, counts.size * TOKENS)
    spread = counts.var() / (TOKENS * 0.2 * 0.8)  # of a binomial distribution
    assert abs(spread - 1) < 5 * np.sqrt(2 / counts.size)


def constant_batch():
    """Windows of `TOKENS` spikes of one unit at time 0."""
    tokens, queries = np.zeros((WINDOWS, TOKENS), np.float32), np.zeros((WINDOWS, 1), np.float32)
    zeros = np.zeros(WINDOWS, np.int32)
    return Batch(
        unit_rows=np.array([0, 1], np.int32),
        token_units=np.ones((WINDOWS, TOKENS), np.int32),
        token_kinds=np.full((WINDOWS, TOKENS), SPIKE, np.int8),
        token_times=tokens,
        token_times_low=tokens,
        token_windows=None,
        token_offsets=zeros,
        session_rows=zeros,
        query_times=queries,
        targets=np.zeros((WINDOWS, 1, 2), np.float32),
        target_weights=queries,
        window_ids=zeros.astype(np.uint32),
    )
