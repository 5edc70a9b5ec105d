"""Traffic for a table of units: compile its part of a training step for TPUs that are not there.

    $ python -m experiments.benchmarks.exchange
    $ python -m experiments.benchmarks.exchange --units 10000000 --topologies v5e:16x16

This needs libtpu (`pip install "poyo_jax[aot-tpu]"`), but no TPU. Each chip looks up the rows of 64
windows, sums the gradients of rows, and moves them by SparseLamb. The bytes are those that a chip
sends in one round, read from the compiled program. The last columns tell if one round is enough:
how full the fullest slots of each hop are, for simulated windows of 30 to 170 units, whose rows
follow each other, each of a random session.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poyo_jax.cli.program import run_command

DIM, WINDOWS = 128, 64  # of the model; of a chip
USED = 120 * WINDOWS  # rows that a batch holds on a chip, with padding
SESSION_UNITS = (30, 170)
KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
NUMBER_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Table and chips."""

    units: int = 1_100_000
    """Units of the vocabulary."""
    topologies: tuple[str, ...] = ("v5e:4x4", "v5e:16x16", "v5p:8x8x16")
    """Chips to compile for."""
    json: Path | None = None
    """File for the figures."""


def main(arguments: list[str] | None = None) -> None:
    run_command(measure, Options, arguments, description=__doc__)


def measure(options: Options) -> None:
    """Compile for each topology, and print and write the figures."""
    import jax

    from poyo_jax.aot.topology import parse
    from poyo_jax.distributed.mesh import AXES, padded_rows

    num_rows = padded_rows(options.units)
    print(f"table of {num_rows:,} rows of {DIM}, {USED:,} rows used by a chip")
    print("| topology | chips | MB that a chip sends | collectives | hop 1 full | hop 2 | hop 3 |")
    print("|---|---|---|---|---|---|---|")
    figures = []
    for name in options.topologies:
        devices = np.array(parse(name).devices())
        mesh = jax.sharding.Mesh(devices.reshape(-1, 1), AXES)
        sent = sent_bytes(str(lower(mesh, num_rows, USED).compile().as_text()))
        kinds = Counter(kind for kind, _ in sent)
        row: dict[str, Any] = {
            "topology": name,
            "chips": mesh.size,
            "sent_bytes": sum(size for _, size in sent),
            "collectives": kinds,
            "full": simulated_load(mesh.size, num_rows),
        }
        figures.append(row)
        shown = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        full = " | ".join(f"{share:.0%}" for share in row["full"])
        print(
            f"| {name} | {mesh.size} | {row['sent_bytes'] / 1e6:.1f} | {shown} | {full} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"num_rows": num_rows, "figures": figures}, indent=2))


def lower(mesh, num_rows: int, used: int):
    """Lower the part of a training step that a table of units takes, for TPUs."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax.sharding import NamedSharding

    from poyo_jax.distributed.lookup import SPLIT, look_up, sum_rows
    from poyo_jax.distributed.mesh import state_shardings
    from poyo_jax.model.params import UNITS
    from poyo_jax.train.optim.lamb import LambSettings, lamb_rows
    from poyo_jax.train.optim.rows import with_tables

    rule = lamb_rows(LambSettings(learning_rate=0.01))
    optimizer = with_tables(optax.identity(), rule, mesh)

    def step(params: dict, state: Any, rows: jax.Array, gradient: jax.Array):
        vectors = look_up(params[UNITS], rows, mesh)
        summed = sum_rows(rows, gradient, num_rows, mesh)
        return vectors, optimizer.update({UNITS: summed}, state, params)

    def on_chips(tree: Any, shardings: Any) -> Any:
        def put(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

        return jax.tree.map(put, tree, shardings)

    params = {UNITS: jax.ShapeDtypeStruct((num_rows, DIM), jnp.float32)}
    state = params, jax.eval_shape(optimizer.init, params)
    state = on_chips(state, state_shardings(state, mesh))
    total = used * mesh.size
    batch = (
        jax.ShapeDtypeStruct((total,), jnp.int32),
        jax.ShapeDtypeStruct((total, DIM), jnp.float32),
    )
    batch = on_chips(batch, (NamedSharding(mesh, SPLIT),) * 2)
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(*state, *batch)
    return traced.lower(lowering_platforms=("tpu",))


def sent_bytes(program: str) -> list[tuple[str, int]]:
    """Each collective of a compiled program, with the bytes that a chip sends.

    A sum over all chips sends everything twice.
    """
    sent = []
    for line in program.splitlines():
        found = re.search(rf" = (.*?) ({KINDS})(-start)?\(", line)
        if found:
            passes = 2 if found[2] == "all-reduce" else 1
            sent.append((found[2], passes * _bytes(found[1])))
    return sent


def _bytes(shapes: str) -> int:
    """Bytes of all arrays in a text such as "(f32[8,128]{1,0}, s32[])"."""
    total = 0
    for kind, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes):
        total += NUMBER_BYTES[kind] * math.prod(int(size) for size in shape.split(",") if size)
    return total


def simulated_load(chips: int, num_rows: int) -> list[float]:
    """How full the fullest slots of each hop are, when chips draw windows of random sessions."""
    from poyo_jax.distributed.exchange import grid_width, peer_slots

    rng = np.random.default_rng(0)
    sizes = rng.integers(*SESSION_UNITS, num_rows // SESSION_UNITS[0], endpoint=True)
    firsts = 1 + np.cumsum(sizes) - sizes
    num_sessions = int(np.searchsorted(firsts + sizes, num_rows))
    width, rows_here = grid_width(chips), num_rows // chips
    height = chips // width
    fullest = np.zeros(3, int)
    lines = []
    for _ in range(height):
        rows_of_chips = []
        for _ in range(width):
            rows = [np.zeros(1, int)]  # padding
            for session in np.unique(rng.integers(num_sessions, size=WINDOWS)):
                rows.append(np.arange(int(sizes[session])) + firsts[session])
            rows_of_chips.append(np.concatenate(rows))
            fullest[0] = max(fullest[0], np.bincount(rows_of_chips[-1] % width).max())
        lines.append(np.unique(np.concatenate(rows_of_chips)))
        owners = lines[-1] // rows_here
        pairs = lines[-1] % width * height + owners // width  # sender and receiver
        fullest[1] = max(fullest[1], np.bincount(pairs).max())
    rows = np.unique(np.concatenate(lines))
    fullest[2] = np.bincount(rows % width * chips + rows // rows_here).max()
    peers = (width, height, width)
    return [int(fullest[hop]) / peer_slots(USED, peers[hop]) for hop in range(3)]


if __name__ == "__main__":
    main()
