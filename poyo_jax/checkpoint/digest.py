"""Digests of arrays and of metadata: they show whether a checkpoint is what was saved."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from poyo_jax.model.params import path_names

PLACE = 0x9E3779B9  # an odd number, which spreads positions over 32 bits


def digest_of_arrays(tree: Any) -> str:
    """SHA-256 of the names, types, shapes and checksums of all arrays in a tree.

    The devices compute the checksums, each over the shards that it holds, and add them up. So the
    digest does not depend on the mesh, and nobody gathers an array. All processes that share the
    arrays must call this.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    checksums = jax.device_get([_checksum(leaf) for _, leaf in leaves])
    lines = []
    for (path, leaf), checksum in zip(leaves, checksums, strict=True):
        name = "/".join(path_names(path))
        lines.append(f"{name} {leaf.dtype} {leaf.shape} {checksum.tolist()}")
    return _sha256("\n".join(sorted(lines)))


def digest_of_values(values: Mapping[str, Any]) -> str:
    """SHA-256 of values as they are written in JSON; the order of keys does not matter."""
    return _sha256(json.dumps(values, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@jax.jit
def _checksum(x: Array) -> UInt32[Array, "2"]:
    """Two sums, modulo 2^32, of all values mixed with their positions.

    Mixing maps every value at a position to another number. So a change of one value always
    changes both sums, and any other damage does with a probability of 1 - 2^-64.
    """
    words = _words(x)
    place = jnp.zeros(words.shape, jnp.uint32)  # of a value in the array, times an odd number
    step = PLACE
    for axis in reversed(range(words.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(step)
        step = step * words.shape[axis] % 2**32
    mixed = _mix(words ^ place)
    again = (mixed ^ (mixed >> 15)) * jnp.uint32(PLACE)
    return jnp.stack([mixed.sum(dtype=jnp.uint32), again.sum(dtype=jnp.uint32)])


def _words(x: Array) -> UInt32[Array, "..."]:
    """The bits of every value, as one or several unsigned numbers."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finaliser of MurmurHash3: a bijection in which every bit depends on all others."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
