"""Rotary time embeddings with phases that are exact in float32.

The fastest frequency is 62,832 rad/s, so near t = 1 s one unit in the last place of a float32 angle
is worth 4e-3 rad. The reference computes these angles in float64. Here a time is a pair of float32
(rounded value, remainder), a frequency is split into 12-bit pieces, and the phase is reduced to one
turn before anything is rounded: products of two 12-bit numbers are exact in float32. No x64 mode is
needed.

Channels are ordered [first of each pair, second of each pair, not rotated] inside a head;
model/channel_order.py turns the reference's interleaved pairs into this order.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SHORTEST_PERIOD, LONGEST_PERIOD = 1e-4, 2.0627  # s
LEADING_BITS = np.uint32(0xFFFFF000)  # of a float32: sign, exponent, 12 bits of the significand

# 2 pi / exp(lerp(log 1e-4, log 2.0627)) as PyTorch rounds it in float32, by number of frequencies.
# numpy's float32 functions differ from these in the last bits, and a last bit of the first
# frequency is 4e-3 rad at 1 s.
_OMEGAS = {
    4: "62831.859375 2291.049560546875 83.53901672363281 3.04609751701355",
    8: (
        "62831.859375 15199.591796875 3676.916015625 889.47900390625 215.1731719970703"
        " 52.052284240722656 12.591915130615234 3.04609751701355"
    ),
    16: (
        "62831.859375 32400.4296875 16707.890625 8615.73828125 4442.86962890625 2291.049560546875"
        " 1181.422607421875 609.2228393554688 314.1575622558594 162.00131225585938"
        " 83.53901672363281 43.07844924926758 22.214218139648438 11.455180168151855"
        " 5.907080173492432 3.04609751701355"
    ),
    32: (
        "62831.859375 45604.171875 33100.08984375 24024.466796875 17437.271484375 12656.1962890625"
        " 9186.0283203125 6667.33740234375 4839.23876953125 3512.380859375 2549.3310546875"
        " 1850.337890625 1342.9990234375 974.7657470703125 707.4974365234375 513.5107421875"
        " 372.7127990722656 270.5196228027344 196.3465576171875 142.51092529296875"
        " 103.43626403808594 75.07536315917969 54.49064254760742 39.550018310546875"
        " 28.705917358398438 20.83511734008789 15.122390747070312 10.976028442382812"
        " 7.966545104980469 5.782218933105469 4.196807384490967 3.04609751701355"
    ),
}


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which the pairs of channels of a token rotate.

    There is one for every pair, [..., frequencies], or for every channel of a head (`whole`).
    """

    cos: Float[Array, "..."]
    sin: Float[Array, "..."]

    def inverse(self) -> "Rotation":
        return Rotation(self.cos, -self.sin)

    def whole(self) -> "Rotation":
        """The same with values for every channel, [..., 4 * frequencies], as TPUs need them."""
        still = [*self.cos.shape[:-1], 2 * self.cos.shape[-1]]
        cos = jnp.concatenate([self.cos, self.cos, jnp.ones(still)], axis=-1)
        sin = jnp.concatenate([self.sin, self.sin, jnp.zeros(still)], axis=-1)
        return Rotation(cos, sin)


Frequencies = tuple[float, ...] | None  # angular, rad/s; None for those of `omega`


def omega(head_dim: int, frequencies: Frequencies = None) -> Float[np.ndarray, " frequencies"]:
    """Angular frequencies (rad/s, float32) of the `head_dim` / 4 pairs of channels that rotate.

    These pairs are half of a head.
    """
    if frequencies is not None:
        return np.array(frequencies, np.float32)
    count = head_dim // 4
    if count in _OMEGAS:
        return np.array(_OMEGAS[count].split(), np.float32)
    shortest = np.log(SHORTEST_PERIOD)
    longest = np.log(LONGEST_PERIOD)
    periods = np.exp(np.linspace(shortest, longest, count))
    return (2 * np.pi / periods).astype(np.float32)


