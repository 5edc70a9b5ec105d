"""Attention of queries to keys, and the choice of the back end that computes it.

- ``xla``: scores in memory, the plain reference. Dropout of weights and masks; runs everywhere.
- ``chunked``: running softmax over chunks of keys; the backward pass computes the scores again.
  Dropout of weights and masks; runs everywhere.
- ``cudnn``: flash attention of cuDNN. No dropout, no mask; needs an NVIDIA GPU since Ampere,
  bfloat16, and heads of at most 128 channels and a multiple of 8.
- ``splash``: flash attention of Pallas. No dropout, no mask; needs a TPU.

``auto`` takes the flash attention of the platform where it can do what is asked; in training this
means without dropout of attention weights. Elsewhere, and thus always on CPUs, it takes ``chunked``
for the encoder over packed token rows and ``xla`` for everything else. Every back end serves
encoder, processor and decoder, with two exceptions, both for packed rows, which are merged by their
log-sum-exp: ``chunked`` stands in for ``splash``, since it moves a tenth of the bytes on TPUs
(experiments/benchmarks/README.md), and for ``cudnn`` in versions of JAX whose
`jax.nn.dot_product_attention` does not return the log-sum-exp.

In all of them scores, softmax and sums over keys are float32. Heads come before tokens, so that
products are batches of plain matrix products and nothing is transposed.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from poyo_jax.config import BackEnd
from poyo_jax.errors import ConfigError
from poyo_jax.model.attention.chunked import attend_in_chunks, attend_in_groups
from poyo_jax.model.attention.flash import FLASH, RETURNS_LOG_SUM
from poyo_jax.model.attention.online_softmax import merge_rows
from poyo_jax.model.attention.tokens import TokenRows, cut, flash_rows, plain_rows, recomputed
from poyo_jax.model.attention.xla import attend_plainly
from poyo_jax.model.hardware import CHOICES, own_platform

_FLASH_OF: dict[str, BackEnd] = {
    platform: choice.flash for platform, choice in CHOICES.items() if choice.flash
}
_HARDWARE = {"cudnn": "an NVIDIA GPU of compute capability 8.0 or higher", "splash": "a TPU"}


def choose(
    back_end: BackEnd,
    *,
    platform: str | None = None,
    dtype: jnp.dtype,
    head_dim: int,
    attention_dropout: float,
    packed: bool = False,
    masked: bool = False,
) -> BackEnd:
    """Choose the back end for heads of `head_dim` channels of type `dtype`, by the table above.

    `platform` is that of the devices that compute (`platform_of`); None stands for this process.
    Raises ConfigError when one is asked for by name that cannot do it there.
    """
    platform = platform or own_platform()
    plain = "chunked" if packed else "xla"
    flash = _FLASH_OF.get(platform) if back_end == "auto" else back_end
    if flash not in FLASH:
        return plain if back_end == "auto" else back_end
    obstacle = _obstacle(flash, platform, dtype, head_dim, attention_dropout, masked)
    if obstacle and back_end == "auto":
        return plain
    if obstacle:
        advice = "or set RunConfig.attention to 'auto', which takes what works."
        raise ConfigError(f"{obstacle}, {advice}")
    merges = flash == "cudnn" and RETURNS_LOG_SUM
    if packed and not merges:
        return plain
    return flash


def _obstacle(
    name: BackEnd,
    platform: str,
    dtype: jnp.dtype,
    head_dim: int,
    attention_dropout: float,
    masked: bool,
) -> str | None:
    """Reason why a flash back end cannot do something here, and what would help."""
    if _FLASH_OF.get(platform) != name:
        return (
            f"attention {name!r} needs {_HARDWARE[name]}; here it would run on {platform}. Run it"
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
    if masked:
        return (
            f"attention {name!r} takes no mask, and this attention has one. Set RunConfig.attention"
            " to 'xla' or 'chunked'"
        )
    return None


def attend(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    *,
    back_end: BackEnd = "auto",
    platform: str | None = None,
    attention_dropout: float = 0.0,
    seeds: UInt32[Array, " batch"] | None = None,
    mask: Bool[Array | np.ndarray, "..."] | None = None,
) -> Float[Array, "batch heads queries head_dim"]:
    """Scaled dot-product attention.

    `platform` is that of the devices that compute it (`choose`). `seeds` decide dropout of the
    weights; None switches it off. `mask` broadcasts to [batch, heads, queries, keys], and True lets
    a query attend to a key; a query without any key gets zeros.
    """
    rate = 0.0 if seeds is None else attention_dropout
    chosen = choose(
        back_end,
        platform=platform,
        dtype=query.dtype,
        head_dim=query.shape[-1],
        attention_dropout=rate,
        masked=mask is not None,
    )
    if chosen in FLASH:
        return FLASH[chosen](query, key, value)[0]
    if mask is not None:
        mask = jnp.asarray(mask)
        mask = jnp.expand_dims(mask, tuple(range(4 - mask.ndim)))
    attention = attend_in_chunks if chosen == "chunked" else attend_plainly
    return attention(query, key, value, rate, seeds, mask)


def attend_tokens(
    query: Float[Array, "heads latents head_dim"],
    table: Float[Array, "entries 2*heads*head_dim"],
    rows: TokenRows,
    windows: Int[Array, " rows"] | None,
    num_windows: int,
    *,
    rows_per_group: int,
    back_end: BackEnd = "auto",
    platform: str | None = None,
    attention_dropout: float = 0.0,
) -> Float[Array, "windows heads latents head_dim"]:
    """Attention of the same queries to the tokens of every window.

    Args:
        query: queries, equal for all windows.
        table: keys of all heads, then values, before rotation.
        rows: the tokens.
        windows: window of each row, in ascending order; None when row i holds all tokens of window
        i.
        num_windows: how many windows there are.
        rows_per_group: rows whose scores the back end `chunked` holds in memory at the same time.
        back_end: one of those above.
        platform: that of the devices that compute it (`choose`).
        attention_dropout: rate of dropout of the weights.

    A window without tokens gets zeros. `xla` and flash attention attend packed rows one by one and
    merge them, which is exact.
    """
    rate = 0.0 if rows.seeds is None else attention_dropout
    packed = windows is not None
    chosen = choose(
        back_end,
        platform=platform,
        dtype=table.dtype,
        head_dim=query.shape[-1],
        attention_dropout=rate,
        packed=packed,
    )
    if chosen == "chunked":
        if windows is None:
            rows, windows = cut(rows)
        return attend_in_groups(query, table, rows, windows, num_windows, rows_per_group, rate)
    if chosen in FLASH:
        attention = partial(flash_rows, FLASH[chosen], packed)
    else:
        attention = partial(plain_rows, rate)
    sums = recomputed(attention, query, table, rows)
    if windows is not None:
        sums = merge_rows(sums, windows, num_windows)
    return sums.attention().astype(table.dtype)
