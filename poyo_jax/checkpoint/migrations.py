"""Parameters of checkpoints of format 2 in the present format.

In format 2 the names of encoder and decoder were flat ("encoder_query"), the processor's layers and
the head were "layers" and "readout", and the channels of heads were interleaved pairs
(model/channel_order.py). All functions work on the parameters and on every tree of the same shape,
such as the moments of an optimiser, and on a tree that has such trees in it.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from poyo_jax.config import ModelConfig
from poyo_jax.model.channel_order import used_order
from poyo_jax.model.params import BACKBONE, Path

_EMBEDDINGS = ("token_kind_embedding", "latent_embedding")  # of the encoder


def from_format_2(tree: Any, config: ModelConfig) -> Any:
    """Parameters (or moments) of format 2 by their present names, in the order of their use."""

    def migrated(backbone: dict[Path, Any]) -> dict[Path, Any]:
        renamed = {_present_path(path): leaf for path, leaf in backbone.items()}
        return {path: used_order(path, leaf, config) for path, leaf in renamed.items()}

    return _with_backbones(tree, migrated)


def as_format_2(tree: Any) -> Any:
    """The same leaves by their names in format 2, as Orbax needs to know to read it.

    Shapes are equal in both formats, so leaves may be abstract. Channels are not permuted.
    """
    return _with_backbones(tree, lambda backbone: {_old_path(p): x for p, x in backbone.items()})


def _with_backbones(tree: Any, change: Callable[[dict[Path, Any]], dict[Path, Any]]) -> Any:
    """The tree in which `change` was made to every backbone, given as leaves by path."""

    def has_backbone(node: Any) -> bool:
        return isinstance(node, dict) and isinstance(node.get(BACKBONE), dict)

    def changed(node: Any) -> Any:
        if not has_backbone(node):
            return node
        backbone = cast(dict[Path, Any], flatten_dict(node[BACKBONE]))
        return node | {BACKBONE: unflatten_dict(change(backbone))}

    return jax.tree.map(changed, tree, is_leaf=has_backbone)


def _present_path(path: Path) -> Path:
    first, *rest = path
    if first in _EMBEDDINGS:
        return ("encoder", *path)
    if first == "layers":
        return ("processor", *path)
    if first == "readout":
        return ("head", *rest)
    side, _, name = first.partition("_")
    return (side, name, *rest)


def _old_path(path: Path) -> Path:
    side, *rest = path
    if side == "processor":
        return tuple(rest)
    if side == "head":
        return ("readout", *rest)
    if rest[0] in _EMBEDDINGS:
        return tuple(rest)
    return (f"{side}_{rest[0]}", *rest[1:])
