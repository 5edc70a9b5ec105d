"""Names in the tree of parameters: its tables, its stacked layers, and paths to its leaves."""

import jax

TABLES = ("unit_embedding", "session_embedding")
LOW_RANK = "low_rank"  # the tree of factors that stand for matrices (model/partition.py)


def is_table(path: tuple[str, ...]) -> bool:
    """Whether the parameter is the unit or the session table, of which a batch uses few rows."""
    return any(name in TABLES for name in path)


def is_stacked(path: tuple[str, ...]) -> bool:
    """Whether axis 0 of the parameter numbers the processor's layers."""
    return "layers" in path


def path_names(path: tuple) -> tuple[str, ...]:
    """Names of the keys and fields by which jax reaches a leaf."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)
