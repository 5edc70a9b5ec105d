"""Measure speed and memory of training, inference and input pipeline, alone or with torch_brain.

    $ python -m experiments.benchmarks.speed --what train
    $ python -m experiments.benchmarks.speed --what train --peer PEER/bin/python
    $ python -m experiments.benchmarks.speed --what train --cpu-devices 1 2 4
    $ python -m experiments.benchmarks.speed --what train --compare main
    $ python -m experiments.benchmarks.speed --what train --preset poyo_small --members 1 4

tests/golden/README.md explains how to make PEER. --depth, --vocabulary and --members vary the
model, and --compare runs another revision of this repository.

Every contender runs in a process of its own. Contenders take turns, one call each, so that a busy
machine slows all alike; the first round is discarded. The ratio of minima is the robust figure.
Windows are simulated: 60 sessions of 30 to 300 units, 500 to 8000 tokens per window;
`--fixed-tokens 2000` makes all windows equal, so that the peer pads nothing.
"""

import itertools
import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.benchmarks.data import measure_data
from experiments.benchmarks.race import (
    REPOSITORY,
    TUNED_ALLOCATOR,
    Contender,
    ours,
    peer,
    print_ratios,
    print_table,
    race,
    source_tree,
)
from poyo_jax.cli.program import run_command

if TYPE_CHECKING:
    from poyo_jax.config import ModelConfig

UNIT_DROPOUT = {"min_units": 30, "mode_units": 100, "max_units": 300}
LOADER_WORKERS = (0, 1, 2)
LATER_FIELDS = ("processor", "task", "outputs", "members")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Speed and memory of training, inference and the input pipeline."""

    what: Literal["train", "inference", "window", "pipeline", "data"] = "train"
    """A training step (forward, backward, SparseLamb), predictions of a batch, windows decoded one
    by one, batches from session files, or preparing and opening sessions.
    """
    preset: Literal["poyo_single", "poyo_small", "poyo_1", "demo"] = "poyo_single"
    """Model to run, with its dropout."""
    batch_size: int = 32
    """Windows of a call."""
    rounds: int = 8
    """Turns of every contender that count."""
    fixed_tokens: int | None = None
    """Give every window so many tokens, instead of 500 to 8000."""
    microbatch_windows: int | None = None
    """Windows that pass the processor at the same time; the preset's by default."""
    cpu_devices: tuple[int, ...] = (1,)
    """Devices that the CPU is split into, for our side; one contender for each number."""
    depth: tuple[int, ...] = ()
    """Layers of the processor instead of the preset's; one contender for each number."""
    vocabulary: tuple[int, ...] = ()
    """Rows of the unit table; one contender for each number."""
    members: tuple[int, ...] = ()
    """Members of an ensemble; one contender for each number."""
    compare: str | None = None
    """Git revision to run interleaved."""
    peer: str | None = None
    """Python of an environment with torch and torch_brain, to run interleaved."""
    peer_tuned: bool = False
    """Run the peer a second time with an allocator that keeps its memory."""
    num_sessions: int = 10_000
    """Sessions to open, of `--what data`."""
    json: Path | None = None
    """File for the figures."""


def main(arguments: list[str] | None = None) -> None:
    run_command(benchmark, Benchmark, arguments, description=__doc__)


def benchmark(options: Benchmark) -> None:
    """Measure, print a table, and write the figures if a file is named."""
    figures = measure_data(options.num_sessions) if options.what == "data" else measure(options)
    if options.json:
        options.json.write_text(
            json.dumps({"options": asdict(options), **figures}, indent=2, default=str)
        )


def measure(options: Benchmark) -> dict:
    """Run all contenders in turn, print the table, return the figures."""
    with ExitStack() as stack:
        figures = race(start_contenders(options, stack), options.rounds)
    print(
        f"{options.what}, {options.preset}, batch"
        f" {1 if options.what == 'window' else options.batch_size}"
    )
    print_table(figures)
    print_ratios(figures)
    return {"contenders": figures}


