"""Linear maps, norms, feed-forward blocks and heads, with the reference's initial values."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.compute import Compute
from poyo_jax.model.dropout import dropout

PRODUCT = "product"  # the name by which rematerialisation knows what to keep; see RunConfig.remat


class Linear(nn.Module):
    """x @ kernel + bias in `dtype`; initial values uniform in +-1/sqrt(inputs), as PyTorch's."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype(jnp.float32)

    @nn.compact
    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... features"]:
        inputs = x.shape[-1]
        bound = inputs**-0.5
        kernel = self.param("kernel", _uniform, (inputs, self.features), bound)
        rows = x.astype(self.dtype).reshape(-1, inputs)
        y = rows @ kernel.astype(self.dtype)
        y = y.reshape(*x.shape[:-1], self.features)
        y = checkpoint_name(y, PRODUCT)
        if self.use_bias:
            bias = self.param("bias", _uniform, (self.features,), bound)
            y = y + bias.astype(self.dtype)
        return y


def _uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def embedding(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Initial values of embeddings."""
    return 0.02 * jax.random.normal(key, shape, jnp.float32)


def layer_norm(name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with PyTorch's epsilon, computed in float32."""
    return nn.LayerNorm(
        epsilon=1e-5,
        use_fast_variance=False,
        dtype=jnp.float32,
        name=name,
    )


class FeedForward(nn.Module):
    """Residual branch: norm, gated GELU of four times the width, back to the width."""

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "windows tokens dim"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows tokens dim"]:
        dim = self.config.dim
        dtype = self.compute.dtype
        normed = layer_norm("norm")(x)
        hidden = Linear(8 * dim, dtype=dtype, name="expand")(normed)
        # [W, T, 8D] -> [W, T, 4D]
        hidden = _gated_gelu(hidden, self.config.feedforward_dropout, seeds)
        return Linear(dim, dtype=dtype, name="contract")(hidden)


def feedforward_flops(dim: int) -> int:
    """Operations of a `FeedForward` for one token (model/flops.py)."""
    expand = 2 * dim * 8 * dim
    contract = 2 * 4 * dim * dim
    return expand + contract


@partial(jax.checkpoint, static_argnums=1)
def _gated_gelu(hidden: Array, dropout_rate: float, seeds: Array | None) -> Array:
    """Multiply the first half of the channels by GELU of the second half, and apply dropout.

    The backward pass computes this again, which is cheaper than storing it.
    """
    value, gate = jnp.split(hidden, 2, axis=-1)
    # jax.nn.gelu takes erfc, which is slow on CPUs.
    erf = jax.lax.erf(gate * math.sqrt(0.5))
    gelu = 0.5 * gate * (1 + erf)
    return dropout(value * gelu, dropout_rate, seeds)


def split_heads(
    x: Float[Array, "... tokens channels"], head_dim: int
) -> Float[Array, "... heads tokens head_dim"]:
    """Channels as heads of `head_dim` channels each."""
    *lead, tokens, _ = x.shape
    x = x.reshape(*lead, tokens, -1, head_dim)
    return jnp.swapaxes(x, -2, -3)


def join_heads(
    x: Float[Array, "... heads tokens head_dim"],
) -> Float[Array, "... tokens channels"]:
    """The inverse of `split_heads`."""
    x = jnp.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)
