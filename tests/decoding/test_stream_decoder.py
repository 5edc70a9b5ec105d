"""A stream of spikes is decoded as the recorded session is, update by update."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

from experiments.benchmarks.one_window import untrained
from poyo_jax import Readout, Session, StreamDecoder, WindowDecoder, decode, load
from poyo_jax.config import Config
from poyo_jax.data.readout import default_readout
from poyo_jax.decoding.stream import ADD_PLACES, UPDATE_PLACES
from poyo_jax.errors import ConfigError, DataError, VocabError

ID = "simulated/session_0"
HOP = 0.05


@pytest.fixture(scope="module")
def pretrained(tiny_run):
    pretrained = load(tiny_run)
    readout = Readout(value_key="cursor.vel", mean=(1.0, -2.0), std=(3.0, 4.0))
    return replace(pretrained, readouts={**pretrained.readouts, ID: readout})


@pytest.fixture(scope="module")
def decoder(pretrained, tiny_sessions):
    decoder = StreamDecoder(pretrained, tiny_sessions[0], HOP, (0.0,) * 4)
    decoder.warm_up()
    return decoder


def updates_of(session: Session, split: str) -> np.ndarray:
    """Ends of the windows of `decode` with this `causal_step`."""
    [(start, end)] = session.split(split)
    return start + HOP * np.arange(1, int(np.ceil((end - start) / HOP - 1e-9)) + 1)


def replay(decoder: StreamDecoder, session: Session, updates, *, prepare: bool, key="cursor.vel"):
    """Push the spikes of a session before each update, and some from after it.

    Returns the decoded samples and their values, the mean where a sample lies in two last hops.
    """
    decoder.reset()
    behaviour = session.behaviour(key)
    sample_times = behaviour.times_at(np.arange(behaviour.count))
    sums, decoded_by = np.zeros((behaviour.count, 2)), np.zeros(behaviour.count)
    done = 0
    for place, now in enumerate(updates):
        end = int(np.searchsorted(session.spike_times, now + 1e-3))
        decoder.push(session.spike_times[done:end], session.spike_units[done:end])
        done, start = end, now - 1.0
        last_hop = [start + (1.0 - HOP - 1e-9), start + 1.0]
        samples = slice(*np.searchsorted(sample_times, last_hop))
        decoded = decoder.predict(now, sample_times[samples])
        np.testing.assert_array_equal(decoded.times, sample_times[samples])
        sums[samples] += decoded.values
        decoded_by[samples] += 1
        if prepare and place + 1 < len(updates):
            decoder.prepare(updates[place + 1])
    samples = np.flatnonzero(decoded_by)
    return sample_times[samples], sums[samples] / decoded_by[samples, None]


def check_equal(replayed, expected, std) -> None:
    """The replayed samples are those of a prediction, within 1e-5 of a standard deviation."""
    times, values = replayed
    places = np.searchsorted(times, expected.times)
    np.testing.assert_array_equal(times[places], expected.times)
    assert len(expected.times) >= 100
    assert np.abs((values[places] - expected.values) / std).max() < 1e-5


@pytest.mark.parametrize("prepare", [False, True])
def test_a_replay_equals_causal_decoding(prepare, decoder, pretrained, tiny_sessions):
    session = tiny_sessions[0]
    expected = decode(pretrained, session, "valid", causal_step=HOP)
    updates = updates_of(session, "valid")
    check_equal(replay(decoder, session, updates, prepare=prepare), expected, [3.0, 4.0])


def test_a_replay_of_a_real_recording(shared):
    path = shared / "real" / "nus_joystick_2016" / "set2_expt11.h5"
    if not path.exists():
        pytest.skip(f"the recording {path.name} is not at {path.parent}")
    session = Session.open(path)
    readout = default_readout(session)
    start = session.domain.starts[0]
    session = session.with_splits(train=[], valid=[(start + 5.0, start + 15.0)], test=[])
    pretrained = untrained(Config(model=replace(tiny.config().model, num_channels=2)), session)
    pretrained = replace(pretrained, readouts={session.id: readout})
    expected = decode(pretrained, session, "valid", causal_step=HOP)
    decoder = StreamDecoder(pretrained, session, HOP, (0.0,) * 64)
    updates = updates_of(session, "valid")
    replayed = replay(decoder, session, updates, prepare=True, key=readout.value_key)
    check_equal(replayed, expected, readout.std)


def test_a_replay_is_the_same_bit_for_bit(decoder, tiny_sessions):
    session = tiny_sessions[0]
    updates = updates_of(session, "valid")[:40]
    _, once = replay(decoder, session, updates, prepare=True)
    _, again = replay(decoder, session, updates, prepare=True)
    assert np.array_equal(once, again)


def test_a_state_continues_bit_for_bit(decoder, tiny_sessions):
    session = tiny_sessions[0]
    decoder.reset()
    times, units = session.spikes_between(10.0, 11.4)
    early = times < 11.1
    decoder.push(times[early], units[early])
    decoder.predict(11.1)
    decoder.prepare(11.2)
    state = decoder.state
    ends = []
    for _ in range(2):
        decoder.reset(state)
        decoder.push(times[~early], units[~early])
        ends.append(decoder.predict(11.2).values)
    assert np.array_equal(*ends)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 256, 257, 1300, 3000])
def test_any_number_of_spikes_is_decoded_as_one_window(count, decoder, pretrained, tiny_sessions):
    window = WindowDecoder(pretrained, tiny_sessions[0])
    rng = np.random.default_rng(count)
    times, units = rng.uniform(0, 1, count), rng.integers(0, 12, count)
    expected = window(times, units, [1.0])
    for prepared in (0, count // 2):
        decoder.reset()
        decoder.push(times[:prepared] + 8.0, units[:prepared])
        decoder.prepare(9.0)
        decoder.push(times[prepared:] + 8.0, units[prepared:])
        values = decoder.predict(9.0).values
        np.testing.assert_allclose(values, np.repeat(expected, 4, 0), rtol=0, atol=4e-5)


def test_nothing_compiles_after_warming_up(pretrained, tiny_sessions):
    decoder = StreamDecoder(pretrained, tiny_sessions[0], HOP, (0.0,) * 20)
    decoder.warm_up()
    compiled = []

    def listen(event, seconds, **_):
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + len(compiled))(1.0)
        assert compiled, "compilations are not heard"
        compiled.clear()
        decoder.reset()
        now = 9.0
        for count in (0, 1, 63, 65, 255, 257, 300, 1025, 5000, 10**5):
            decoder.push(np.linspace(now, now + HOP, count, endpoint=False), np.zeros(count, int))
            now += HOP
            decoder.predict(now)
            decoder.predict(now, [now])
            decoder.prepare(now + HOP)
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()


def test_the_pure_core(decoder, tiny_sessions):
    """(state, spikes) -> (state, values): the state goes in and comes out, and nothing changes."""
    functions = decoder.engine.functions
    empty = functions.init()
    assert jax.tree.all(jax.tree.map(np.array_equal, empty, functions.init()))
    assert functions.add._cache_size() == len(ADD_PLACES)
    assert functions.update._cache_size() == len(UPDATE_PLACES)


@pytest.mark.unchecked
def test_what_cannot_be_decoded(pretrained, tiny_sessions):
    with pytest.raises(VocabError, match="does not know session 'simulated/session_2'"):
        StreamDecoder(pretrained, tiny_sessions[2])
    with pytest.raises(ConfigError, match=r"hop is 1.5; it must be in \(0, 1.0\]"):
        StreamDecoder(pretrained, tiny_sessions[0], hop=1.5)
    with pytest.raises(DataError, match="a model is needed"):
        StreamDecoder("run", tiny_sessions[0])
