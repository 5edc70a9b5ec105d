"""The analytic count of operations against XLA's, which also counts what is not a product."""

from functools import partial

import jax
import numpy as np
import pytest
from whole_model import loss_sum, predict

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.types import SPIKE, Batch

WINDOWS, UNITS = 2, 8
CASES = {  # configuration, tokens and queries of a window
    "many tokens": (ModelConfig(depth=2), 2048, 16),
    "many queries": (ModelConfig(depth=3), 256, 400),
    "wide": (ModelConfig(dim=128, depth=2, cross_heads=4, num_latents=8), 256, 16),
    "few heads": (ModelConfig(dim=96, depth=2, self_heads=4, cross_heads=3), 256, 16),
}


def full_batch(config: ModelConfig, tokens: int, queries: int) -> Batch:
    """Padded windows without any padding, so that nothing is computed in vain."""
    times = np.zeros((WINDOWS, tokens), np.float32)
    asked = np.ones((WINDOWS, queries), np.float32)
    return Batch(
        np.arange(UNITS, dtype=np.int32),
        np.ones(times.shape, np.int32),
        np.full(times.shape, SPIKE, np.int8),
        times,
        times,
        None,
        np.zeros(WINDOWS, np.int32),
        np.ones(WINDOWS, np.int32),
        asked,
        np.zeros((*asked.shape, config.num_channels), np.float32),
        asked,
        np.arange(WINDOWS, dtype=np.uint32),
    )


def counted_by_xla(function, *arguments) -> float:
    """Loops are counted once, so none may go round twice."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", CASES)
def test_count_is_that_of_xla_within_five_per_cent(name):
    config, tokens, queries = CASES[name]
    model = build_model(config, RunConfig(), UNITS, 2)
    params = jax.eval_shape(partial(init_params, model, 0))
    batch = full_batch(config, tokens, queries)
    expected = forward_flops(
        config, windows=WINDOWS, tokens=WINDOWS * tokens, units=UNITS, queries=queries
    ).total
    loss = partial(loss_sum, model, seed=None, microbatch_windows=None)
    forward = counted_by_xla(partial(predict, model, microbatch_windows=None), params, batch)
    training = counted_by_xla(jax.value_and_grad(loss), params, batch)
    assert 1 <= forward / expected < 1.05
    assert 1 <= training / (TRAINING * expected) < 1.05