def start_contenders(options: Benchmark, stack: ExitStack) -> dict[str, Contender]:
    """Start all our variants, then another revision's and the peers."""
    settings = base_settings(options)
    if options.what == "pipeline":
        settings["folder"] = stack.enter_context(session_files())
    contenders = {
        name: ours(REPOSITORY, settings | change) for name, change in variants(options).items()
    }
    if options.compare:
        tree = stack.enter_context(source_tree(options.compare))
        contenders[options.compare] = ours(tree, settings | {"cpu_devices": options.cpu_devices[0]})
    if options.peer:
        contenders |= start_peers(options, settings)
    return contenders


def base_settings(options: Benchmark) -> dict:
    """Settings that every contender gets."""
    from poyo_jax.model.hardware import choose_group_rows
    from poyo_jax.presets import PRESETS

    model = PRESETS[options.preset]().model
    return {
        "what": options.what,
        "model": sizes(model),
        "batch_size": options.batch_size,
        "fixed_tokens": options.fixed_tokens,
        "num_batches": 2,
        "microbatch_windows": microbatch(options, model),
        "rows_per_group": choose_group_rows(None, "cpu"),
        "cpu_devices": 1,
        "vocabulary": None,
        "unit_dropout": UNIT_DROPOUT,
    }


def microbatch(options: Benchmark, model: "ModelConfig") -> int | None:
    """Windows that pass the processor at the same time."""
    from poyo_jax.model.hardware import Hardware, choose_microbatch
    from poyo_jax.presets import PRESETS

    run = PRESETS[options.preset]().run
    return options.microbatch_windows or choose_microbatch(model, run, Hardware("cpu"))


def sizes(model: "ModelConfig") -> dict:
    """Fields of the model, without those that older revisions lack and no preset changes."""
    return {name: value for name, value in asdict(model).items() if name not in LATER_FIELDS}


def variants(options: Benchmark) -> dict[str, dict]:
    """Changes to the settings for each of our contenders, by name."""
    from poyo_jax.presets import PRESETS

    if options.what == "pipeline":
        return {
            f"poyo_jax, {workers} worker processes": {"workers": workers}
            for workers in LOADER_WORKERS
        }
    model = PRESETS[options.preset]().model
    found = {}
    for devices, depth, rows, members in itertools.product(
        options.cpu_devices,
        options.depth or (model.depth,),
        options.vocabulary or (None,),
        options.members or (1,),
    ):
        changed = replace(model, depth=depth, members=members)
        labels = [
            f"{devices} devices" * (len(options.cpu_devices) > 1 or devices > 1),
            f"{depth} layers" * bool(options.depth),
            f"{rows} units" * bool(options.vocabulary),
            f"{members} members" * bool(options.members),
        ]
        change = {
            "cpu_devices": devices,
            "model": sizes(changed) | ({"members": members} if members > 1 else {}),
            "microbatch_windows": microbatch(options, changed),
            "vocabulary": rows,
        }
        found[", ".join(["poyo_jax", *filter(None, labels)])] = change
    return found


def start_peers(options: Benchmark, settings: dict) -> dict[str, Contender]:
    """Start torch_brain as shipped and, on request, with a tuned allocator.

    For its input pipeline, start one contender for every number of workers.
    """
    assert options.peer
    lamb = Path(options.peer).absolute().parent.parent / "sparse_lamb" / "torch_brain" / "optim.py"
    settings = settings | {"sparse_lamb": str(lamb)}
    if options.what == "pipeline":
        return {
            f"torch_brain, {workers} worker processes": peer(
                options.peer, settings | {"workers": workers}
            )
            for workers in LOADER_WORKERS
        }
    peers = {"torch_brain": peer(options.peer, settings)}
    if options.peer_tuned:
        peers["torch_brain, tuned allocator"] = peer(options.peer, settings, TUNED_ALLOCATOR)
    return peers


def session_files() -> tempfile.TemporaryDirectory:
    """A folder with simulated sessions, for as long as the context lasts."""
    from experiments.benchmarks.loader import save_sessions

    folder = tempfile.TemporaryDirectory()
    save_sessions(Path(folder.name))
    return folder


if __name__ == "__main__":
    main()
