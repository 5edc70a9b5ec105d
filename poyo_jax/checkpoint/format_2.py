"""Checkpoints of format 2: all that is needed to read one as if it had the present format.

The metadata file had other fields and, of a run, no digest; the tuning map was a file of its own.
The digest of parameters was one of all their bytes.

The names of encoder and decoder were flat ("encoder_query"), the processor's layers and
the head were "layers" and "readout", and the channels of heads were interleaved pairs
(model/channel_order.py). Functions of parameters work on every tree of the same shape, too, such as
the moments of an optimiser, and on a tree that has such trees in it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.config import ModelConfig
from poyo_jax.model.channel_order import used_order
from poyo_jax.model.params import BACKBONE, Path

FIELDS = {"format_version", "config", "units", "sessions", "readouts", "metrics", "digest"}
_EMBEDDINGS = ("token_kind_embedding", "latent_embedding")  # of the encoder


def parse(values: Mapping[str, Any], folder: epath.Path) -> tuple[Metadata, dict[str, str]]:
    """The metadata and the digests of the arrays of the step in `folder`.

    `values` are the fields of its metadata file.
    """
    if set(values) != FIELDS:
        raise ValueError("its metadata are not those of format 2")
    path = folder.parent.parent / "tuning_maps" / f"{folder.name}.json"
    tuning = json.loads(path.read_text()) if path.exists() else None
    metadata = Metadata.from_dict({**values, "tuning": tuning, "fit": None})
    digest = values["digest"]
    return metadata, {} if digest is None else {"params": digest}


def digest_of_params(params: Mapping[str, Any]) -> str:
    """SHA-256 of the parameters of a saved model, without padding."""
    whole = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(params, sep="/").items()):
        array = np.asarray(leaf)
        whole.update(f"{name} {array.dtype} {array.shape}\n".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def from_saved(tree: Any, config: ModelConfig) -> Any:
    """Parameters (or moments) of format 2 by their present names, in the order of their use."""

    def migrated(backbone: dict[Path, Any]) -> dict[Path, Any]:
        renamed = {_present_path(path): leaf for path, leaf in backbone.items()}
        return {path: used_order(path, leaf, config) for path, leaf in renamed.items()}

    return _with_backbones(tree, migrated)


def as_saved(tree: Any) -> Any:
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
