"""Softmax over keys that come in parts: the sums of each part, and how two parts become one.

Milakov and Gimelshein 2018, arXiv 1805.02867.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Score of a key that must not be attended to; finite, so that a row of such keys stays finite.
MASKED = -1e30


class Sums(NamedTuple):
    """Contribution of a set of keys to queries. The attention to these keys is out / total."""

    largest: Float[Array, "*queries"]  # score, or what stands for it; it is subtracted from scores
    total: Float[Array, "*queries"]  # sum of the weights exp(score - largest)
    out: Float[Array, "*queries head_dim"]  # sum of the values times their weights

    def relative_to(self, largest: Float[Array, "*queries"]) -> "Sums":
        """The same contribution with another `largest`."""
        factor = jnp.exp(self.largest - largest)
        out = self.out * factor[..., None]
        return Sums(largest, self.total * factor, out)

    def attention(self) -> Float[Array, "*queries head_dim"]:
        """Mean of the values by their weights; zeros for a query that attends to no key."""
        total = jnp.where(self.total > 0, self.total, 1)
        total = total.astype(self.out.dtype)
        return self.out / total[..., None]


def no_keys(*shape: int) -> Sums:
    """Sums over no key for queries [*shape] = [..., head_dim]."""
    queries = shape[:-1]
    largest = jnp.full(queries, MASKED)
    total = jnp.zeros(queries)
    return Sums(largest, total, out=jnp.zeros(shape))


def merge(one: Sums, other: Sums) -> Sums:
    """Sums over the keys of both, exactly."""
    largest = jnp.maximum(one.largest, other.largest)
    one = one.relative_to(largest)
    other = other.relative_to(largest)
    total = one.total + other.total
    return Sums(largest, total, one.out + other.out)


def merge_rows(rows: Sums, windows: Int[Array, " rows"], num_windows: int) -> Sums:
    """Sums over the rows of each window; `windows` ascends. Sums are float32.

    The gradient takes `largest` of a window for a constant, which is exact: attention does not
    depend on it.
    """
    settings = {"num_segments": num_windows, "indices_are_sorted": True}
    sum_by_window = partial(jax.ops.segment_sum, segment_ids=windows, **settings)
    constant = jax.lax.stop_gradient(rows.largest)
    largest = jax.ops.segment_max(constant, windows, **settings)
    largest = jnp.maximum(largest, MASKED)  # a window without rows has minus infinity
    rows = rows.relative_to(largest[windows])
    out = rows.out.astype(jnp.float32)
    return Sums(largest, sum_by_window(rows.total), sum_by_window(out))


def scaled(query: Array) -> Array:
    """Queries divided by the root of the width of a head, as scores need them."""
    return query * query.shape[-1] ** -0.5
