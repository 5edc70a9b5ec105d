"""Attention of queries to keys by one of several back ends, and which of them serves what.

- ``xla``: scores in memory, the plain reference. Dropout of weights; runs everywhere.
- ``chunked``: running softmax over chunks of keys; the backward pass computes the scores again.
  Dropout of weights; runs everywhere.
- ``cudnn``: flash attention of cuDNN. No dropout; needs an NVIDIA GPU since Ampere, bfloat16, and
  heads of at most 128 channels and a multiple of 8.
- ``splash``: flash attention of Pallas. No dropout; needs a TPU.

``auto`` takes the flash attention of the platform where it can do what is asked, which in training
means without dropout of attention weights. Elsewhere, and thus always on CPUs, it takes ``chunked``
for the encoder over packed token rows and ``xla`` for everything else. Every back end serves
encoder, processor and decoder, with one exception: versions of JAX whose
`jax.nn.dot_product_attention` does not return the log-sum-exp by which packed rows are merged get
``chunked`` there in place of ``cudnn``.

In all of them scores, softmax and sums over keys are float32. Heads come before tokens, so that
products are batches of plain matrix products and nothing is transposed.
"""

import jax
import jax.numpy as jnp
from jax.extend.backend import get_backend
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import BackEnd
from poyo_jax.errors import ConfigError
from poyo_jax.model.attention.flash import FLASH, RETURNS_LOG_SUM
from poyo_jax.model.attention.plain import attend_plainly
from poyo_jax.model.dropout import dropout

MASKED = (
    -1e30
)  # score of a token that must not be attended to; finite, so that a fully masked row stays finite
CHUNK_KEYS = 128  # keys of a chunk

_FLASH_OF: dict[str, BackEnd] = {"cuda": "cudnn", "tpu": "splash"}  # by platform
_HARDWARE = {"cudnn": "an NVIDIA GPU of compute capability 8.0 or higher", "splash": "a TPU"}


def platform() -> str:
    """Where computation runs: "cuda" (where cuDNN has flash attention), "tpu", "cpu" or another
    name.
    """
    backend = get_backend()
    if "cuda" not in backend.platform_version:
        return backend.platform
    capability = backend.local_devices()[0].compute_capability  # "9.0"
    return (
        "cuda"
        if int(capability.split(".")[0]) >= 8
        else f"a GPU of compute capability {capability}"
    )


def choose(
    back_end: BackEnd,
    *,
    dtype: jnp.dtype,
    head_dim: int,
    attention_dropout: float,
    packed: bool = False,
) -> BackEnd:
    """What `back_end` stands for with heads of `head_dim` channels of type `dtype`, by the table
    above.

    Raises ConfigError when one is asked for by name that cannot do it here.
    """
    plain = "chunked" if packed else "xla"
    if back_end == "auto":
        here = _FLASH_OF.get(platform())
        chosen = here if here and not _obstacle(here, dtype, head_dim, attention_dropout) else plain
    elif back_end in FLASH and (
        obstacle := _obstacle(back_end, dtype, head_dim, attention_dropout)
    ):
        raise ConfigError(
            f"{obstacle}, or set RunConfig.attention to 'auto', which takes what works."
        )
    else:
        chosen = back_end
    return plain if packed and chosen == "cudnn" and not RETURNS_LOG_SUM else chosen


def _obstacle(
    name: BackEnd, dtype: jnp.dtype, head_dim: int, attention_dropout: float
) -> str | None:
    """Why a flash back end cannot do something here, and what would help."""
    where = platform()
    if _FLASH_OF.get(where) != name:
        return (
            f"attention {name!r} needs {_HARDWARE[name]}; this process runs on {where}. Run it"
            " there"
        )
    if name == "cudnn" and dtype != jnp.bfloat16:
        return (
            f"attention 'cudnn' computes in bfloat16, not {dtype}. Set RunConfig.compute_dtype to"
            " 'bfloat16'"
        )
    if name == "cudnn" and (head_dim > 128 or head_dim % 8):
        return (
            "attention 'cudnn' needs ModelConfig.head_dim to be a multiple of 8 and at most 128;"
            f" it is {head_dim}. Change it"
        )
    if attention_dropout:
        return (
            f"attention {name!r} cannot drop attention weights, and ModelConfig.attention_dropout"
            f" is {attention_dropout}. Train with 0"
        )
    return None


def attend(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    *,
    back_end: BackEnd = "auto",
    attention_dropout: float = 0.0,
    seeds: UInt32[Array, " batch"] | None = None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Scaled dot-product attention to all keys; `seeds` decide dropout of its weights, None
    switches it off.
    """
    rate = 0.0 if seeds is None else attention_dropout
    chosen = choose(back_end, dtype=query.dtype, head_dim=query.shape[-1], attention_dropout=rate)
    if chosen in FLASH:
        return FLASH[chosen](query, key, value)[0]
    part = _attend_chunked if chosen == "chunked" else attend_plainly
    return part(query, key, value, rate, seeds)


def scaled(query: Array) -> Array:
    return query * query.shape[-1] ** -0.5


def _attend_chunked(
    query: Array, key: Array, value: Array, rate: float, seeds: Array | None
) -> Array:
    heads, queries = query.shape[1:3]
    count, query = key.shape[2], scaled(query)
    firsts = jnp.arange(0, count, CHUNK_KEYS)

    def cut(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, -count % CHUNK_KEYS), (0, 0)))
        return jnp.moveaxis(
            x.reshape(*x.shape[:2], -1, CHUNK_KEYS, x.shape[-1]), 2, 0
        )  # [M/c, B, H, c, K]

    @jax.checkpoint
    def add(sums, chunk):
        (largest, total, out), (key, value, first) = sums, chunk
        places = first + jnp.arange(CHUNK_KEYS)
        scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32)  # [B, H, Q, c]
        scores = jnp.where(places < count, scores, MASKED)
        peak = jnp.maximum(largest, jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        shrink, weights = jnp.exp(largest - peak), jnp.exp(scores - peak)
        total = total * shrink + weights.sum(axis=-1, keepdims=True)
        pairs = jax.lax.iota(jnp.uint32, heads * queries).reshape(heads, queries, 1)
        weights = dropout(
            weights, rate, seeds, pairs * jnp.uint32(count) + places.astype(jnp.uint32)
        )
        added = jnp.matmul(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return (peak, total, out * shrink + added), None

    sums = (
        jnp.full((*query.shape[:-1], 1), MASKED),
        jnp.zeros((*query.shape[:-1], 1)),
        jnp.zeros(query.shape),
    )
    (_, total, out), _ = jax.lax.scan(add, sums, (cut(key), cut(value), firsts))
    return (out / total).astype(value.dtype)
