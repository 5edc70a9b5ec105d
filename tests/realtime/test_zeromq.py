"""Spikes from a publisher of ZeroMQ, over the loopback device."""

from threading import Thread
from time import sleep

import numpy as np
import pytest
from lister import make

from poyo_jax.errors import ConfigError, PoyoError
from poyo_jax.realtime import ZmqSubscriber, follow

zmq = pytest.importorskip(
    "zmq", reason="ZeroMQ is tested with pyzmq: pip install poyo_jax[realtime]"
)


@pytest.fixture
def publish():
    """Publish messages once somebody listens; the address comes first."""
    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    threads = []

    def publish(*messages):
        def send():
            assert socket.poll(10_000) and socket.recv() == b"\x01"  # a subscription
            for message in messages:
                socket.send(message)

        threads.append(Thread(target=send))
        threads[-1].start()
        return f"tcp://127.0.0.1:{port}"

    yield publish
    for thread in threads:
        thread.join()
    socket.close()


def test_messages_are_decoded_until_an_empty_one(publish):
    address = publish(
        b"0.05 a\n0.12 b\n0.13,nobody", b"nonsense\n\n0.25\n", b"nan a\n0.31 c\n0.45 c\n", b""
    )
    source, updates = ZmqSubscriber(address, ["a", "b", "c"]), []
    assert follow(make(), source, [updates.append]) == 3
    source.close()
    # The first message tells 0.13 s, so updates are at 0.2, 0.3 and 0.4 s.
    moments = [update.now for update in updates]
    np.testing.assert_allclose(moments, [0.2, 0.3, 0.4])
    counts = [update.decoded.num_spikes for update in updates]
    assert counts == [2, 2, 3] and source.not_understood == 1
    assert updates[-1].decoded.counts.unknown == 1 and updates[-1].decoded.counts.not_finite == 1


def test_a_publisher_that_falls_silent_or_runs_backwards(publish):
    address = publish(b"5.05 a", *[b"1.0 a"] * 3)
    source = ZmqSubscriber(address, ["a"], silence=0.2)
    with pytest.raises(PoyoError, match=r"no time after 5\.050000 s for 0\.2 s.*times run forward"):
        follow(make(), source, [])
    source.close()


def test_messages_that_wait_tell_the_present(publish):
    """A decoder that is slower than the publisher leaves updates out, and does not lag."""
    address = publish(*[f"{0.1 * number:.1f} a".encode() for number in range(1, 51)])
    source = ZmqSubscriber(address, ["a"])
    assert source.first(0.1) == pytest.approx(0.2)
    sleep(0.5)  # while the others arrive
    arrived = source.until(0.2)
    source.close()
    assert arrived is not None and arrived.present == pytest.approx(5.0)
    assert len(arrived.times) == 50


def test_ids_of_units_may_have_spaces(publish):
    address = publish(b"0.05 M1 001/sorted_01", b"0.06, a,b \n0.45", b"")
    source, updates = ZmqSubscriber(address, ["M1 001/sorted_01", "a,b", "c"]), []
    follow(make(), source, [updates.append])
    source.close()
    assert updates[-1].decoded.num_spikes == 2 and updates[-1].decoded.counts.unknown == 0


def test_a_time_that_goes_on_slowly_is_no_silence():
    """Four messages, each sooner than the silence, take longer than it together."""
    source, context = None, zmq.Context.instance()
    socket = context.socket(zmq.XPUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def send():
        assert socket.poll(10_000) and socket.recv() == b"\x01"
        for number in range(5):
            socket.send(f"{0.1 * number:.1f}".encode())
            sleep(0.3)

    thread = Thread(target=send)
    thread.start()
    try:
        source = ZmqSubscriber(f"tcp://127.0.0.1:{port}", ["a"], silence=0.8)
        source.first(0.4)
        arrived = source.until(0.4)
        assert arrived is not None and arrived.present == pytest.approx(0.4)
    finally:
        thread.join()
        socket.close(linger=0)
        if source is not None:
            source.close()


def test_nobody_publishes():
    source = ZmqSubscriber("tcp://127.0.0.1:9", ["a"], silence=0.1)
    with pytest.raises(PoyoError, match=r"brought no time for 0\.1 s"):
        follow(make(), source, [])
    source.close()


def test_an_address_that_is_none():
    with pytest.raises(ConfigError, match="'port 7000' cannot be connected"):
        ZmqSubscriber("port 7000", ["a"])


def test_a_silence_that_is_none():
    with pytest.raises(ConfigError, match="silence is nan; it must be finite and positive"):
        ZmqSubscriber("tcp://127.0.0.1:9", ["a"], silence=np.nan)
