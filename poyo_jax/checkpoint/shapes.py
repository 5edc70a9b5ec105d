"""Compare the shapes of stored parameters with a configuration, before any of them is read."""

from collections.abc import Mapping
from typing import Any, cast

import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict

from poyo_jax.model.params import TABLES, Path, is_stacked

Shape = tuple[int, ...]


def check_shapes(folder: epath.Path, like: dict) -> None:
    """Raise ValueError unless the parameters in `folder` have the shapes of the tree `like`."""
    stored = getattr(ocp.StandardCheckpointHandler().metadata(folder), "tree", {})
    compare_shapes(_shapes(stored), _shapes(like))


def compare_shapes(stored: Mapping[Path, Shape], needed: Mapping[Path, Shape]) -> None:
    """Raise ValueError unless the stored parameters have the shapes that are needed.

    The text names the field of ModelConfig that differs.
    """
    ensemble = len(needed[TABLES[0],]) == 3  # the first axis counts members
    for path in sorted(needed, key=_telling_first):
        name, seen, wanted = "/".join(path), stored.get(path), needed[path]
        if seen is None:
            raise ValueError(f"it has no parameter {name}")
        if seen != wanted:
            field = _field(path, seen, wanted, ensemble)
            raise ValueError(
                f"{field} does not fit: {name} has shape {seen}, and the configuration needs"
                f" {wanted}"
            )


def _shapes(tree: Any) -> dict[Path, Shape]:
    flat = cast(dict[Path, Any], flatten_dict(tree))
    return {path: tuple(leaf.shape) for path, leaf in flat.items()}


def _telling_first(path: Path) -> int:
    """Order in which parameters are compared: first those whose axes have names."""
    if path[-1] == "latent_embedding":
        return 0
    return 1 if path[-2:] == ("head", "bias") or path[0] in TABLES else 2


def _field(path: Path, seen: Shape, wanted: Shape, ensemble: bool) -> str:
    """Name the field that decides the axis in which the shapes differ."""
    if path[-1] == "latent_embedding" and seen[:-2] != wanted[:-2]:
        return "ModelConfig.members"
    if ensemble:
        seen, wanted = seen[1:], wanted[1:]
    differ = [axis for axis, size in enumerate(wanted) if seen[axis : axis + 1] != (size,)]
    axis = differ[0] if differ else 0
    if path[-1] == "latent_embedding":
        return "ModelConfig." + ("num_latents", "dim")[axis]
    if path[0] in TABLES:
        return ("the list of names", "ModelConfig.dim")[axis]
    if path[-2:] == ("head", "bias"):
        return "ModelConfig.num_channels"
    if "head" in path[:-2]:
        return "ModelConfig.outputs"
    if is_stacked(path) and axis == 0:
        return "ModelConfig.depth"
    return "ModelConfig (dim, head_dim, cross_heads, self_heads or processor)"
