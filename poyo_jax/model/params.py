"""Names in the tree of parameters: tables, stacked layers, and paths to leaves."""

import itertools

import jax

UNITS = "unit_embedding"
SESSIONS = "session_embedding"
TABLES = (UNITS, SESSIONS)
BACKBONE = "backbone"
LAYERS = ("processor", "layers")  # in this tree axis 0 of every leaf numbers the layers
LOW_RANK = "low_rank"  # the tree of factors that stand for matrices (model/partition.py)

Path = tuple[str, ...]


def is_stacked(path: Path) -> bool:
    """Tell if axis 0 of the parameter counts the layers of the processor."""
    return LAYERS in itertools.pairwise(path)


def path_names(path: tuple) -> Path:
    """Names of the keys and fields by which jax reaches a leaf."""
    names = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
    return tuple(names)
