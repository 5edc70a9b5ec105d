"""Models with random weights, and spikes for them, for tests of the native back end."""

from collections.abc import Iterable
from dataclasses import replace

import jax
import numpy as np

from experiments.benchmarks.one_window import untrained
from poyo_jax import Pretrained, Readout, Session
from poyo_jax.config import Config, ModelConfig, OutputConfig

NUM_UNITS = 20
OUTPUTS = (OutputConfig(name="hand"), OutputConfig(name="muscles", num_channels=3))


def random_model(
    config: ModelConfig, unit_ids: Iterable = range(NUM_UNITS)
) -> tuple[Pretrained, Session]:
    """A model whose outputs depend on all of its inputs, and its session."""
    targets = np.zeros((2, config.num_channels))
    session = Session.from_arrays(
        [0.0, 10.0], [0, 1], list(unit_ids), [0.0, 10.0], targets, session_id="one"
    )
    pretrained = untrained(Config(model=config), session)
    params = jax.tree.map(lambda leaf: leaf, pretrained.params)
    for tree, name in (
        (params, "unit_embedding"),
        (params, "session_embedding"),
        (params["backbone"]["encoder"], "latent_embedding"),
    ):
        tree[name] = 20 * tree[name]
    readout = Readout(value_key="cursor.vel", mean=(3.0, -1.0), std=(2.0, 0.5))
    readouts = {session.id: readout}
    return replace(pretrained, params=params, readouts=readouts), session


def model_of_two_outputs(config: ModelConfig) -> tuple[Pretrained, Session]:
    """A random model of the outputs "hand" and "muscles", and its session, which has both."""
    pretrained, session = random_model(replace(config, outputs=OUTPUTS))
    session = session.with_behaviour("emg.muscles", [0.0, 10.0], np.zeros((2, 3)))
    hand = Readout(value_key="cursor.vel", name="hand", mean=(3.0, -1.0), std=(2.0, 0.5))
    muscles = Readout(
        value_key="emg.muscles", name="muscles", mean=(1.0, 2.0, 3.0), std=(2.0, 0.5, 1.0)
    )
    return replace(pretrained, readouts={session.id: (hand, muscles)}), session


def random_spikes(config: ModelConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.uniform(0, config.window_length, count), rng.integers(0, NUM_UNITS, count)
