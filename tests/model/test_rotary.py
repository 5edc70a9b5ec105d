"""Rotation against complex numbers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax.model.channel_order import half_split_order
from poyo_jax.model.rotary import (
    LONGEST_PERIOD,
    SHORTEST_PERIOD,
    Rotation,
    grid_rotation,
    omega,
    query_rotation,
    rotate,
    rotate_parts,
    rotate_whole,
    token_rotation,
)

RNG = np.random.default_rng(0)
TIMES = np.concatenate([[0.0, 1e-9, 0.5, 1.0, 2.0], RNG.random(3000), 2 * RNG.random(1000)])  # s


def exact(times, head_dim):
    """Cosine + i sine of the angles, from float64."""
    return np.exp(1j * times[:, None] * omega(head_dim).astype(np.float64))


def as_complex(rotation):
    return np.asarray(rotation.cos) + 1j * np.asarray(rotation.sin)


def halves(times):
    high = times.astype(np.float32)
    return jnp.asarray(high), jnp.asarray((times - high).astype(np.float32))


@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 128])
def test_rotation_of_tokens_is_exact_though_float32(head_dim):
    difference = as_complex(token_rotation(*halves(TIMES), head_dim)) - exact(TIMES, head_dim)
    assert np.abs(difference).max() < 3e-6
    single = as_complex(
        token_rotation(halves(TIMES)[0], jnp.zeros(TIMES.shape, jnp.float32), head_dim)
    )
    assert np.abs(single - exact(TIMES, head_dim)).max() > 1e-3  # the remainder of the time matters


def test_the_compiler_does_not_lose_the_exactness():
    rotation = jax.jit(token_rotation, static_argnums=2)(*halves(TIMES), 64)
    assert np.abs(as_complex(rotation) - exact(TIMES, 64)).max() < 3e-6


def test_rotation_of_the_grid_is_exact():
    assert np.abs(as_complex(grid_rotation(TIMES, 64)) - exact(TIMES, 64)).max() < 1e-7


def test_rotation_of_queries_rounds_angles_to_float32():
    times = halves(TIMES)[0]
    angles = np.asarray(times)[:, None] * omega(64)
    assert angles.dtype == np.float32
    rotation = as_complex(query_rotation(times, 64))
    assert np.abs(rotation - np.exp(1j * angles.astype(np.float64))).max() < 1e-6


@pytest.mark.parametrize("head_dim", [4, 8, 12, 16, 96, 128])
def test_frequencies_fall_from_the_shortest_to_the_longest_period(head_dim):
    frequencies = omega(head_dim)
    assert frequencies.dtype == np.float32 and frequencies.shape == (head_dim // 4,)
    assert np.all(np.diff(frequencies) < 0)
    np.testing.assert_allclose(2 * np.pi / frequencies[0], SHORTEST_PERIOD, rtol=1e-5)
    if head_dim > 4:
        np.testing.assert_allclose(2 * np.pi / frequencies[-1], LONGEST_PERIOD, rtol=1e-5)
        np.testing.assert_allclose(np.diff(np.log(frequencies), n=2), 0, atol=1e-4)


def vectors(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def test_rotate_multiplies_pairs_by_unit_complex_numbers_and_leaves_the_rest():
    x, rotation = (
        vectors(5, 3, 16),
        grid_rotation(RNG.random(3), 16),
    )  # 4 pairs, 8 channels that stay
    rotated = np.asarray(rotate(x, rotation))
    pairs = np.asarray(x[..., :4]) + 1j * np.asarray(x[..., 4:8])
    expected = pairs * as_complex(rotation)
    np.testing.assert_allclose(rotated[..., :4], expected.real, atol=1e-6)
    np.testing.assert_allclose(rotated[..., 4:8], expected.imag, atol=1e-6)
    np.testing.assert_array_equal(rotated[..., 8:], x[..., 8:])
    np.testing.assert_allclose(rotate(rotate(x, rotation), rotation.inverse()), x, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("head_dim", [8, 64])
def test_both_forms_of_the_rotation_agree(head_dim, dtype):
    x = vectors(2, 5, head_dim).astype(dtype)
    rotation = grid_rotation(RNG.random(5), head_dim)
    expected = rotate_parts(x, rotation).astype(jnp.float32)
    accuracy = 4 * float(jnp.finfo(dtype).eps * jnp.abs(x).max())
    for form in (rotate_parts, rotate_whole):
        for given in (rotation, rotation.whole()):
            rotated = form(x, given)
            assert rotated.dtype == dtype
            rotated = rotated.astype(jnp.float32)
            np.testing.assert_allclose(rotated, expected, rtol=0, atol=accuracy)


@pytest.mark.parametrize(("where", "products"), [("cpu", 0), ("tpu", 1), ("cuda", 0)])
def test_the_platform_decides_on_the_form(where, products):
    rotated = jax.jit(rotate).trace(vectors(3, 16), grid_rotation(RNG.random(3), 16))
    text = rotated.lower(lowering_platforms=(where,)).as_text()
    assert text.count("dot_general") == products


def test_scores_depend_on_the_difference_of_times_alone():
    query, key = vectors(16), vectors(16)

    def score(query_time, key_time):
        turned = [
            rotate(x, Rotation(*(part[0] for part in grid_rotation(np.array([time]), 16))))
            for x, time in ((query, query_time), (key, key_time))
        ]
        return float(turned[0] @ turned[1])

    assert score(0.25, 0.375) == pytest.approx(score(0.625, 0.75), abs=1e-4)
    assert abs(score(0.25, 0.375) - score(0.25, 0.3751)) > 1e-3


def test_half_split_order_turns_interleaved_pairs_into_halves():
    heads, head_dim = 3, 16
    order = half_split_order(head_dim, heads)
    assert sorted(order) == list(range(heads * head_dim))
    x, times = vectors(heads * head_dim), RNG.random(1)
    turn = exact(times, head_dim)[0]
    rotation = Rotation(*(part[0] for part in grid_rotation(times, head_dim)))
    ours = np.asarray(rotate(x[order].reshape(heads, head_dim), rotation)).reshape(-1)
    theirs = np.array(x).reshape(heads, head_dim)
    pairs = (theirs[:, 0:8:2] + 1j * theirs[:, 1:8:2]) * turn
    theirs[:, 0:8:2], theirs[:, 1:8:2] = pairs.real, pairs.imag
    np.testing.assert_allclose(ours, theirs.reshape(-1)[order], atol=1e-6)
