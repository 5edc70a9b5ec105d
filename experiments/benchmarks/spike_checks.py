"""Measure what the checks of spikes and time stamps cost the input pipeline.

    $ python -m experiments.benchmarks.spike_checks

Batches of simulated sessions are made with the checks and without them in turn, in one thread. The
command prints the fastest processor time of a window for both, and their ratio.
"""

import tempfile
import time
from pathlib import Path
from unittest import mock

from experiments.benchmarks.loader import save_sessions
from poyo_jax import open_sessions
from poyo_jax.config import DataConfig, UnitDropoutConfig
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.behaviour import SortedTimes
from poyo_jax.data.readout import default_readout
from poyo_jax.data.vocab import Vocab

ROUNDS = 200
WINDOWS = 128


def make_batches(folder: Path) -> TrainBatches:
    """The batches of a training run on the sessions of `folder`."""
    sessions = open_sessions(folder)
    units = Vocab(name for session in sessions for name in session.unit_names)
    names = Vocab(session.id for session in sessions)
    sources = []
    for session in sessions:
        readout, train = default_readout(session), session.split("train")
        sources.append(ModelSession.build(session, readout, units, names, train))
    config = DataConfig(batch_size=WINDOWS, unit_dropout=UnitDropoutConfig())
    return TrainBatches(sources, config, 1.0, num_steps=1 << 30)


def microseconds(batches: TrainBatches, step: int) -> float:
    """Processor time of a window of this step's batch."""
    start = time.process_time()
    batches[step]
    return 1e6 * (time.process_time() - start) / WINDOWS


def unchecked(times: SortedTimes, first: int, end: int) -> None:
    """Stand in for `SortedTimes.need`."""


def main() -> None:
    checked = SortedTimes.need
    with tempfile.TemporaryDirectory() as folder:
        save_sessions(Path(folder))
        batches = make_batches(Path(folder))
        fastest = {"with": float("inf"), "without": float("inf")}
        for step in range(ROUNDS):
            for name in fastest:
                need = checked if name == "with" else unchecked
                with mock.patch.object(SortedTimes, "need", need):
                    fastest[name] = min(fastest[name], microseconds(batches, step))
    ratio = fastest["with"] / fastest["without"]
    print(f"{fastest['with']:.1f} us with, {fastest['without']:.1f} without: {ratio:.3f}")


if __name__ == "__main__":
    main()
