"""Decoding one window at a time says the same as decoding windows in batches."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from whole_model import predict

from poyo_jax import Readout, Session, WindowDecoder, load
from poyo_jax.data.batches.pipeline import EvalBatches
from poyo_jax.errors import ConfigError, DataError, VocabError

ID = "simulated/session_0"


@pytest.fixture(scope="module")
def pretrained(tiny_run):
    pretrained = load(tiny_run)
    readout = Readout(value_key="cursor.vel", mean=(1.0, -2.0), std=(3.0, 4.0))
    return replace(pretrained, readouts={**pretrained.readouts, ID: readout})


def window_of(session: Session, start: float) -> tuple:
    """Spike times, spike units and query times of one second."""
    times, units = session.spikes_between(start, start + 1.0)
    return times - start, units, np.arange(50) / 50


@pytest.mark.parametrize("frequencies", [None, (60_000.0, 2_000.0, 80.0, 3.0)])
def test_windows_are_decoded_as_in_a_batch(frequencies, pretrained, tiny_sessions):
    model = replace(pretrained.config.model, frequencies=frequencies)
    pretrained = replace(pretrained, config=replace(pretrained.config, model=model))
    session, starts = tiny_sessions[0], np.arange(5) * 7.0
    source = pretrained.source(session, session.domain)
    batches = EvalBatches([source], [starts], pretrained.config.data, 1.0)
    step = jax.jit(lambda params, batch: predict(pretrained.model, params, batch, None))
    batched = np.asarray(step(pretrained.params, batches[0]))
    decoder = WindowDecoder(pretrained, session)
    for place, _, start in batches.places(0):
        values = decoder(*window_of(session, start))
        assert values.shape == (50, 2) and values.dtype == np.float64
        np.testing.assert_allclose(
            values, batched[place, :50] * [3.0, 4.0] + [1.0, -2.0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("count", [0, 1, 128, 129, None])
def test_values_depend_neither_on_other_queries_nor_on_the_order_of_spikes(
    pretrained, tiny_sessions, count
):
    decoder, (times, units, queries) = (
        WindowDecoder(pretrained, tiny_sessions[0]),
        window_of(tiny_sessions[0], 20.0),
    )
    times, units = times[:count], units[:count]
    values, order = decoder(times, units, queries), np.random.default_rng(0).permutation(len(times))
    np.testing.assert_allclose(decoder(times, units, queries[:7]), values[:7], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        decoder(times[order], units[order], queries), values, rtol=0, atol=1e-5
    )
    assert decoder(times, units, []).shape == (0, 2)
    assert len(times) < 2 or np.abs(decoder([], [], queries) - values).max() > 1e-3  # spikes matter


def test_nothing_compiles_after_warming_up(pretrained, tiny_sessions):
    decoder = WindowDecoder(pretrained, tiny_sessions[0])
    decoder.warm_up(num_spikes=200, num_queries=50)
    compiled = decoder._predict._cache_size()
    for count in (0, 100, 200, 256):
        decoder(np.zeros(count), np.zeros(count, int), np.zeros(50))
    assert decoder._predict._cache_size() == compiled == 3
    decoder(np.zeros(300), np.zeros(300, int), np.zeros(50))
    assert decoder._predict._cache_size() == 4


def test_what_cannot_be_decoded(pretrained, tiny_sessions):
    with pytest.raises(VocabError, match="does not know session 'simulated/session_2'"):
        WindowDecoder(pretrained, tiny_sessions[2])
    decoder = WindowDecoder(pretrained, tiny_sessions[0])
    with pytest.raises(
        DataError,
        match=r"spike times of shape \(3,\) and spike units of shape \(2,\); pass two 1-D",
    ):
        decoder([0.1, 0.2, 0.3], [0, 1], [0.5])
    with pytest.raises(
        DataError, match=r"units 3 to 12, but the session has units 0 to 11; pass positions"
    ):
        decoder([0.1, 0.2], [3, 12], [0.5])


WRONG = {
    "session times": ([10.5], [1], [0.5], "a spike of the window has the time 10.5 s, but the"),
    "before it": ([-0.1], [1], [0.5], "a spike of the window has the time -0.1 s"),
    "query after it": ([0.1], [1], [0.5, 7.0], "a query of the window has the time 7 s"),
    "NaN": ([0.1, np.nan], [1, 1], [0.5], "has the time nan s, but the window lasts from 0 to 1"),
    "infinity": ([0.1], [1], [np.inf], "a query of the window has the time inf s"),
    "half a unit": ([0.1], [1.5], [0.5], "has the unit 1.5, but units are whole numbers"),
    "NaN unit": ([0.1], [np.nan], [0.5], "has the unit nan, but units are whole numbers"),
    "a name": ([0.1], ["u1"], [0.5], "the spike units of the window are <U2 of shape"),
    "booleans": ([0.1], [True], [0.5], "the spike units of the window are bool of shape"),
    "no queries": ([0.1], [1], None, r"the query times of the window are object of shape \(\)"),
    "one query": ([0.1], [1], 0.5, r"the query times of the window are float64 of shape \(\)"),
    "text": (["a"], [1], [0.5], "the spike times of the window are <U1 of shape"),
    "complex": ([0.1j], [1], [0.5], "the spike times of the window are complex128"),
    "durations": (np.ones(1, "m8[ms]"), [1], [0.5], "spike times of the window are timedelta64"),
    "masked": (np.ma.masked_array([0.1], [True]), [1], [0.5], "times of the window are masked"),
    "rows": ([[0.1], [0.2, 0.3]], [1], [0.5], "the spike times of the window are object"),
}


@pytest.fixture(scope="module")
def decoder(pretrained, tiny_sessions):
    return WindowDecoder(pretrained, tiny_sessions[0])


@pytest.mark.unchecked
@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_lie_in_the_window_is_refused(case, decoder):
    times, units, queries, text = WRONG[case]
    with pytest.raises(DataError, match=text):
        decoder(times, units, queries)


def test_the_ends_of_the_window_lie_in_it(decoder):
    """As session times less the window's start give them, rounded."""
    start = 99_999.9
    times = np.array([start, start + 0.5, start + 1.0]) - start
    assert np.isfinite(decoder(times, np.array([0.0, 3.0, 11.0]), times)).all()


@pytest.mark.unchecked
def test_arguments_of_the_decoder_are_checked(decoder, pretrained, tiny_sessions):
    with pytest.raises(ConfigError, match="num_spikes is -1; it must be at least 0"):
        decoder.warm_up(-1, 5)
    with pytest.raises(ConfigError, match=r"num_queries is 2.5; it must be an integer"):
        decoder.warm_up(5, 2.5)
    with pytest.raises(DataError, match=r"a session is needed, but got 'a.h5'"):
        WindowDecoder(pretrained, "a.h5")
    with pytest.raises(DataError, match=r"a model is needed, but got 'run', of type str. Load it"):
        WindowDecoder("run", tiny_sessions[0])
