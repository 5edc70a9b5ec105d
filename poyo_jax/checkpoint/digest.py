"""Digests of arrays and of metadata: they show whether a checkpoint is what was saved."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from poyo_jax.model.params import path_names

PLACE = 0x9E3779B9  # an odd number, which spreads positions over 32 bits
SMALL = 2**20  # bytes of an array


def digest_of_arrays(tree: Any) -> str:
    """SHA-256 of the names, types, shapes and checksums of all arrays in a tree.

    Accelerators and several devices compute the checksums, each over the shards that it holds, and
    add them up. So the digest does not depend on the mesh, and nobody gathers an array. All
    processes that share the arrays must call this. Small arrays in the memory of this process are
    summed there: to compile a program for every shape would take longer.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    checksums = []
    for _, leaf in leaves:
        small = leaf.nbytes <= SMALL and _is_in_memory(leaf)
        checksums.append(_checksum_of_small(np.asarray(leaf)) if small else _checksum(leaf))
    checksums = jax.device_get(checksums)
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


def _is_in_memory(x: Any) -> bool:
    """Tell if this process reads all values of an array without a transfer."""
    if not isinstance(x, jax.Array):
        return True
    devices = x.devices()
    return len(devices) == 1 and x.is_fully_addressable and next(iter(devices)).platform == "cpu"


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
    return jnp.stack(_sums(_mix(words ^ place)))


def _checksum_of_small(x: np.ndarray) -> UInt32[np.ndarray, "2"]:
    """The numbers of `_checksum`."""
    values = np.ascontiguousarray(x).reshape(-1)
    if values.dtype == np.bool_:
        words = values.astype(np.uint32)
    else:
        words = values.view(_unsigned(values.dtype.itemsize)).astype(np.uint32)
    place = np.arange(len(words), dtype=np.uint32) * np.uint32(PLACE)
    return np.stack(_sums(_mix(words ^ place)))


def _words(x: Array) -> UInt32[Array, "..."]:
    """The bits of every value, as one or several unsigned numbers."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(x, _unsigned(x.dtype.itemsize)).astype(jnp.uint32)


def _unsigned(num_bytes: int) -> type:
    return {1: np.uint8, 2: np.uint16}.get(num_bytes, np.uint32)


def _mix(x: Any) -> Any:
    """The finaliser of MurmurHash3: a bijection in which every bit depends on all others."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _sums(mixed: Any) -> list[Any]:
    """The sum of mixed values, and that of the same values mixed again, modulo 2^32."""
    again = (mixed ^ (mixed >> 15)) * np.uint32(PLACE)
    return [values.sum(dtype=np.uint32) for values in (mixed, again)]
