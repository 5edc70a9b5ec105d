"""What predictions, losses and gradients may and may not depend on, in a small model with random
windows.
"""

import dataclasses
from functools import lru_cache, partial

import jax
import numpy as np
import pytest
from golden_model import packed
from whole_model import everything, loss_sum, predict

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model import processor
from poyo_jax.model.build import build_model, init_params
from poyo_jax.types import PADDING, SPIKE, START, STOP, Batch

CONFIG = ModelConfig(
    dim=16, depth=2, head_dim=8, cross_heads=2, self_heads=2, num_latents=2, latent_step=0.25
)
UNITS, SESSIONS, QUERIES = 7, 3, 5
COUNTS = (9, 0, 23, 16)  # spikes of the windows; the second window has no spike
MODEL = build_model(CONFIG, RunConfig(), UNITS, SESSIONS)
SEED = np.uint32(5)


def make_batch(seed, counts=COUNTS, length=40, alive=3):
    """Windows with start and stop tokens of `alive` units and `counts` spikes, in the padded
    layout.
    """
    rng = np.random.default_rng(seed)
    shape = (len(counts), length)
    units, kinds, times = (
        np.zeros(shape, np.int32),
        np.full(shape, PADDING, np.int8),
        np.zeros(shape),
    )
    for window, count in enumerate(counts):
        kept = rng.permutation(np.arange(1, UNITS))[:alive]
        places = slice(2 * alive + count)
        units[window, places] = np.concatenate(
            [kept, kept, rng.choice(kept, count) if alive else []]
        )
        kinds[window, places] = np.repeat([START, STOP, SPIKE], [alive, alive, count])
        times[window, places] = np.concatenate(
            [np.repeat([0.0, 1.0], alive), np.sort(rng.random(count))]
        )
    high = times.astype(np.float32)
    queries = (len(counts), QUERIES)
    return Batch(
        unit_rows=np.arange(UNITS, dtype=np.int32),
        token_units=units,
        token_kinds=kinds,
        token_times=high,
        token_times_low=(times - high).astype(np.float32),
        token_windows=None,
        token_offsets=np.zeros(len(counts), np.int32),
        session_rows=rng.integers(1, SESSIONS, len(counts)).astype(np.int32),
        query_times=rng.random(queries).astype(np.float32),
        targets=rng.standard_normal((*queries, 2)).astype(np.float32),
        target_weights=rng.random(queries).astype(np.float32),
        window_ids=np.arange(len(counts), dtype=np.uint32) + 3,
    )


BATCH = make_batch(0)
PACKED = packed(BATCH, 8, multiple=8)


def select(batch, windows):
    """Some windows of a padded batch, in the given order."""
    arrays = {name: array for name, array in batch._asdict().items() if array is not None}
    del arrays["unit_rows"]
    return batch._replace(**{name: array[list(windows)] for name, array in arrays.items()})


