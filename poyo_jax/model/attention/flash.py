"""Flash attention of cuDNN and of Pallas, which never write scores to memory, behind one signature.

Both take `lengths`, how many of the first keys of every batch entry count. Lengths of queries and
keys are padded to multiples of 128: the TPU kernel needs it, and cuDNN's gradients have been seen
to be NaN at some others.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

MULTIPLE = 128
# The name by which rematerialisation knows what attention gives; see RunConfig.remat.
ATTENDED = "attended"
RETURNS_LOG_SUM = "return_residual" in inspect.signature(jax.nn.dot_product_attention).parameters

Attended = tuple[Array, Array | None]
Flash = Callable[..., Attended]


def cudnn(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    log_sum: bool = False,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Attended:
    """Compute attention [B, H, Q, K] by cuDNN, and the log-sum-exp of scores [B, H, Q] on request.

    Without `log_sum` the second result is None.

    JAX rounds that logarithm to the type of the queries, which in bfloat16 puts the sum off by a
    percent or two. It has no gradient.
    """
    num_queries = query.shape[2]
    num_keys = key.shape[2]
    if lengths is None and num_keys % MULTIPLE:
        lengths = jnp.full(len(key), num_keys, jnp.int32)
    settings: dict[str, Any] = {}
    if log_sum:
        settings["return_residual"] = True
    attended = jax.nn.dot_product_attention(
        _tokens_before_heads(_padded(query)),
        _tokens_before_heads(_padded(key)),
        _tokens_before_heads(_padded(value)),
        key_value_seq_lengths=lengths,
        implementation=implementation,
        **settings,
    )
    if not log_sum:
        return _tokens_before_heads(attended[:, :num_queries]), None
    out, sums = attended
    out = _tokens_before_heads(out[:, :num_queries])
    sums = _tokens_before_heads(sums[:, :num_queries])
    return out, sums.astype(jnp.float32)


def _tokens_before_heads(x: Array) -> Array:
    """Swap heads and tokens: [B, H, Q, …] <-> [B, Q, H, …]"""
    return jnp.swapaxes(x, 1, 2)


def splash(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    interpret: bool = False,
) -> Attended:
    """Compute the same as `cudnn` without a log-sum-exp by the TPU kernel.

    `interpret` runs it slowly on any platform.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    _, heads, num_queries, head_dim = query.shape
    num_keys = key.shape[2]
    if lengths is None and num_keys % MULTIPLE:
        lengths = jnp.full(len(key), num_keys, jnp.int32)
    query = _padded(query * head_dim**-0.5)
    key = _padded(key)
    value = _padded(value)
    padded_queries = query.shape[2]
    padded_keys = key.shape[2]
    kernel = _splash_kernel(heads, padded_queries, padded_keys, interpret)
    if lengths is None:
        attended = jax.vmap(kernel)(query, key, value)
    else:
        # Queries attend to keys of their own segment only: 0 for tokens, 1 for padding.
        is_padding = jnp.arange(padded_keys) >= lengths[:, None]
        of_keys = is_padding.astype(jnp.int32)
        of_queries = jnp.zeros((len(query), padded_queries), jnp.int32)
        segments = SegmentIds(q=of_queries, kv=of_keys)
        attended = jax.vmap(kernel)(query, key, value, segments)
    return attended[:, :, :num_queries], None


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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend_with_log_sum(
    flash: Flash,
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    lengths: Int[Array, " batch"],
) -> tuple[Float[Array, "batch heads queries head_dim"], Float[Array, "batch heads queries"]]:
    """Attention by `flash` and the log-sum-exp of its scores, both with gradients.

    No kernel differentiates its log-sum-exp. But the derivative of that by a score is the weight of
    the key, so its gradient for a query is what attention gives with keys in the place of values,
    and its gradient for the keys is what those values would get.
    """
    attended = flash(query, key, value, lengths, log_sum=True)
    return cast(tuple[Array, Array], attended)


def _forward(flash, query, key, value, lengths):
    given = (query, key, value, lengths)
    return attend_with_log_sum(flash, *given), given


def _backward(flash, saved, gradients):
    query, key, value, lengths = saved
    dout, dsum = gradients
    dsum = dsum[..., None] * query.shape[-1] ** -0.5

    def attention(query, key, value):
        return flash(query, key, value, lengths)[0]

    _, pull = jax.vjp(attention, query, key, value)
    dq, dk, dv = pull(dout)
    attention_to = partial(attention, query, key)
    mean_key, pull_key = jax.vjp(attention_to, key)
    dq = dq + (dsum * mean_key).astype(query.dtype)
    (dk_of_sum,) = pull_key((dsum * query).astype(key.dtype))
    return dq, dk + dk_of_sum, dv, None


attend_with_log_sum.defvjp(_forward, _backward)

FLASH: dict[str, Flash] = {"cudnn": cudnn, "splash": splash}
