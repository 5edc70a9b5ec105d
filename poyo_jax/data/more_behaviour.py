"""Add a behaviour to a session: `Session.with_behaviour`."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.classes import in_order
from poyo_jax.data.importers.arrays import checked_targets, place_targets
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node
from poyo_jax.data.numbers import to_seconds
from poyo_jax.data.session_tree import behaviour_classes, behaviour_keys, behaviour_unit
from poyo_jax.errors import SessionError


def with_behaviour(
    tree: Node, key: str, times: ArrayLike, values: Any, domain: Intervals, unit: str
) -> Node:
    """The tree of a session with one more behaviour; `Session.with_behaviour` says more."""
    seconds = to_seconds(times, "times")
    check_times(seconds, "times", strictly=True)
    names: tuple[str, ...] = ()
    if np.asarray(values).dtype.kind in "UO":
        values, names = _coded(values, key)
    samples = checked_targets(values, len(seconds))
    session = _attribute_node(tree)
    known = behaviour_keys(tree)
    units = {each: behaviour_unit(tree, each) for each in known} | {key: unit}
    classes = {each: list(behaviour_classes(tree, each)) for each in known} | {key: list(names)}
    for attribute, values in (("units", units), ("classes", classes)):
        given = {each: value for each, value in values.items() if value}
        if given:
            session.attrs[attribute] = json.dumps(given)
    members = dict(tree.members) | {"session": session}
    added = replace(tree, members=members)
    place_targets(added, key, samples, seconds, domain)
    return added


def _coded(values: Any, key: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers of the classes that texts name, and the names; -1 for None and empty texts."""
    labels = np.asarray(values, object)
    if labels.ndim != 1:
        raise SessionError(f"{key} has labels of shape {labels.shape}; pass one label a sample.")
    missing = np.array([label is None or label == "" for label in labels])
    wrong = [label for label in labels[~missing] if not isinstance(label, str)]
    if wrong:
        raise SessionError(
            f"{key} has the label {wrong[0]!r} of type {type(wrong[0]).__name__} among texts; pass"
            " texts alone, with None where there is no label."
        )
    names = in_order(labels[~missing].tolist())
    codes = np.full(len(labels), -1.0)
    for number, name in enumerate(names):
        codes[labels == name] = number
    return codes, names


def _attribute_node(tree: Node) -> Node:
    """A copy of the node that holds the attributes of the session."""
    node = tree.members.get("session")
    if not isinstance(node, Node):
        return data_node()
    return replace(node, attrs=dict(node.attrs))
