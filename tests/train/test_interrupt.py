"""The first signal is a request; the second acts as ever."""

import signal
import threading

import pytest

from poyo_jax.train.interrupt import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_acts(number):
    def usual(number, frame):
        raise InterruptedError

    previous = signal.signal(number, usual)
    try:
        with Interruption() as interruption:
            assert not interruption.requested
            signal.raise_signal(number)
            assert interruption.requested
            with pytest.raises(InterruptedError):
                signal.raise_signal(number)
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, previous)


def test_handlers_come_back_without_a_signal_and_after_an_error():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Interruption():
        assert signal.getsignal(signal.SIGINT) is not handler
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is handler


def test_in_another_thread_nothing_is_requested():
    requested = []

    def work():
        with Interruption() as interruption:
            requested.append(interruption.requested)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requested == [False]
    assert signal.getsignal(signal.SIGINT) is handler
