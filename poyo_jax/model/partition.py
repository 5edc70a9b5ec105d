"""Which parameters learn: parts of the backbone by path, and low-rank updates of its matrices.

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
from poyo_jax.model.params import LOW_RANK

Path = tuple[str, ...]
FACTORS = ("down", "up")


def join(learning: Params, frozen: Params) -> tuple[Params, Learns]:
    """The whole backbone, and which of its parameters have a gradient; differentiable in what
    learns.
    """
    own = _flat(learning.get("backbone", {}))
    flat = _flat(frozen.get("backbone", {})) | own
    factors = _flat(learning.get(LOW_RANK, {}))
    updated = {path[:-1] for path in factors}
    for path in updated:
        down, up = (factors[*path, name] for name in FACTORS)
        flat[path] = flat[path] + down @ up
    return unflatten_dict(flat), lambda path: path in own or path in updated


def rates_of(backbone: Params, rates: Mapping[str, float]) -> dict[Path, float]:
    """Learning rate of every parameter of the backbone that learns, by its path.

    `rates` name parts of the backbone by the beginning of their paths, "" for all of it,
    "layers/attention" or "readout"; of several the longest counts. Raises ConfigError for a name
    that is the beginning of no path.
    """
    paths = list(_flat(backbone))
    groups = {tuple(filter(None, name.split("/"))): rate for name, rate in rates.items()}
    for group in groups:
        if not any(path[: len(group)] == group for path in paths):
            known = sorted({"/".join(path[:end]) for path in paths for end in range(1, len(path))})
            raise ConfigError(
                f"the backbone has no part {'/'.join(group)!r} to"
                f" learn.{suggest('/'.join(group), known)} Parts are"
                f" {', '.join(sorted({path[0] for path in paths}))}, and what is in them, such as"
                " 'layers/attention'."
            )
    chosen = {path: [group for group in groups if path[: len(group)] == group] for path in paths}
    return {path: groups[max(fitting, key=len)] for path, fitting in chosen.items() if fitting}


def take(backbone: Params, rates: Mapping[Path, float]) -> tuple[Params, Params]:
    """The parameters of the backbone that have a rate, and the others, as two trees."""
    flat = _flat(backbone)
    parts = (
        {path: x for path, x in flat.items() if (path in rates) is learns}
        for learns in (True, False)
    )
    learning, frozen = (unflatten_dict(part) for part in parts)
    return learning, frozen


def low_rank_factors(
    backbone: Params, rates: Mapping[Path, float], rank: int, key: Array
) -> Params:
    """Factors of the matrices that have a rate: `down` is drawn, `up` is zero, so that nothing
    changes at first.
    """
    factors, matrices = (
        {},
        {path: x for path, x in _flat(backbone).items() if path in rates and path[-1] == "kernel"},
    )
    for path, own in zip(matrices, jax.random.split(key, max(len(matrices), 1)), strict=False):
        *stack, inputs, outputs = matrices[path].shape
        width = min(rank, inputs, outputs)
        factors[*path, "down"] = inputs**-0.5 * jax.random.normal(
            own, (*stack, inputs, width), jnp.float32
        )
        factors[*path, "up"] = jnp.zeros((*stack, width, outputs), jnp.float32)
    return unflatten_dict(factors)


def _flat(tree: Params) -> dict[Path, Any]:
    return cast(dict[Path, Any], flatten_dict(tree))
