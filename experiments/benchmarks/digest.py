"""Cost of the digests of checkpoints: saving, resuming and loading with and without them.

    $ python -m experiments.benchmarks.digest --preset demo --num-units 80 --num-sessions 2
    $ python -m experiments.benchmarks.digest --preset poyo_1 --num-units 27000 --num-sessions 158

The state has random numbers in the shapes of a preset. Rounds with and without digests take turns;
the first of each is discarded, and the table has the medians.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import tyro

from poyo_jax import Readout, load
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.run import Checkpoints
from poyo_jax.config import Config
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.mesh import make_mesh, state_shardings
from poyo_jax.model.build import build_model
from poyo_jax.presets import PRESETS
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.state import TrainState, init_state

STEP = 1
ACTIONS = {
    "save": "saving, until training goes on",
    "write": "saving, until it is on disk",
    "resume": "resuming",
    "load": "loading",
}
OFF = {  # where digests are made and compared
    "poyo_jax.checkpoint.store.digest_of_arrays": lambda _: "",
    "poyo_jax.checkpoint.formats.digest_of_values": lambda _: "",
    "poyo_jax.checkpoint.store.list_files": lambda _: None,
    "poyo_jax.checkpoint.store.check_files": lambda *_: None,
    "poyo_jax.checkpoint.run.check_files": lambda *_: None,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the cost of the digests of checkpoints."""

    preset: str = "demo"
    """Settings of the model and the optimiser."""
    num_units: int = 80
    """Rows of the table of units."""
    num_sessions: int = 2
    """Rows of the table of sessions."""
    rounds: int = 6
    """Rounds with digests, and as many without; the first of each is discarded."""


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    config = PRESETS[options.preset]()
    metadata = made_up_metadata(config, options.num_units, options.num_sessions)
    state, mesh = random_state(config, metadata)
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 1e6
    seconds = {True: [], False: []}
    for number in range(2 * options.rounds):
        seconds[number % 2 == 0].append(measure(state, mesh, metadata, digests=number % 2 == 0))
    print(f"\n{options.preset}, {options.num_units} units: a state of {size:.0f} MB\n")
    print("| | without digests | with | digests | share |\n|---|---|---|---|---|")
    for action, text in ACTIONS.items():
        without, with_digests = (
            statistics.median(times[action] for times in seconds[digests][1:])
            for digests in (False, True)
        )
        cost = with_digests - without
        share = f"{cost / with_digests:.0%}"
        print(f"| {text} | {without:.3f} s | {with_digests:.3f} s | {cost:.3f} s | {share} |")


def made_up_metadata(config: Config, num_units: int, num_sessions: int) -> Metadata:
    """Metadata with as many units and sessions."""
    channels = config.model.num_channels
    readout = Readout(value_key="cursor.vel", mean=(0.0,) * channels, std=(1.0,) * channels)
    sessions = [f"laboratory/session_{number}" for number in range(num_sessions)]
    units = [f"{sessions[number % num_sessions]}/{number}" for number in range(num_units)]
    return Metadata(config, Vocab(units), Vocab(sessions), dict.fromkeys(sessions, readout))


def random_state(config: Config, metadata: Metadata) -> tuple[TrainState, jax.sharding.Mesh]:
    """A state of random numbers on the devices, and their mesh."""
    mesh = make_mesh(config.run.mesh)
    rows = metadata.units.num_rows, metadata.sessions.num_rows
    model = build_model(config.model, config.run, *rows)
    rule = choose_optimizer(config.optim, mesh)
    like = jax.eval_shape(lambda: init_state(model, rule, 0, mesh))
    rng = np.random.default_rng(0)

    def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
        return rng.normal(size=x.shape).astype(x.dtype)

    state = jax.tree.map(draw, like)._replace(step=np.asarray(STEP, np.int32))
    return jax.device_put(state, state_shardings(like, mesh)), mesh


def measure(
    state: TrainState, mesh: jax.sharding.Mesh, metadata: Metadata, *, digests: bool
) -> dict[str, float]:
    """Seconds of every action in a new folder."""
    like = jax.eval_shape(lambda: state)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        if not digests:
            for name, replacement in OFF.items():
                stack.enter_context(patch(name, replacement))
        seconds = {}
        checkpoints = Checkpoints(folder, 1)
        seconds["save"] = timed(lambda: checkpoints.save(state, metadata))
        seconds["write"] = seconds["save"] + timed(checkpoints.close)
        checkpoints = Checkpoints(folder, 1)
        seconds["resume"] = timed(lambda: checkpoints.restore(STEP, like, mesh))
        checkpoints.close()
        seconds["load"] = timed(lambda: load(Path(folder)).params)
    return seconds


def timed(action: Callable[[], Any]) -> float:
    """Seconds of a call, until its arrays are there."""
    began = time.perf_counter()
    jax.block_until_ready(action())
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