def frequencies_between(shortest: float, longest: float, head_dim: int) -> tuple[float, ...]:
    """Make angular frequencies (rad/s) for `ModelConfig.frequencies`.

    The logarithms of their periods (s) are evenly spaced.
    """
    periods = np.geomspace(shortest, longest, head_dim // 4)
    return tuple((2 * np.pi / periods).tolist())


def grid_rotation(
    times: Float[np.ndarray, " times"], head_dim: int, frequencies: Frequencies = None
) -> Rotation:
    """Rotation for times known when the model is built (the latent grid): float64 on the host."""
    speeds = omega(head_dim, frequencies).astype(np.float64)
    angles = np.asarray(times, np.float64)[:, None] * speeds  # [L, F]
    cos = jnp.asarray(np.cos(angles), jnp.float32)
    sin = jnp.asarray(np.sin(angles), jnp.float32)
    return Rotation(cos, sin)


def token_rotation(
    times: Float[Array, "..."],
    times_low: Float[Array, "..."],
    head_dim: int,
    frequencies: Frequencies = None,
) -> Rotation:
    """Compute the rotation for times given as float32 pairs whose sum is the time in s.

    The error of the angle is about 1e-6 rad.
    """
    return _cos_and_sin(_turns(times, times_low, omega(head_dim, frequencies)))


def query_rotation(
    times: Float[Array, "..."], head_dim: int, frequencies: Frequencies = None
) -> Rotation:
    """Compute the rotation for query times (s).

    Angles are rounded to float32 like those of the reference, to agree with its checkpoints.
    """
    angles = times[..., None] * jnp.asarray(omega(head_dim, frequencies))
    return Rotation(jnp.cos(angles), jnp.sin(angles))


@jax.custom_vjp
def rotate(x: Float[Array, "... head_dim"], rotation: Rotation) -> Float[Array, "... head_dim"]:
    """Rotate the pairs of channels of `x`.

    The rotation broadcasts against all axes of `x` but the last.

    The gradient is rotated back, in one pass over memory; times and thus rotations have no
    gradient.
    """
    return jax.lax.platform_dependent(x, rotation, tpu=rotate_whole, default=rotate_parts)


def rotate_parts(
    x: Float[Array, "... head_dim"], rotation: Rotation
) -> Float[Array, "... head_dim"]:
    """`rotate` by parts of the channels, with the least arithmetic; for CPUs and GPUs."""
    count = x.shape[-1] // 4
    ends = [count, 2 * count]
    first, second, rest = jnp.split(x, ends, axis=-1)
    cos = rotation.cos[..., :count].astype(x.dtype)
    sin = rotation.sin[..., :count].astype(x.dtype)
    turned_first = first * cos - second * sin
    turned_second = second * cos + first * sin
    return jnp.concatenate([turned_first, turned_second, rest], axis=-1)


def rotate_whole(
    x: Float[Array, "... head_dim"], rotation: Rotation
) -> Float[Array, "... head_dim"]:
    """`rotate` of all channels at once, which swaps the channels of pairs by a matrix product.

    It is for TPUs. They pad parts of 16 channels to 128 lanes: a part costs more than the whole.
    """
    if rotation.cos.shape[-1] < x.shape[-1]:
        rotation = rotation.whole()
    swap = jnp.asarray(_swap(x.shape[-1]), x.dtype)
    # Each sum has one term, so the product is exact, if float32 is not rounded to bfloat16.
    swapped = jnp.matmul(x, swap, precision=jax.lax.Precision.HIGHEST)
    return x * rotation.cos.astype(x.dtype) + swapped * rotation.sin.astype(x.dtype)


def _swap(head_dim: int) -> np.ndarray:
    """Matrix that makes (-second, first) of pairs, and drops the channels that do not rotate."""
    count = head_dim // 4
    swap = np.eye(head_dim, k=count, dtype=np.int8) - np.eye(head_dim, k=-count, dtype=np.int8)
    swap[2 * count :] = 0
    swap[:, 2 * count :] = 0
    return swap


def _rotate_forward(x, rotation):
    return rotate(x, rotation), rotation


def _rotate_backward(rotation, gradient):
    return rotate(gradient, rotation.inverse()), None


rotate.defvjp(_rotate_forward, _rotate_backward)


def _turns(times: Array, times_low: Array, frequencies: np.ndarray) -> Array:
    """Phase in turns, in about [-2, 2], of times * frequencies / 2 pi modulo 1."""
    hertz = frequencies.astype(np.float64) / (2 * np.pi)
    hertz_a = _truncate(hertz.astype(np.float32))
    hertz_b = _truncate((hertz - hertz_a).astype(np.float32))
    hertz_c = (hertz - hertz_a - hertz_b).astype(np.float32)
    times, times_low = times[..., None], times_low[..., None]
    bits = jax.lax.bitcast_convert_type(times, jnp.uint32)
    bits = bits & LEADING_BITS
    times_a = jax.lax.bitcast_convert_type(bits, jnp.float32)  # leading 12 bits
    times_b = times - times_a  # the other 12 bits, exactly
    exact = [
        times_a * hertz_a,
        times_a * hertz_b,
        times_b * hertz_a,
        times_b * hertz_b,
    ]
    small = times * hertz_c + times_low * frequencies / (2 * np.pi)
    return sum(product - jnp.round(product) for product in exact) + small


def _cos_and_sin(turns: Array) -> Rotation:
    """Compute cos and sin of 2 pi `turns` to 5e-7.

    Whole turns are removed; then the series are those of half the angle, in [-pi / 2, pi / 2].

    XLA's own functions, which take any angle, are several times slower on CPUs.
    """
    turns = turns - jnp.round(turns)
    squared = turns * turns
    cos = _polynomial(_COS, squared)
    sin = turns * _polynomial(_SIN, squared)
    cos_of_double = (cos - sin) * (cos + sin)
    sin_of_double = 2 * sin * cos
    return Rotation(cos_of_double, sin_of_double)


def _polynomial(coefficients: list[float], x: Array) -> Array:
    """Evaluate a polynomial by Horner's rule, from coefficients of falling powers of `x`."""
    first, *others = coefficients
    value = jnp.full_like(x, first)
    for coefficient in others:
        value = value * x + coefficient
    return value


def _series(first: int) -> list[float]:
    """Coefficients of cos(pi x) (first = 0) or sin(pi x) / x (first = 1), by falling powers."""
    coefficients = []
    for power in range(first, first + 13, 2):
        sign = (-1) ** (power // 2)
        value = sign * math.pi**power / math.factorial(power)
        coefficients.append(value)
    return coefficients[::-1]


_COS, _SIN = _series(0), _series(1)


def _truncate(x: np.ndarray) -> np.ndarray:
    """Keep the leading 12 bits of the significand."""
    bits = x.view(np.uint32) & LEADING_BITS
    return bits.view(np.float32)
