"""Schedules equal PyTorch's where it has them, and say what is wrong with impossible ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_model import load

from poyo_jax.errors import ConfigError
from poyo_jax.train.optim.schedules import one_cycle, one_cycle_beta1, warmup_cosine


@pytest.mark.parametrize("num_steps", [40, 1000])
def test_one_cycle_equals_pytorch(num_steps):
    steps = np.arange(num_steps)
    arrays = load("onecycle")
    schedules = {
        "lr": one_cycle(float(arrays[f"max_lr/{num_steps}"]), num_steps),
        "beta1": one_cycle_beta1(num_steps),
    }
    for name, schedule in schedules.items():
        expected = arrays[f"{name}/{num_steps}"]
        np.testing.assert_allclose(schedule(steps), expected, rtol=1e-12)
        np.testing.assert_allclose(schedule(steps.astype(np.float64)), expected, rtol=1e-12)
        np.testing.assert_allclose(jax.jit(schedule)(jnp.arange(num_steps)), expected, rtol=1e-6)
        np.testing.assert_allclose(
            jax.jit(schedule)(jnp.int32(num_steps // 3)), expected[num_steps // 3], rtol=1e-6
        )
        for later in (num_steps, num_steps + 1, 10 * num_steps):
            np.testing.assert_allclose(schedule(later), expected[-1], rtol=1e-12)
            np.testing.assert_allclose(schedule(jnp.int32(later)), expected[-1], rtol=1e-6)


@pytest.mark.parametrize("pct_start", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_one_cycle_of_few_steps_is_finite_and_bounded(num_steps, pct_start):
    steps = np.arange(num_steps)
    rates, betas = (
        one_cycle(2.0, num_steps, pct_start)(steps),
        one_cycle_beta1(num_steps, pct_start)(steps),
    )
    assert np.all((rates >= 2e-4 - 1e-12) & (rates <= 2.0)) and np.all(
        (betas >= 0.85 - 1e-12) & (betas <= 0.95)
    )
    assert rates[-1] == pytest.approx(2e-4) and betas[-1] == pytest.approx(0.95)
    np.testing.assert_allclose(
        one_cycle(2.0, num_steps, pct_start)(jnp.asarray(steps)), rates, rtol=1e-5
    )


@pytest.mark.parametrize(
    "make", [lambda n: one_cycle(1.0, n), one_cycle_beta1, lambda n: warmup_cosine(1.0, n, 0)]
)
def test_schedules_need_a_step(make):
    with pytest.raises(
        ConfigError, match=r"has 0 steps; it needs at least 1\. Raise RunConfig\.num_steps"
    ):
        make(0)


def test_warmup_must_be_shorter_than_the_run():
    with pytest.raises(
        ConfigError,
        match=r"warmup_steps is 100, but the run makes only 50 updates; .* Lower OptimConfig",
    ):
        warmup_cosine(1.0, 50, 100)


def test_warmup_cosine_rises_in_a_line_and_falls_to_zero():
    rates = np.array([warmup_cosine(2.0, 30, 10)(step) for step in range(40)])
    np.testing.assert_allclose(rates[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(rates[20], 1.0, rtol=1e-6)
    np.testing.assert_allclose(rates[30:], 0.0, atol=1e-6)


def test_a_peak_that_is_held_to_the_end_still_falls():
    rates = np.array([warmup_cosine(2.0, 12, 2, hold=0.95)(step) for step in range(13)])
    np.testing.assert_allclose(rates[[2, 11, 12]], [2.0, 2.0, 0.0], atol=1e-6)


def test_warmup_cosine_holds_its_peak():
    rates = np.array([warmup_cosine(2.0, 50, 10, hold=0.5)(step) for step in range(51)])
    np.testing.assert_allclose(rates[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(rates[10:31], 2.0, rtol=1e-6)
    np.testing.assert_allclose(rates[[40, 50]], [1.0, 0.0], atol=1e-6)
