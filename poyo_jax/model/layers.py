"""Linear maps, norms, feed-forward blocks and the processor's layer, with the reference's initial values."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention import attend
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.rotary import Rotation, half_split_order, rotate


class Linear(nn.Module):
    """x @ kernel + bias in `dtype`; initial values uniform in +-1/sqrt(inputs), as PyTorch's."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "... inputs"], rows: np.ndarray | None = None, columns: np.ndarray | None = None
    ) -> Float[Array, "... features"]:
        """`rows` and `columns` reorder the kernel (not the parameter) to another order of inputs and features."""
        bound = x.shape[-1] ** -0.5
        kernel = self.param("kernel", _uniform, (x.shape[-1], self.features), bound)
        kernel = kernel if rows is None else kernel[rows]
        kernel = kernel if columns is None else kernel[:, columns]
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
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
        value, gate = jnp.split(hidden, 2, axis=-1)  # [W, T, 8D] -> 2 x [W, T, 4D]
        hidden = dropout(value * jax.nn.gelu(gate, approximate=False), self.config.feedforward_dropout, seeds)
        return Linear(dim, dtype=self.dtype, name="contract")(hidden)


class SelfAttention(nn.Module):
    """Residual branch: rotary self-attention in which values rotate too, so that they carry relative time."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "windows latents dim"], rotation: Rotation, seeds: UInt32[Array, " windows"] | None
    ) -> Float[Array, "windows latents dim"]:
        heads, head_dim = self.config.self_heads, self.config.head_dim
        columns = half_split_order(head_dim, 3 * heads)
        projection = Linear(3 * heads * head_dim, use_bias=False, dtype=self.dtype, name="query_key_value")
        hidden = projection(layer_norm("norm")(x), columns=columns)
        hidden = hidden.reshape(*x.shape[:2], 3 * heads, head_dim)  # [W, L, 3HK] -> [W, L, 3H, K]
        query, key, value = jnp.split(rotate(hidden, rotation), 3, axis=2)
        dropped = partial(dropout, rate=self.config.attention_dropout, seeds=seeds)
        out = rotate(attend(query, key, value, dropped), rotation.inverse())
        out = out.reshape(*x.shape[:2], heads * head_dim)  # [W, L, H, K] -> [W, L, HK]
        return Linear(self.config.dim, dtype=self.dtype, name="output")(out, rows=half_split_order(head_dim, heads))


class ProcessorLayer(nn.Module):
    """Self-attention and feed-forward over the latents, each followed by dropout and added to the residual stream."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, latents: Float[Array, "windows latents dim"], layer: Array, rotation: Rotation, seeds):
        site = [None if seeds is None else fold(fold(seeds, layer), place) for place in range(4)]
        drop = partial(dropout, rate=self.config.residual_dropout)
        branch = SelfAttention(self.config, self.dtype, name="attention")(latents, rotation, site[0])
        latents = latents + drop(branch, seeds=site[1]).astype(latents.dtype)
        branch = FeedForward(self.config, self.dtype, name="feedforward")(latents, site[2])
        return latents + drop(branch, seeds=site[3]).astype(latents.dtype), None
