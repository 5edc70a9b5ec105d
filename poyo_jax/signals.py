"""Hear signals at once, also while the main thread compiles."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def heard_at_once(hear: Callable[[int], None]) -> Iterator[None]:
    """Call `hear(number)` in a thread of its own as soon as a signal arrives.

    Python runs the handlers of signals in the main thread, which does not come to them while XLA
    compiles. The handlers still run as usual. Outside of the main thread nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    inlet, outlet = socket.socketpair()
    inlet.setblocking(False)

    def listen() -> None:
        while numbers := outlet.recv(1):  # empty once the inlet is closed
            hear(numbers[0])

    previous = signal.set_wakeup_fd(inlet.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)
        inlet.close()
        listener.join()
        outlet.close()
