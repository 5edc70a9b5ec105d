"""Signals and the clock ask a run to stop; only a second Ctrl-C acts at once."""

import signal
import threading
import time

import pytest
from etils import epath

from poyo_jax.errors import Interrupted
from poyo_jax.train.reliability.lock import WorkdirLock
from poyo_jax.train.reliability.owner import Owner
from poyo_jax.train.reliability.stop import SIGNALS, Stop


@pytest.fixture
def usual():
    """Handlers that raise, in place of the usual ones."""

    def handler(number, frame):
        raise InterruptedError

    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    yield handler
    for number, old in previous.items():
        signal.signal(number, old)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_request(number, usual):
    with Stop() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert all(signal.getsignal(number) is usual for number in SIGNALS)


def test_the_second_ctrl_c_acts_as_ever(usual):
    with Stop():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(InterruptedError):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is usual


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_schedulers_may_repeat_their_signals(number, usual):
    with Stop() as stop:
        for _ in range(3):
            signal.raise_signal(number)
        assert stop.requested


def test_the_time_is_up():
    with Stop(max_minutes=0.001) as stop:
        assert not stop.requested
        time.sleep(0.07)
        assert stop.requested


def test_handlers_come_back_after_an_error(usual):
    with pytest.raises(ZeroDivisionError), Stop():
        assert signal.getsignal(signal.SIGTERM) is not usual
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is usual


def test_in_another_thread_signals_are_left_alone(usual):
    requested = []

    def work():
        with Stop() as stop:
            requested.append((stop.requested, signal.getsignal(signal.SIGINT) is usual))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requested == [(False, True)]


def test_a_run_that_waits_for_another_stops_when_asked(tmp_path):
    with WorkdirLock(epath.Path(tmp_path), lambda: True):
        deadline = time.monotonic() + 20
        while not is_stopping(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        waiting = WorkdirLock(epath.Path(tmp_path), lambda: True)
        with pytest.raises(Interrupted, match="stopped while another run still had"):
            waiting.__enter__()
        assert (tmp_path / "lock.json").exists()


def is_stopping(workdir) -> bool:
    owner = Owner.parse((workdir / "lock.json").read_text())
    return owner is not None and owner.stopping
