"""Simulated sessions as a model sees them."""

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.readout import default_readout
from poyo_jax.data.simulate import simulate_study
from poyo_jax.data.vocab import Vocab


def bind(sessions, split="train", readouts=None):
    """The sessions with their readouts and rows of the tables, and the vocabularies of units and
    sessions.
    """
    units = Vocab(name for session in sessions for name in session.unit_names)
    names = Vocab(session.id for session in sessions)
    readouts = readouts or [default_readout(session) for session in sessions]
    sources = [
        ModelSession.build(session, readout, units, names, session.split(split))
        for session, readout in zip(sessions, readouts, strict=True)
    ]
    return sources, units, names


def simulated(num_sessions=3, duration=30.0, num_units=(6, 14), split="train"):
    return bind(simulate_study(4, num_sessions, num_units=num_units, duration=duration), split)
