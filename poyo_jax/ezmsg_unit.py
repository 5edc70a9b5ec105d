"""A unit of ezmsg that decodes spikes; importing this module needs ezmsg."""

import logging
import math
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from poyo_jax.errors import DataError, MissingDependencyError
from poyo_jax.native.decoder import NativeDecoder, load
from poyo_jax.realtime.stream import Decoded, Stream

try:
    import ezmsg.core as ez  # pyright: ignore[reportMissingImports]
    from ezmsg.util.messages.axisarray import AxisArray  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise MissingDependencyError(
        f"this unit needs ezmsg ({error}); run: pip install poyo_jax[realtime]"
    ) from error

logger = logging.getLogger(__name__)

# s without a message after which the updates between are left out, and s that the time of messages
# may run back before the decoder begins anew
LONGEST_GAP = 10.0
NOISE = 5  # values of `sub_idx` above are noise


class DecoderSettings(ez.Settings):
    """Settings of the unit: a .poyo file, and those of `poyo_jax.native.load`."""

    path: str  #: of the .poyo file
    threads: int = 1  #: no more than there are free cores
    bfloat16: bool = False  #: whether layers multiply bfloat16


class PoyoDecoder(ez.Unit):
    """Decodes spikes, and sends an AxisArray for each update, every hop of the file.

    Messages are of one of two kinds, on one clock in s:

    - AxisArray with the dimensions "time" and then units, dense or of the package sparse: counts of
      spikes, in the order of the file's units. A count stands for spikes at the time of its sample.
    - events with `offset` (s), `ch_idx` (position of the unit) and `sub_idx`, where more than 5 is
      noise.

    An update follows as soon as a message reaches its time. It has the dimensions "time" (its own
    time), "query" (s before it) and "ch", and in `attrs` how many spikes were dropped and late.
    Where the clock was set back by more than 10 s it forgets the spikes and counts, and warns.
    """

    SETTINGS = DecoderSettings

    INPUT = ez.InputStream(Any)
    OUTPUT = ez.OutputStream(AxisArray)

    async def initialize(self) -> None:
        """Open the file, and compile."""
        settings = self.SETTINGS
        decoder = load(settings.path, threads=settings.threads, bfloat16=settings.bfloat16)
        decoder.warm_up()
        self._paced = PacedDecoder(decoder)

    @ez.subscriber(INPUT)
    @ez.publisher(OUTPUT)
    async def on_spikes(self, message: Any) -> AsyncGenerator:
        """Decode the updates that a message makes due."""
        times, units, present = read_message(message)
        for now, decoded in self._paced.take(times, units, present):
            yield self.OUTPUT, as_axis_array(now, decoded, self._paced.stream)


class PacedDecoder:
    """Decodes every hop, as soon as spikes of that time have arrived.

    It begins anew, with a warning, when their clock was set back.
    """

    def __init__(self, stream: NativeDecoder):
        self.stream, self._number = stream, -math.inf

    def take(
        self, times: np.ndarray, units: np.ndarray, present: float
    ) -> list[tuple[float, Decoded]]:
        """Take spikes [spikes], and return time and result of every update up to `present` s."""
        hop, done = self.stream.hop, []
        due = self._number * hop
        if math.isfinite(present) and due - present > LONGEST_GAP:
            logger.warning(
                "a message reaches %.3f s, but the next update is due at %.3f s: the clock of the"
                " spikes was set back. The decoder forgets all spikes and begins anew.",
                *(present, due),
            )
            self.stream.reset()
            self._number = -math.inf
        self.stream.push(times, units)
        if not math.isfinite(present):  # the spikes are counted as such
            return done
        reached = math.floor(present / hop + 1e-6)
        if (reached - self._number) * hop > LONGEST_GAP:
            self._number = reached
        while self._number <= reached:
            now = self._number * hop
            done.append((now, self.stream.predict(now)))
            self._number += 1
            self.stream.prepare(self._number * hop)
        return done


def read_message(message: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Return times in s and units of the spikes [spikes], and the time that the message reaches.

    Raises DataError for a message of another kind.
    """
    if hasattr(message, "ch_idx"):
        unit = message.ch_idx if message.sub_idx <= NOISE else -1
        return np.array([message.offset]), np.array([unit]), float(message.offset)
    if getattr(message, "dims", [None])[0] != "time" or len(message.dims) != 2:
        raise DataError(
            f"the message is {repr(message)[:80]}; send an AxisArray with the dimensions time and"
            " units, or events with offset, ch_idx and sub_idx."
        )
    axis, data = message.axes["time"], message.data
    if hasattr(data, "coords"):  # sparse
        (samples, units), counts = data.coords, data.data
    else:
        samples, units = np.nonzero(data)
        counts = data[samples, units]
    counts = counts.astype(int)
    times = axis.offset + np.repeat(samples, counts) * axis.gain
    return times, np.repeat(units, counts), axis.offset + len(data) * axis.gain


def as_axis_array(now: float, decoded: Decoded, stream: Stream) -> AxisArray:
    """Return the values [1, queries, channels] of the update at `now` s, as a message."""
    return AxisArray(
        decoded.values[None],
        dims=["time", "query", "ch"],
        axes={
            "time": AxisArray.TimeAxis(fs=1 / stream.hop, offset=now),
            "query": AxisArray.CoordinateAxis(
                data=np.array(stream.queries), dims=["query"], unit="s"
            ),
        },
        attrs={"dropped": decoded.counts.dropped, "late": decoded.counts.late},
        key="poyo_jax",
    )
