"""The input pipeline alone: batches from session files, made ahead by a thread or by processes."""

from pathlib import Path

from experiments.benchmarks.server import timed
from poyo_jax import open_sessions
from poyo_jax.config import DataConfig, UnitDropoutConfig
from poyo_jax.data.batches.batching import padding_fraction
from poyo_jax.data.batches.pipeline import TrainBatches, prefetch
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.readout import default_readout
from poyo_jax.data.simulate import simulate_study
from poyo_jax.data.vocab import Vocab
from poyo_jax.types import PADDING, SPIKE

TURN = 100  # batches of a call
# batches that may have been made between two calls, without worker processes; they add 2 each
AHEAD = 6


def save_sessions(folder: Path) -> None:
    """Twelve simulated sessions of 5 minutes with 60 to 160 units."""
    for session in simulate_study(0, 12, num_units=(60, 160), duration=300.0):
        session.save(folder / f"{session.session_id}.h5")


def make_loader(settings: dict):
    """Return a call that takes TURN batches, and its facts."""
    sessions = open_sessions(settings["folder"])
    units, names = (
        Vocab(name for s in sessions for name in s.unit_names),
        Vocab(s.id for s in sessions),
    )
    sources = [
        ModelSession.build(s, default_readout(s), units, names, s.split("train")) for s in sessions
    ]
    dropout = UnitDropoutConfig(**settings["unit_dropout"])
    config = DataConfig(batch_size=settings["batch_size"], unit_dropout=dropout)
    batches = prefetch(
        TrainBatches(sources, config, 1.0, num_steps=1 << 30), num_workers=settings["workers"]
    )

    def take(count: int) -> None:
        for _ in range(count):
            next(batches)

    def call(number: int) -> dict:
        take(AHEAD + 2 * settings["workers"])
        return timed(lambda number: take(TURN))(number)

    batch = next(batches)
    windows = TURN * settings["batch_size"]
    per_window = TURN / len(batch.session_rows) * settings["batch_size"]
    facts = {
        "windows": windows,
        "tokens": float((batch.token_kinds != PADDING).sum()) * per_window,
        "spikes": float((batch.token_kinds == SPIKE).sum()) * per_window,
        "padding": padding_fraction(batch),
    }
    return call, facts
