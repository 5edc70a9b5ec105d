"""Linear maps, norms, feed-forward blocks and the processor's layer, with the reference's initial
values.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import BackEnd, ModelConfig
from poyo_jax.model.attention.api import attend
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.rotary import Rotation, rotate

PRODUCT = "product"  # the name by which rematerialisation knows what to keep; see RunConfig.remat


class Linear(nn.Module):
    """x @ kernel + bias in `dtype`; initial values uniform in +-1/sqrt(inputs), as PyTorch's."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype(jnp.float32)

    @nn.compact
    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... features"]:
        bound = x.shape[-1] ** -0.5
        kernel = self.param("kernel", _uniform, (x.shape[-1], self.features), bound)
        y = x.astype(self.dtype).reshape(-1, x.shape[-1]) @ kernel.astype(self.dtype)
        y = checkpoint_name(y.reshape(*x.shape[:-1], self.features), PRODUCT)
        if self.use_bias:
            y = y + self.param("bias", _uniform, (self.features,), bound).astype(self.dtype)
        return y


def _uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def layer_norm(name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with PyTorch's epsilon, computed in float32."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=jnp.float32, name=name)


class FeedForward(nn.Module):
    """Residual branch: norm, gated GELU of four times the width, back to the width."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "windows tokens dim"], seeds: UInt32[Array, " windows"] | None
    ) -> Float[Array, "windows tokens dim"]:
        dim = self.config.dim
        hidden = Linear(8 * dim, dtype=self.dtype, name="expand")(layer_norm("norm")(x))
        hidden = _gated_gelu(
            hidden, self.config.feedforward_dropout, seeds
        )  # [W, T, 8D] -> [W, T, 4D]
        return Linear(dim, dtype=self.dtype, name="contract")(hidden)


@partial(jax.checkpoint, static_argnums=1)
def _gated_gelu(hidden: Array, dropout_rate: float, seeds: Array | None) -> Array:
    """First half of the channels times GELU of the second, with dropout. Cheaper to compute again
    than to remember.
    """
    value, gate = jnp.split(hidden, 2, axis=-1)
    gelu = (
        0.5 * gate * (1 + jax.lax.erf(gate * math.sqrt(0.5)))
    )  # jax.nn.gelu takes erfc, which is slow on CPUs
    return dropout(value * gelu, dropout_rate, seeds)


class SelfAttention(nn.Module):
    """Residual branch: rotary self-attention in which values rotate too, so that they carry
    relative time.
    """

    config: ModelConfig
    dtype: jnp.dtype
    back_end: BackEnd

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "windows latents dim"],
        rotation: Rotation,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        heads, head_dim = self.config.self_heads, self.config.head_dim
        projection = Linear(
            3 * heads * head_dim, use_bias=False, dtype=self.dtype, name="query_key_value"
        )
        hidden = split_heads(
            projection(layer_norm("norm")(x)), head_dim
        )  # [W, L, 3HK] -> [W, 3H, L, K]
        query, key, value = jnp.split(rotate(hidden, rotation), 3, axis=1)
        rate = self.config.attention_dropout
        out = attend(query, key, value, back_end=self.back_end, attention_dropout=rate, seeds=seeds)
        out = join_heads(rotate(out, rotation.inverse()))  # [W, H, L, K] -> [W, L, HK]
        return Linear(self.config.dim, dtype=self.dtype, name="output")(out)


def split_heads(
    x: Float[Array, "... tokens channels"], head_dim: int
) -> Float[Array, "... heads tokens head_dim"]:
    return jnp.swapaxes(x.reshape(*x.shape[:-1], -1, head_dim), -2, -3)


def join_heads(x: Float[Array, "... heads tokens head_dim"]) -> Float[Array, "... tokens channels"]:
    x = jnp.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)


class ProcessorLayer(nn.Module):
    """Self-attention and feed-forward over the latents, each followed by dropout and added to the
    residual stream.
    """

    config: ModelConfig
    dtype: jnp.dtype
    back_end: BackEnd

    @nn.compact
    def __call__(
        self, latents: Float[Array, "windows latents dim"], layer: Array, rotation: Rotation, seeds
    ):
        site = [None if seeds is None else fold(fold(seeds, layer), place) for place in range(4)]
        drop = partial(dropout, rate=self.config.residual_dropout)
        branch = SelfAttention(self.config, self.dtype, self.back_end, name="attention")(
            latents, rotation, site[0]
        )
        latents = latents + drop(branch, seeds=site[1]).astype(latents.dtype)
        branch = FeedForward(self.config, self.dtype, name="feedforward")(latents, site[2])
        return latents + drop(branch, seeds=site[3]).astype(latents.dtype), None
