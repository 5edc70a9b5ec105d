"""Spikes from a publisher of ZeroMQ."""

import math
import re
import time
from collections.abc import Sequence

import numpy as np

from poyo_jax.checks import POSITIVE, check_number
from poyo_jax.errors import ConfigError, MissingDependencyError, PoyoError
from poyo_jax.realtime.follow import Arrived
from poyo_jax.realtime.lsl import SILENCE

SEPARATOR = re.compile(r"[\s,]+")  # between the time and the unit of a line
EMPTY = " \t,"  # around a line


class ZmqSubscriber:
    """Spikes that a ZeroMQ publisher sends; a `Source` on the clock of the spikes.

    A message holds lines "TIME UNIT", in s and with the id of a unit, which may contain spaces. A
    line "TIME" tells the time alone, for moments without spikes. An empty message ends the source.
    """

    def __init__(self, address: str, unit_ids: Sequence[str], *, silence: float = SILENCE):
        """Connect to an address such as tcp://127.0.0.1:7000.

        After `silence` s in which the time has not gone on the publisher counts as dead. Raises
        MissingDependencyError without pyzmq, and ConfigError for an address that is none, or a
        silence that is not positive.
        """
        check_number("silence", silence, POSITIVE)
        try:
            import zmq  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingDependencyError(
                f"ZeroMQ needs pyzmq ({error}); run: pip install poyo_jax[realtime]"
            ) from error
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(
                f"{address!r} cannot be connected ({error}); give an address such as"
                " tcp://127.0.0.1:7000."
            ) from error
        self._places = {unit_id: place for place, unit_id in enumerate(unit_ids)}
        self._address, self._silence = address, silence
        self._present, self._ended = -math.inf, False
        self._heard = time.monotonic()  # when the time went on
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.not_understood = 0  #: lines so far that hold no time

    def first(self, hop: float) -> float:
        """Time of the first update in s: the first multiple of `hop` after the first time.

        Raises PoyoError when no message comes for too long.
        """
        self._heard = time.monotonic()
        while self._present == -math.inf and not self._ended:
            self._receive()
        return (math.floor(self._present / hop) + 1) * hop if math.isfinite(self._present) else 0.0

    def until(self, now: float) -> Arrived | None:
        """Receive messages until one has a time of `now` s or later; None when the source ended.

        All that wait already are received, too: the last one tells the present time. Raises
        PoyoError when the time does not go on for too long.
        """
        self._heard = time.monotonic()
        while not self._ended and (self._present < now or self._socket.poll(0)):
            self._receive()
        if self._present < now:
            return None
        nothing = (np.zeros(0), np.zeros(0, int))
        times, units = zip(*(self._waiting or [nothing]), strict=True)
        self._waiting = []
        return Arrived(np.concatenate(times), np.concatenate(units), self._present)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _receive(self) -> None:
        """Take in one message, if one comes before the silence is too long."""
        left = self._heard + self._silence - time.monotonic()
        if left <= 0 or not self._socket.poll(max(1, round(1000 * left))):
            after = "" if self._present == -math.inf else f" after {self._present:.6f} s"
            raise PoyoError(
                f"{self._address} has brought no time{after} for {self._silence:g} s."
                ' Check that the publisher is running, that it sends lines "TIME UNIT", and that'
                " its times run forward."
            )
        message = self._socket.recv()
        self._ended = not message
        times, units = [], []
        for line in message.decode(errors="replace").splitlines():
            time_and_unit = SEPARATOR.split(line.strip(EMPTY), maxsplit=1)
            try:
                moment = float(time_and_unit[0])
            except (ValueError, IndexError):
                self.not_understood += bool(line.strip(EMPTY))
                continue
            if math.isfinite(moment) and moment > self._present:
                self._present, self._heard = moment, time.monotonic()
            if len(time_and_unit) > 1:
                times.append(moment)
                units.append(self._places.get(time_and_unit[1], -1))
        self._waiting.append((np.array(times, float), np.array(units, int)))
