"""The order of the channels of a head: interleaved pairs, or halves, which is how they are used.

torch_brain and checkpoints of format 2 store the two channels of a pair that rotates side by side:
[a0, b0, a1, b1, ..., rest]. Here all first channels come first: [a0, a1, ..., b0, b1, ..., rest].
Parameters are stored in this order, so that nothing is permuted when the model runs
(model/rotary.py).
"""

from typing import Any

import numpy as np

from poyo_jax.config import ModelConfig
from poyo_jax.model.params import Path

INPUTS, OUTPUTS = -2, -1  # axes of a kernel


def half_split_order(head_dim: int, heads: int) -> np.ndarray:
    """Channels of `heads` heads with interleaved pairs, in the order [firsts, seconds, rest]."""
    half = head_dim // 2
    firsts = np.arange(0, half, 2)
    seconds = np.arange(1, half, 2)
    rest = np.arange(half, head_dim)
    head = np.concatenate([firsts, seconds, rest])
    starts = np.arange(heads)[:, None] * head_dim
    return (starts + head).reshape(-1)


def used_order(path: Path, leaf: Any, config: ModelConfig) -> Any:
    """A leaf of the backbone with interleaved pairs, in the order in which it is used."""
    return _permuted(path, leaf, config, inverse=False)


def interleaved_order(path: Path, leaf: Any, config: ModelConfig) -> Any:
    """The inverse of `used_order`."""
    return _permuted(path, leaf, config, inverse=True)


def _permuted(path: Path, leaf: Any, config: ModelConfig, *, inverse: bool) -> Any:
    orders = _orders(config)
    if path not in orders:
        return leaf
    axis, order = orders[path]
    if inverse:
        order = np.argsort(order)
    if axis == OUTPUTS:
        return leaf[..., order]
    return leaf[..., order, :]


def _orders(config: ModelConfig) -> dict[Path, tuple[int, np.ndarray]]:
    """Axis and order of every kernel of the backbone that has channels of heads, by path.

    In the encoder and the processor queries, keys and values rotate; in the decoder values do not.
    """

    def heads(count: int) -> np.ndarray:
        return half_split_order(config.head_dim, count)

    cross = heads(config.cross_heads)
    both = heads(2 * config.cross_heads)
    values = np.arange(cross.size, 2 * cross.size)
    keys_alone = np.concatenate([cross, values])
    within = heads(config.self_heads)
    all_three = heads(3 * config.self_heads)
    attention = ("processor", "layers", "attention")
    return {
        ("encoder", "query", "kernel"): (OUTPUTS, cross),
        ("encoder", "key_value", "kernel"): (OUTPUTS, both),
        ("encoder", "output", "kernel"): (INPUTS, cross),
        ("decoder", "query", "kernel"): (OUTPUTS, cross),
        ("decoder", "key_value", "kernel"): (OUTPUTS, keys_alone),
        (*attention, "query_key_value", "kernel"): (OUTPUTS, all_three),
        (*attention, "output", "kernel"): (INPUTS, within),
    }
