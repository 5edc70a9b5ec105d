"""Dropout as a function of (seed, position), without stored masks or random keys.

A mask depends on what is dropped (which step, window, layer and element), never on where it is
computed. The same window therefore sees the same mask on one device and on many, in one piece and
in chunks, and after a resume. On CPUs the two rounds of integer hashing are also several times
cheaper than threefry.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt32

# Sites of dropout outside the processor, each with a few numbers after it. A processor folds
# smaller numbers into the seeds that it gets.
ENCODER_SITES, DECODER_SITES = 1 << 20, 1 << 21

SPREAD = np.uint32(0x9E3779B9)  # an odd number, which spreads numbers over 32 bits


def fold(seed: UInt32[Array, "..."], data: Shaped[Array, "..."] | int) -> UInt32[Array, "..."]:
    """Derive a new seed from `seed` and an integer; both broadcast."""
    number = jnp.asarray(data).astype(jnp.uint32)
    spread = number * SPREAD + jnp.uint32(0x7F4A7C15)
    return _mix(seed ^ _mix(spread))


def dropout(
    x: Float[Array, "lead ..."],
    rate: float,
    seeds: UInt32[Array, "..."] | None,
    numbers: UInt32[Array, "..."] | None = None,
) -> Float[Array, "lead ..."]:
    """Zero each element of `x` with probability `rate` and scale the others by 1 / (1 - rate).

    `seeds` holds a seed for every entry of the leading axis, or broadcasts against `x`; None means
    no dropout. Elements under one seed are told apart by `numbers`, which broadcasts against `x`;
    by default they are numbered in C order.
    """
    if seeds is None or rate == 0.0:
        return x
    if numbers is None:
        numbers = _in_c_order(x.shape[1:])
    if seeds.ndim == 1:
        seeds = jnp.expand_dims(seeds, tuple(range(1, x.ndim)))
    bits = _mix(numbers * SPREAD ^ seeds)
    kept = bits >= jnp.uint32(round(rate * 2**32))
    scaled = x * (1 / (1 - rate))
    return jnp.where(kept, scaled, 0).astype(x.dtype)


def _in_c_order(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Number the elements of an array.

    A sum over axes costs nothing where it is used; a reshaped range would be written to memory.
    """
    numbers = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        along_axis = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        numbers = numbers + along_axis * jnp.uint32(math.prod(shape[axis + 1 :]))
    return numbers


def _mix(x: Array) -> Array:
    """Map 32-bit integers one to one; each input bit changes about half of the output bits."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
