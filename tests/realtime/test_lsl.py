"""Spikes from the Lab Streaming Layer and values back to it, over the loopback device."""

import time
from uuid import uuid4

import numpy as np
import pytest
from lister import make

from poyo_jax.errors import ConfigError, PoyoError
from poyo_jax.realtime import Arrived, LslInlet, LslOutlet, Update, follow
from poyo_jax.realtime.stream import Counts, Decoded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lsl():
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"LSL is tested with pylsl: pip install poyo_jax[realtime] ({error})")
    return pylsl


@pytest.fixture
def outlet(lsl):
    """Make an outlet of spikes, and its name."""

    def outlet(kind="string", channels=1):
        name = f"spikes {uuid4()}"
        format = {"string": lsl.cf_string, "int": lsl.cf_int32}[kind]
        info = lsl.StreamInfo(name, "Spikes", channels, 0, format, name)
        return lsl.StreamOutlet(info), name

    return outlet


@pytest.mark.parametrize("kind", ["string", "int"])
def test_spikes_keep_their_times_and_units(lsl, outlet, kind):
    sender, name = outlet(kind)
    inlet = LslInlet(name, ["a", "b"], silence=5.0)
    sender.wait_for_consumers(5)
    first = inlet.first(0.1)
    now = lsl.local_clock()
    for sample, age in ((["a", "b", "z"], 0.03), (["b", "b", "a"], 0.02)):
        for unit, text in enumerate(sample):
            value = text if kind == "string" else "abz".index(text)
            sender.push_sample([value], now - age + 0.001 * unit)
    arrived = inlet.until(first)
    inlet.close()
    assert arrived.present >= first and arrived.present - first < 0.1
    expected = [now - age + 0.001 * unit for age in (0.03, 0.02) for unit in range(3)]
    np.testing.assert_allclose(arrived.times, expected, atol=0.002)  # clocks are synchronised
    unknown = -1 if kind == "string" else 2
    assert arrived.units.tolist() == [0, 1, unknown, 1, 1, 0]


def test_updates_are_in_time_and_what_travels_is_waited_for(lsl, outlet):
    sender, name = outlet()
    inlet = LslInlet(name, ["a"], delay=0.03)
    sender.wait_for_consumers(5)
    updates, late = [], []

    def after(update):
        late.append(lsl.local_clock() - update.now)
        sender.push_sample(["a"], update.now + 0.05)
        updates.append(update)

    assert follow(make(), inlet, [after], updates=5) == 5
    inlet.close()
    assert min(late) >= 0.03 and np.median(late) < 0.1
    assert updates[-1].decoded.num_spikes == 4


def test_a_delay_is_not_overdue(outlet):
    """A delay longer than updates may be overdue."""
    sender, name = outlet()
    inlet = LslInlet(name, ["a"], delay=1.2)
    sender.wait_for_consumers(5)
    updates = []
    assert follow(make(), inlet, [updates.append], updates=3) == 3
    inlet.close()
    assert updates[-1].missed == 0 and updates[-1].spikes.present - updates[-1].now < 0.2


def test_many_spikes_wait_while_nobody_takes_them(lsl, outlet):
    sender, name = outlet("int")
    inlet = LslInlet(name, ["a"])
    sender.wait_for_consumers(5)
    count, now = 30_000, lsl.local_clock()
    for number in range(count):
        sender.push_sample([0], now + 1e-6 * number)
    time.sleep(2.0)
    inlet.first(0.1)
    taken = sum(len(inlet.until(lsl.local_clock() + 0.1).times) for _ in range(20))
    inlet.close()
    assert taken == count


def test_a_stream_that_dies(outlet):
    sender, name = outlet()
    inlet = LslInlet(name, ["a"], silence=0.2)
    del sender
    with pytest.raises(PoyoError, match=r"has brought no spike for 0\.2 s"):
        follow(make(), inlet, [])
    inlet.close()


def test_streams_that_do_not_fit(lsl, outlet):
    with pytest.raises(PoyoError, match="there is no LSL stream 'nobody': none has appeared"):
        LslInlet("nobody", ["a"], wait=0.2)
    wide, name = outlet(channels=3)
    with pytest.raises(ConfigError, match="has 3 channels; give one with a single channel"):
        LslInlet(name, ["a"])
    del wide


@pytest.mark.parametrize("name", ["delay", "wait", "silence"])
def test_times_are_checked_first(name):
    with pytest.raises(ConfigError, match=f"{name} is nan; it must be finite"):
        LslInlet("nobody", ["a"], **{name: np.nan})
    with pytest.raises(ConfigError, match="hop is 0; it must be positive"):
        LslOutlet("nobody", hop=0)


def test_values_go_out(lsl):
    name = f"decoded {uuid4()}"
    sink = LslOutlet(name, hop=0.1)
    values = np.array([[1.5, -2.0], [0.25, 4.0]])
    decoded = Decoded(values, np.zeros(2), 0.0, 0, 0, Counts())
    nothing = Arrived(np.zeros(0), np.zeros(0), 0.0)
    sink(Update(7.0, decoded, nothing, 0.001, 0))
    [info] = lsl.resolve_byprop("name", name, timeout=5)
    inlet = lsl.StreamInlet(info)
    inlet.open_stream(timeout=5)
    time.sleep(0.05)
    sink(Update(7.1, decoded, nothing, 0.001, 0))
    sample, stamp = inlet.pull_sample(timeout=5)
    assert sample == [1.5, -2.0, 0.25, 4.0] and stamp == pytest.approx(7.1)
    assert info.nominal_srate() == pytest.approx(10.0)
