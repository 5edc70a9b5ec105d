"""One window after the other, as a lab decodes them: numpy in, numpy out."""

import jax
import numpy as np

from experiments.benchmarks.draw import SPIKES, UNITS, SimulatedWindow, draw_window
from experiments.benchmarks.server import timed_windows
from poyo_jax import Pretrained, Readout, Session, WindowDecoder
from poyo_jax.config import Config, ModelConfig
from poyo_jax.data.vocab import Vocab
from poyo_jax.model.build import build_model, init_params

TURN = 25  # windows of a call


def make_decoder(settings: dict):
    """Return a call that decodes TURN windows, and its facts."""
    session = Session.from_arrays(
        [0.0, 10.0], [0, 1], range(UNITS), [0.0, 10.0], np.zeros((2, 2)), session_id="one"
    )
    pretrained = untrained(Config(model=ModelConfig(**settings["model"])), session)
    decoder, windows = (
        WindowDecoder(pretrained, session),
        [draw_window(number) for number in range(TURN)],
    )

    def decode(window: SimulatedWindow) -> None:
        decoder(window.spike_times, window.spike_units, window.query_times)

    decode(windows[0])
    return timed_windows(decode, windows), {
        "windows": 1,
        "tokens": SPIKES + 2 * UNITS,
        "spikes": SPIKES,
    }


def untrained(config: Config, session: Session) -> Pretrained:
    """Make a model with random weights that knows one session.

    Its readout does not scale the cursor velocity.
    """
    units, names = Vocab(session.unit_names), Vocab([session.id])
    model = build_model(config.model, config.run, units.num_rows, names.num_rows)
    return Pretrained(
        config=config,
        params=jax.jit(lambda: init_params(model, 0))(),
        units=units,
        sessions=names,
        readouts={session.id: Readout(value_key="cursor.vel", mean=(0.0, 0.0), std=(1.0, 1.0))},
        metrics={},
        step=0,
    )
