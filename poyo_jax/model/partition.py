"""Divide parameters into learning and frozen ones; update matrices at low rank.

What learns is a dictionary of the tables, of `backbone`, a tree that holds the learning parameters
alone, and of `low_rank`, a tree with the factors `down` [..., inputs, rank] and `up` [..., rank,
outputs] in the place of each matrix that they update (Hu et al. 2021, arXiv 2106.09685). What is
frozen is a dictionary of the rest of the backbone.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from poyo_jax.errors import ConfigError, suggest
from poyo_jax.model.apply import Learns, Params
from poyo_jax.model.params import BACKBONE, LOW_RANK, Path

FACTORS = ("down", "up")


def join(learning: Params, frozen: Params) -> tuple[Params, Learns]:
    """Return the whole backbone and a function that tells which of its parameters have a gradient.

    The backbone is differentiable in `learning`.
    """
    trained = _flat(learning.get(BACKBONE, {}))
    flat = _flat(frozen.get(BACKBONE, {})) | trained
    factors = _flat(learning.get(LOW_RANK, {}))
    updated = {path[:-1] for path in factors}
    for path in updated:
        down, up = (factors[*path, name] for name in FACTORS)
        flat[path] = flat[path] + down @ up
    return unflatten_dict(flat), lambda path: path in trained or path in updated


def rates_of(backbone: Params, rates: Mapping[str, float]) -> dict[Path, float]:
    """Learning rate of every parameter of the backbone that learns, by its path.

    `rates` name parts of the backbone by the beginning of their paths: "" for all of it,
    "processor/layers/attention" or "head". If several fit, the longest counts. Raises ConfigError
    for a name that is the beginning of no path.
    """
    paths = list(_flat(backbone))
    groups = {_path_of(name): rate for name, rate in rates.items()}
    for group in groups:
        if not any(_begins(path, group) for path in paths):
            raise ConfigError(_no_such_part("/".join(group), paths))
    rate_of: dict[Path, float] = {}
    for path in paths:
        fitting = [group for group in groups if _begins(path, group)]
        if fitting:
            rate_of[path] = groups[max(fitting, key=len)]
    return rate_of


def _path_of(name: str) -> Path:
    return tuple(entry for entry in name.split("/") if entry)


def _begins(path: Path, group: Path) -> bool:
    return path[: len(group)] == group


def _no_such_part(name: str, paths: list[Path]) -> str:
    known: set[str] = set()
    for path in paths:
        for end in range(1, len(path)):
            known.add("/".join(path[:end]))
    modules = sorted({path[0] for path in paths})
    return (
        f"the backbone has no part {name!r} to learn.{suggest(name, sorted(known))} Parts are"
        f" {', '.join(modules)}, and what is in them, such as 'processor/layers/attention'."
    )


def take(backbone: Params, rates: Mapping[Path, float]) -> tuple[Params, Params]:
    """The parameters of the backbone that have a rate, and the others, as two trees."""
    learning: dict[Path, Any] = {}
    frozen: dict[Path, Any] = {}
    for path, leaf in _flat(backbone).items():
        chosen = learning if path in rates else frozen
        chosen[path] = leaf
    return unflatten_dict(learning), unflatten_dict(frozen)


def low_rank_factors(
    backbone: Params,
    rates: Mapping[Path, float],
    rank: int,
    key: Array,
) -> Params:
    """Make the factors of the matrices that have a rate.

    `down` is random and `up` is zero, so the model is unchanged at first.
    """
    flat = _flat(backbone)
    paths = [path for path in flat if path in rates and path[-1] == "kernel"]
    keys = jax.random.split(key, max(len(paths), 1))
    factors = {}
    for path, key_of_matrix in zip(paths, keys, strict=False):
        *stack, inputs, outputs = flat[path].shape
        width = min(rank, inputs, outputs)
        shape = (*stack, inputs, width)
        drawn = jax.random.normal(key_of_matrix, shape, jnp.float32)
        factors[*path, "down"] = inputs**-0.5 * drawn
        shape = (*stack, width, outputs)
        factors[*path, "up"] = jnp.zeros(shape, jnp.float32)
    return unflatten_dict(factors)


def _flat(tree: Params) -> dict[Path, Any]:
    return cast(dict[Path, Any], flatten_dict(tree))
