"""Send rows of a split table between the devices that use them and the devices that have them.

The devices stand in a grid, one line after the other. A row travels in three hops: within the line,
to the device in the column that the row's number chooses; within that column, to the line of the
row's owner; within that line, to the owner. Before each hop a device combines equal rows, and so
the owner gets every row once, also one that all devices use. In a hop, a device has equally many
slots for all of its peers. They are enough where rows are spread about evenly; rows that find no
slot travel in further rounds until all have arrived, as all rows may have one owner. So what a
device sends does not grow with the number of devices. (`jax.lax.ragged_all_to_all` would send less,
but neither CPUs nor all parts of a TPU pod have it.)

All functions of this module run inside shard_map.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32

from poyo_jax.distributed.mesh import AXES

# Slots for a peer: SPARE times the rows that it gets if all peers get equally many, and EXTRA.
SPARE, EXTRA = 1.5, 32


class Hop(NamedTuple):
    """An exchange of rows, and of what belongs to them, between the devices of each group."""

    groups: list[list[int]]
    entries: Int32[Array, " items"]  # of each item, among the different rows of this device
    slots: Int32[Array, " different"]  # of these rows in what is sent; `size` for none
    size: int  # slots for all peers together

    def send(self, values: Array) -> Array:
        """Send sums over equal rows: values [items, ...] -> what arrives [size, ...]."""
        sums = jnp.zeros((len(self.slots), *values.shape[1:]), values.dtype)
        return self.exchange(sums.at[self.entries].add(values), 0)

    def send_back(self, answers: Array) -> Array:
        """Answer what arrived: [size, ...] -> [items, ...]; zero for items that were not sent."""
        answers = self._swap(answers)
        return answers.at[self.slots].get(mode="fill", fill_value=0)[self.entries]

    def exchange(self, x: Array, empty: int) -> Array:
        """Send an entry for each different row, and return what arrives."""
        sent = jnp.full((self.size, *x.shape[1:]), empty, x.dtype)
        return self._swap(sent.at[self.slots].set(x, mode="drop"))

    def _swap(self, x: Array) -> Array:
        if len(self.groups[0]) == 1:
            return x
        return _swapper(self.groups)(x)


def _swapper(groups: list[list[int]]) -> Callable[[Array], Array]:
    """The exchange between the devices of each group, also for the members of an ensemble.

    jax cannot batch an exchange within groups: here the axis of the members travels as the last.
    """

    @jax.custom_batching.custom_vmap
    def swap(x: Array) -> Array:
        return jax.lax.all_to_all(x, AXES, 0, 0, axis_index_groups=groups, tiled=True)

    @swap.def_vmap
    def swap_members(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
        return jnp.moveaxis(swap(jnp.moveaxis(x, 0, -1)), -1, 0), True

    return swap


class Journey(NamedTuple):
    """The way of rows from the devices that use them to their owners."""

    hops: list[Hop]
    arrived: Int32[Array, " slots"]  # rows that this device has; the number of rows for none

    def send(self, values: Array) -> Array:
        """Send sums over equal rows to their owners: [rows, ...] -> [slots, ...]."""
        for hop in self.hops:
            values = hop.send(values)
        return values

    def send_back(self, answers: Array) -> Array:
        """Answer the rows that arrived: [slots, ...] -> [rows, ...]; zero for other rows."""
        for hop in reversed(self.hops):
            answers = hop.send_back(answers)
        return answers


def in_rounds(
    rows: Int32[Array, " rows"],
    num_rows: int,
    use: Callable[[Journey, Array], Array],
    result: Array,
) -> Array:
    """Send rows to their owners until all have arrived: `result = use(journey, result)` each time.

    `rows` may repeat. Each entry arrives in one of the rounds, unless it is no row of the table.
    """
    rows = jnp.where((rows >= 0) & (rows < num_rows), rows, num_rows)

    def any_waits(state: tuple[Array, Array]) -> Array:
        waits = jnp.any(state[0] < num_rows)
        return jax.lax.pmax(waits.astype(jnp.int32), AXES) > 0

    def next_round(state: tuple[Array, Array]) -> tuple[Array, Array]:
        waiting, result = state
        journey = _travel(waiting, num_rows)
        arrived = (journey.arrived < num_rows).astype(jnp.int32)
        arrived = journey.send_back(arrived) > 0
        return jnp.where(arrived, num_rows, waiting), use(journey, result)

    return jax.lax.while_loop(any_waits, next_round, (rows, result))[1]


def _travel(rows: Int32[Array, " rows"], num_rows: int) -> Journey:
    """Send rows to their owners, as many as there are slots for."""
    num_devices = jax.lax.axis_size(AXES)
    rows_here = num_rows // num_devices
    width = grid_width(num_devices)
    lines = [[*range(first, first + width)] for first in range(0, num_devices, width)]
    columns = [[*range(first, num_devices, width)] for first in range(width)]
    ways = [
        (lines, lambda rows: rows % width),
        (columns, lambda rows: rows // rows_here // width),
        (lines, lambda rows: rows // rows_here % width),
    ]
    hops, used = [], len(rows)
    for groups, peers_of in ways:
        size = min(len(rows), num_rows + 1)
        different, entries = jnp.unique(rows, size=size, fill_value=num_rows, return_inverse=True)
        num_peers = len(groups[0])
        num_slots = peer_slots(used, num_peers)
        peers = jnp.where(different < num_rows, peers_of(different), num_peers)
        slots = _slots(peers, num_peers, num_slots)
        hops.append(Hop(groups, entries, slots, num_peers * num_slots))
        rows = hops[-1].exchange(different, num_rows)
    return Journey(hops, rows)


def grid_width(num_devices: int) -> int:
    """Length of the lines of the grid: the largest divisor up to the square root."""
    width = math.isqrt(num_devices)
    while num_devices % width:
        width -= 1
    return width


def peer_slots(used: int, num_peers: int) -> int:
    """Slots for each peer of a hop, when every device uses `used` rows."""
    return min(used, math.ceil(SPARE * used / num_peers) + EXTRA) if num_peers > 1 else used


def _slots(peers: Int32[Array, " rows"], num_peers: int, num_slots: int) -> Int32[Array, " rows"]:
    """Give each row a slot of its peer, in the order in which they lie.

    Rows for a peer after the last, and those for which no slot is left, get one after the last.
    """
    is_for = peers[:, None] == jnp.arange(num_peers)
    places = jnp.sum(jnp.where(is_for, jnp.cumsum(is_for, axis=0) - 1, 0), axis=1)
    found = (peers < num_peers) & (places < num_slots)
    return jnp.where(found, peers * num_slots + places, num_peers * num_slots)
