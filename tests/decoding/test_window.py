"""Decoding one window at a time says the same as decoding windows in batches."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from whole_model import predict

from poyo_jax import Readout, Session, WindowDecoder, load
from poyo_jax.data.batches.pipeline import EvalBatches
from poyo_jax.errors import DataError, VocabError

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
