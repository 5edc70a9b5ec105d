"""Cost of training by arithmetic: the tables of docs/scaling.md.

    $ python -m experiments.benchmarks.cost

Nothing is run. A window's operations come from poyo_jax/model/flops.py; what it moves through
memory was counted by hand for POYO-1 with flash attention in bfloat16. Rates of chips and links are
round numbers near their vendors'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poyo_jax.distributed.exchange import grid_width, peer_slots
from poyo_jax.model.flops import TRAINING, forward_flops
from poyo_jax.presets import PRESETS

TOKENS, UNITS, QUERIES = 4096, 100, 100  # of a window of 1 s
LAYER_BYTES, LAYER_PASSES = (
    6.7e6,
    3,
)  # that a processor layer moves per window in one pass; forward and backward
ENCODER_BYTES = 12.6e6 * TOKENS / 4096 * LAYER_PASSES
TOKEN_BYTES = 4 + 1 + 4 + 4  # position, kind and time of a token, as they go to a device
SPIKE_BYTES = 8 + 8  # time and unit of a spike in a session file
PIPELINE_TOKENS = (
    8_000 * 2_300
)  # that one core prepares in a second (experiments.benchmarks.speed --what pipeline)
POYO_SPIKES = 143e6 + 706e6  # of Perich's and Churchland's recordings
EFFICIENCY = 0.5  # share of the peak that products of this size reach


@dataclass(frozen=True)
class Chip:
    """Rates of one chip, per second."""

    name: str
    flops: float  # bfloat16
    memory: float  # bytes
    pod: int  # chips that are linked directly
    link: float  # bytes within a pod
    beyond: float  # bytes between pods, for each chip


CHIPS = (
    Chip("H200", 790e12, 4.0e12, 8, 450e9, 50e9),  # NVLink, InfiniBand
    Chip("TPU v5e", 197e12, 0.82e12, 256, 200e9, 3e9),  # ICI, the network of the data centre
    Chip("TPU v5p", 459e12, 2.77e12, 8960, 600e9, 3e9),
)


def main() -> None:
    for name in ("poyo_single", "poyo_1"):
        operations_table(name)
    devices_table("64 windows on every chip", lambda count: 64, (8, 256, 4096))
    devices_table("1,024 windows in all", lambda count: 1024 // count, (16, 128, 1024))
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


def step_seconds(chip: Chip, windows: int) -> float:
    """Seconds of a chip for its windows of a step: the larger of arithmetic and memory traffic."""
    config = PRESETS["poyo_1"]().model
    cost = forward_flops(
        config, windows=windows, tokens=windows * TOKENS, units=UNITS * windows, queries=QUERIES
    )
    moved = windows * (LAYER_BYTES * LAYER_PASSES * config.depth + ENCODER_BYTES)
    return max(TRAINING * cost.total / (EFFICIENCY * chip.flops), moved / chip.memory)


def reduce_seconds(chip: Chip, count: int, size: float) -> float:
    """Return the seconds of a sum of `size` bytes over all chips.

    The sum runs within pods, then between pods for the share of each chip, and back.
    """
    near = min(chip.pod, count)
    pods = count / near
    return (
        2 * (near - 1) / near * size / chip.link + 2 * (pods - 1) / pods * size / near / chip.beyond
    )


def devices_table(title: str, windows_of: Callable[[int], int], counts: Sequence[int]) -> None:
    """Print a table of devices.

    `windows_of` maps a number of chips to the windows of one chip in a step.
    """
    print(f"\nPOYO-1, {TOKENS} tokens a window, {title}\n")
    print(
        "| chip | chips | step ms | gradient ms | share lost | windows/s | tokens/s"
        " |\n|---|---|---|---|---|---|---|"
    )
    gradient = 4 * 11_717_378  # float32
    for chip in CHIPS:
        for count in counts:
            windows = windows_of(count)
            step, reduce = step_seconds(chip, windows), reduce_seconds(chip, count, gradient)
            rate = count * windows / (step + reduce)
            print(
                f"| {chip.name} | {count} | {1e3 * step:.1f} | {1e3 * reduce:.2f} |"
                f" {reduce / (step + reduce):.1%} | {rate:,.0f} | {rate * TOKENS:.1e} |"
            )


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
    for chip in CHIPS:
        tokens = 64 * TOKENS / step_seconds(chip, 64)
        print(
            f"| chips, {chip.name} | {rate / tokens:,.0f}, at {tokens / 1e6:.1f} M tokens/s each |"
        )
    print(f"| cores that prepare batches | {rate / PIPELINE_TOKENS:.0f} |")
    print(f"| read from files or page cache | {rate * SPIKE_BYTES / 1e9:.0f} GB/s over all hosts |")
    print(f"| sent to the devices | {rate * TOKEN_BYTES / 1e9:.0f} GB/s over all hosts |")
    print(f"| one pass through {POYO_SPIKES / 1e6:.0f} M spikes | {POYO_SPIKES / rate:.2f} s |")


if __name__ == "__main__":
    main()