def shuffle_tokens(batch, seed):
    """The same tokens at other places of their windows."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(batch.token_kinds.shape[1]) for _ in batch.token_kinds])
    names = ("token_units", "token_kinds", "token_times", "token_times_low")
    return batch._replace(
        **{name: np.take_along_axis(getattr(batch, name), order, axis=1) for name in names}
    )


def with_run(**settings):
    return build_model(CONFIG, RunConfig(**settings), UNITS, SESSIONS)


@lru_cache
def predictor(model=MODEL, microbatch=2):
    return jax.jit(partial(predict, model, microbatch_windows=microbatch))


@lru_cache
def loss_of(model=MODEL, microbatch=2):
    """(parameters, batch, seed) -> sum of the loss."""
    return jax.jit(lambda params, batch, seed: loss_sum(model, params, batch, seed, microbatch))


@lru_cache
def gradient_of(model=MODEL, learns=everything):
    """(parameters, batch, seed) -> gradient of the sum of the loss."""
    return jax.jit(
        jax.grad(lambda params, batch, seed: loss_sum(model, params, batch, seed, 2, learns=learns))
    )


def assert_close(actual, expected):
    """Equal but for rounding: within 1e-5 of the largest number."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def params():
    """Parameters larger than those that training starts from, so that every part has a say."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        return np.float32(path[-1].key == "scale") + 0.3 * rng.standard_normal(leaf.shape).astype(
            np.float32
        )

    params = jax.tree_util.tree_map_with_path(draw, jax.eval_shape(partial(init_params, MODEL, 0)))
    for table in ("unit_embedding", "session_embedding"):
        params[table][0] = 0
    return params


@pytest.fixture(scope="module")
def expected(params):
    """Predictions, and the loss with dropout, of the batch as it is."""
    return predictor()(params, BATCH), loss_of()(params, BATCH, SEED)


ARRANGEMENTS = {  # the same windows, the model, windows of a microbatch
    "longer padding": (make_batch(0, length=56), MODEL, 2),
    "no microbatches": (BATCH, MODEL, None),
    "chunks of 8, in groups of 2": (packed(BATCH, 8, multiple=4), with_run(rows_per_group=2), 1),
    "chunks of 16, most of them unused": (
        packed(BATCH, 16, multiple=24),
        with_run(rows_per_group=3),
        3,
    ),
    "chunks of 64": (packed(BATCH, 64), with_run(rows_per_group=1), 2),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_neither_predictions_nor_dropout_depend_on_the_arrangement(params, expected, arrangement):
    batch, model, microbatch = arrangement
    predictions, loss = (
        predictor(model, microbatch)(params, batch),
        loss_of(model, microbatch)(params, batch, SEED),
    )
    assert_close(predictions, expected[0])
    assert_close(loss, expected[1])


@pytest.mark.parametrize("seed", range(3))
def test_predictions_do_not_depend_on_the_order_of_tokens(params, expected, seed):
    shuffled = shuffle_tokens(BATCH, seed)
    assert not np.array_equal(shuffled.token_kinds, BATCH.token_kinds)
    assert_close(predictor()(params, shuffled), expected[0])


@pytest.mark.parametrize("window", range(len(COUNTS)))
def test_predictions_do_not_depend_on_the_other_windows(params, expected, window):
    others = make_batch(1)
    mixed = jax.tree.map(
        lambda ours, theirs: np.concatenate([theirs[:3], ours[window : window + 1]]), BATCH, others
    )
    mixed = mixed._replace(unit_rows=BATCH.unit_rows)
    assert_close(predictor()(params, mixed)[3], expected[0][window])
    assert np.abs(predictor()(params, others)[3] - expected[0][window]).max() > 0.01


def test_predictions_depend_on_units_sessions_and_times(params, expected):
    other_rows = (BATCH.session_rows % (SESSIONS - 1) + 1).astype(np.int32)
    changed = {
        "token_units": np.where(
            BATCH.token_kinds == SPIKE, BATCH.token_units % (UNITS - 1) + 1, BATCH.token_units
        ),
        "token_kinds": np.where(BATCH.token_kinds == START, np.int8(SPIKE), BATCH.token_kinds),
        "token_times": BATCH.token_times + np.float32(1e-3),
        "session_rows": other_rows,
        "query_times": BATCH.query_times + np.float32(0.1),
    }
    for name, values in changed.items():
        predictions = predictor()(params, BATCH._replace(**{name: values}))
        assert np.abs(predictions[0] - expected[0][0]).max() > 1e-3, name


def test_unused_positions_of_the_unit_table_do_not_matter(params, expected):
    rows = np.concatenate([np.zeros(3), BATCH.unit_rows]).astype(np.int32)
    moved = BATCH._replace(unit_rows=rows, token_units=BATCH.token_units + np.int32(3))
    assert_close(predictor()(params, moved), expected[0])


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 0, 3, 2)])
def test_dropout_belongs_to_the_number_of_a_window_not_to_its_place(params, expected, order):
    assert_close(loss_of()(params, select(BATCH, order), SEED), expected[1])
    renumbered = select(BATCH, order)._replace(window_ids=BATCH.window_ids)
    assert abs(loss_of()(params, renumbered, SEED) - expected[1]) > 1e-3 * expected[1]


def test_dropout_depends_on_the_seed_and_can_be_off(params, expected):
    losses = [loss_of()(params, BATCH, np.uint32(seed)) for seed in range(8)]
    assert len({float(loss) for loss in losses}) == 8
    off = loss_of()(params, BATCH, None)
    errors = np.square(expected[0] - BATCH.targets).mean(axis=-1)
    assert_close(off, (BATCH.target_weights * errors).sum())


def test_every_rate_of_dropout_acts(params):
    off = dict.fromkeys(("feedforward_dropout", "residual_dropout", "attention_dropout"), 0.0)
    still = loss_of()(params, BATCH, None)
    for name in off:
        model = build_model(
            dataclasses.replace(CONFIG, **(off | {name: 0.3})), RunConfig(), UNITS, SESSIONS
        )
        assert abs(loss_of(model)(params, BATCH, SEED) - still) > 1e-3 * still, name


def test_bfloat16_stays_near_float32_and_keeps_float32_parameters(params, expected):
    model = with_run(compute_dtype="bfloat16")
    predictions = predictor(model)(params, BATCH)
    assert predictions.dtype == np.float32
    error = np.sqrt(np.mean(np.square(predictions - expected[0]))) / np.std(expected[0])
    assert 1e-4 < error < 0.06  # bfloat16 rounds by up to 0.4 %, again and again
    made = jax.eval_shape(partial(init_params, model, 0))
    gradient = jax.eval_shape(gradient_of(model), params, BATCH, SEED)
    assert {leaf.dtype for leaf in jax.tree.leaves((made, gradient))} == {np.dtype(np.float32)}
    assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, params)


@pytest.fixture(scope="module")
def gradient(params):
    return gradient_of()(params, PACKED, SEED)


@pytest.mark.parametrize("remat", ["attention", "products", "layers"])
def test_recomputing_gives_the_same_loss_and_gradient(params, gradient, remat):
    model = with_run(remat=remat)
    assert_close(loss_of(model)(params, PACKED, SEED), loss_of()(params, PACKED, SEED))
    recomputed = gradient_of(model)(params, PACKED, SEED)
    for ours, theirs in zip(jax.tree.leaves(recomputed), jax.tree.leaves(gradient), strict=True):
        assert_close(ours, theirs)


def products(params, remat):
    """Matrix products in the gradient of a model of one layer."""
    config = dataclasses.replace(CONFIG, depth=1)
    one = params | {
        "backbone": params["backbone"]
        | {"processor": jax.tree.map(lambda x: x[:1], params["backbone"]["processor"])}
    }
    model = build_model(config, RunConfig(remat=remat), UNITS, SESSIONS)
    traced = gradient_of.__wrapped__(model).trace(one, PACKED, SEED)
    return traced.lower().as_text().count("dot_general")


def test_what_is_recomputed(params):
    """Of the six products of a layer: those of attention, or all but the last, whose result no
    gradient needs.
    """
    none = products(params, "none")
    assert products(params, "products") == none + 2
    assert products(params, "layers") == none + 5


def test_tpus_alone_recompute_by_default(params, monkeypatch):
    assert products(params, "auto") == products(params, "none")
    monkeypatch.setattr(processor, "own_platform", lambda: "tpu")
    assert products(params, "auto") == products(params, "attention") > products(params, "none")


def test_tables_get_the_same_gradient_when_the_backbone_does_not_learn(params, gradient):
    frozen = gradient_of(learns=lambda path: False)(params, PACKED, SEED)
    for table in ("unit_embedding", "session_embedding"):
        expected = gradient[table]
        assert_close(frozen[table], expected)
    assert not any(leaf.any() for leaf in jax.tree.leaves(frozen["backbone"]))


def test_padding_rows_of_the_tables_get_no_gradient(params, gradient):
    """The second window has no spike, the unit rows and tokens are padded, and unused windows point
    at row 0.
    """
    used = np.array([1, 1, 1, 0], np.int32)
    weights = PACKED.target_weights * used.astype(np.float32)[:, None]
    unused = PACKED._replace(session_rows=PACKED.session_rows * used, target_weights=weights)
    for tree in (gradient, gradient_of()(params, unused, SEED)):
        for table in ("unit_embedding", "session_embedding"):
            assert not tree[table][0].any() and tree[table][1:].any(), table


@pytest.mark.parametrize("empty", [[1], [0, 1, 2, 3]], ids=["one", "all"])
def test_windows_without_any_token_give_finite_numbers(params, empty):
    kinds = BATCH.token_kinds.copy()
    kinds[empty] = PADDING
    batch = BATCH._replace(token_kinds=kinds)
    alone = BATCH._replace(token_kinds=np.full_like(kinds, PADDING))
    for arranged in (batch, packed(batch, 8, multiple=16)):
        predictions = predictor()(params, arranged)
        assert np.isfinite(predictions).all() and np.isfinite(loss_of()(params, arranged, SEED))
        assert_close(predictions[1], predictor()(params, alone)[1])


def test_gradients_are_finite_without_any_token(params):
    nothing = PACKED._replace(token_kinds=np.full_like(PACKED.token_kinds, PADDING))
    gradient = gradient_of()(params, nothing, SEED)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not gradient["unit_embedding"].any() and gradient["session_embedding"].any()
