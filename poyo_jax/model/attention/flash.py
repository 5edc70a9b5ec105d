"""Flash attention of cuDNN and of Pallas, which never write scores to memory, behind one signature.

Numbers of queries and keys are padded to multiples of 128: the TPU kernel needs it, and cuDNN's
gradients have been seen to be NaN at some others.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MULTIPLE = 128
# The name by which rematerialisation knows what attention gives; see RunConfig.remat.
ATTENDED = "attended"

Flash = Callable[..., Array]


def cudnn(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    *,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "batch heads queries head_dim"]:
    """Compute attention by cuDNN."""
    num_queries = query.shape[2]
    num_keys = key.shape[2]
    lengths = None
    if num_keys % MULTIPLE:
        lengths = jnp.full(len(key), num_keys, jnp.int32)
    attended = jax.nn.dot_product_attention(
        _tokens_before_heads(_padded(query)),
        _tokens_before_heads(_padded(key)),
        _tokens_before_heads(_padded(value)),
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )
    return _tokens_before_heads(attended[:, :num_queries])


def _tokens_before_heads(x: Array) -> Array:
    """Swap heads and tokens: [B, H, Q, …] <-> [B, Q, H, …]"""
    return jnp.swapaxes(x, 1, 2)


def splash(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    *,
    interpret: bool = False,
) -> Float[Array, "batch heads queries head_dim"]:
    """Compute attention by the TPU kernel; `interpret` runs it slowly on any platform."""
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    _, heads, num_queries, head_dim = query.shape
    num_keys = key.shape[2]
    query = _padded(query * head_dim**-0.5)
    key = _padded(key)
    value = _padded(value)
    padded_queries = query.shape[2]
    padded_keys = key.shape[2]
    kernel = _splash_kernel(heads, padded_queries, padded_keys, interpret)
    if padded_keys == num_keys:
        attended = jax.vmap(kernel)(query, key, value)
    else:
        # Queries attend to keys of their own segment only: 0 for tokens, 1 for padding.
        is_padding = jnp.arange(padded_keys) >= num_keys
        segments = SegmentIds(
            q=jnp.zeros(padded_queries, jnp.int32), kv=is_padding.astype(jnp.int32)
        )
        attend = partial(kernel, segment_ids=segments)
        attended = jax.vmap(attend)(query, key, value)
    return attended[:, :, :num_queries]


def _splash_kernel(
    heads: int,
    queries: int,
    keys: int,
    interpret: bool,
) -> Callable:
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    of_queries = _block(queries)
    of_keys = _block(keys)
    sizes = kernels.BlockSizes(
        block_q=of_queries,
        block_kv=of_keys,
        block_q_dkv=of_queries,
        block_kv_dkv=of_keys,
        use_fused_bwd_kernel=True,
    )
    everything = kernels.FullMask((queries, keys))
    return kernels.make_splash_mha(
        kernels.MultiHeadMask([everything] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=ATTENDED,
        interpret=interpret,
    )


def _block(length: int) -> int:
    """The largest size of a block that divides the length."""
    return next(size for size in (512, 384, 256, 128) if length % size == 0)


def _padded(x: Array) -> Array:
    """Pad the axis of the tokens to a multiple of `MULTIPLE`."""
    padding = [(0, 0)] * x.ndim
    padding[2] = (0, -x.shape[2] % MULTIPLE)
    return jnp.pad(x, padding)


FLASH: dict[str, Flash] = {"cudnn": cudnn, "splash": splash}
