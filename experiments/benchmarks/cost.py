"""Cost of training by arithmetic: the tables of docs/scaling.md.

    $ python -m experiments.benchmarks.cost

Nothing is run. A window's operations come from poyo_jax/model/flops.py; the time of a step on
accelerators is that of experiments/results/topologies.json.
"""

import math

from experiments.benchmarks.topologies import RESULTS, read
from poyo_jax.distributed.exchange import grid_width, peer_slots
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.presets import PRESETS

UNITS, QUERIES = 100, 100  # of a window of 1 s
TOKEN_BYTES = 4 + 1 + 4 + 4  # position, kind and time of a token, as they go to a device
SPIKE_BYTES = 8 + 8  # time and unit of a spike in a session file
# Tokens that one core prepares in a second (experiments.benchmarks.speed --what pipeline).
PIPELINE_TOKENS = 8_000 * 2_300
POYO_SPIKES = 143e6 + 706e6  # of Perich's and Churchland's recordings


def main() -> None:
    for name in ("poyo_single", "poyo_1"):
        operations_table(name)
    table_table()
    data_table()


def operations_table(name: str) -> None:
    config = PRESETS[name]().model
    print(f"\nMFLOP of a window, forward, {name} ({UNITS} units, {QUERIES} queries)\n")
    print("| tokens | encoder | processor | decoder | training step |\n|---|---|---|---|---|")
    for tokens in (500, 2000, 8000):
        cost = forward_flops(config, windows=1, tokens=tokens, units=UNITS, queries=QUERIES)
        parts = " | ".join(f"{part / 1e6:,.0f}" for part in cost)
        print(f"| {tokens} | {parts} | {TRAINING * cost.total / 1e6:,.0f} |")


def table_table() -> None:
    dim, used = 128, 64 * UNITS
    print(f"\nUnit table of dim {dim}; every chip looks up {used} rows in a step\n")
    print(
        "| units | table and moments | chips | held by a chip | travels per step and chip"
        " |\n|---|---|---|---|---|"
    )
    for rows in (27_373, 1_100_000, 10_000_000, 100_000_000):
        whole = rows * (3 * 4 * dim + 4)
        for count in (1, 64, 4096):
            split = rows >= 1 << 16
            held = whole / (count if split else 1)
            vectors = vectors_of_split(count, used) if split else min(rows, count * used)
            # A sum over all chips passes every vector twice; rows of a split table travel to the
            # chip, and their gradients back.
            travels = 2 * 4 * dim * vectors if count > 1 else 0
            print(
                f"| {rows:,} | {whole / 1e9:.2f} GB | {count} | {held / 1e9:.3f} GB |"
                f" {travels / 1e9:.3f} GB |"
            )


def vectors_of_split(count: int, used: int) -> int:
    """Return the vectors that a chip sends to look up `used` rows of a table split over chips."""
    width = grid_width(count)
    peers = (width, count // width, width)
    return sum(some * peer_slots(used, some) for some in peers)


def data_table() -> None:
    rate = 1e9
    print(f"\n{rate:.0e} spikes per second through training (tokens beyond spikes left out)\n")
    print("| what | needs |\n|---|---|")
    for row in fastest(read(RESULTS)):
        tokens = row["tokens"] * row["windows"] / row["step_seconds"] / row["chips"]
        name = f"{row['preset']} as on {row['topology']}"
        chips = math.ceil(rate / tokens)
        print(f"| chips, {name} | {chips:,}, at {tokens / 1e6:.2f} M tokens/s each |")
    print(f"| cores that prepare batches | {math.ceil(rate / PIPELINE_TOKENS)} |")
    print(f"| read from files or page cache | {rate * SPIKE_BYTES / 1e9:.0f} GB/s over all hosts |")
    print(f"| sent to the devices | {rate * TOKEN_BYTES / 1e9:.0f} GB/s over all hosts |")
    print(f"| one pass through {POYO_SPIKES / 1e6:.0f} M spikes | {POYO_SPIKES / rate:.2f} s |")


def fastest(rows: list[dict]) -> list[dict]:
    """For each preset and topology the row whose step may be fastest."""
    best: dict[tuple[str, str], dict] = {}
    for row in sorted(rows, key=lambda row: -row["step_seconds"]):
        best[row["preset"], row["topology"]] = row
    return list(best.values())


if __name__ == "__main__":
    main()
