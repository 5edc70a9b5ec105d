"""Add a behaviour to a session: `Session.with_behaviour`."""

from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.importers.arrays import checked_targets, place_targets
from poyo_jax.data.importers.labels import numbers_and_names
from poyo_jax.data.importers.targets import tell_names
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node
from poyo_jax.data.numbers import to_seconds
from poyo_jax.data.session_tree import behaviour_classes, behaviour_keys, behaviour_unit


def with_behaviour(
    tree: Node, key: str, times: ArrayLike, values: Any, domain: Intervals, unit: str
) -> Node:
    """The tree of a session with one more behaviour; `Session.with_behaviour` says more."""
    seconds = to_seconds(times, "times")
    check_times(seconds, "times", strictly=True)
    values, names = numbers_and_names(values, key)
    samples = checked_targets(values, len(seconds))
    session = _attribute_node(tree)
    known = behaviour_keys(tree)
    units = {each: behaviour_unit(tree, each) for each in known} | {key: unit}
    classes = {each: behaviour_classes(tree, each) for each in known} | {key: names}
    tell_names(session, units, classes)
    members = dict(tree.members) | {"session": session}
    added = replace(tree, members=members)
    place_targets(added, key, samples, seconds, domain)
    return added


def _attribute_node(tree: Node) -> Node:
    """A copy of the node that holds the attributes of the session."""
    node = tree.members.get("session")
    if not isinstance(node, Node):
        return data_node()
    return replace(node, attrs=dict(node.attrs))
