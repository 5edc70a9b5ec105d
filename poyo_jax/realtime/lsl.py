"""Spikes from the Lab Streaming Layer, and decoded values back to it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from poyo_jax.checks import NOT_NEGATIVE, POSITIVE, check_number
from poyo_jax.errors import ConfigError, MissingDependencyError, PoyoError
from poyo_jax.realtime.follow import Arrived, Update

SILENCE = 10.0  # s without a spike after which a stream counts as dead
WAIT = 10.0  # s in which a stream has to appear
TURN = 0.002  # s; longest wait for one sample, so that an update is never later than this
MOST = 65_536  # samples that one call takes
BUFFER = 60  # s of a stream with a rate that LSL keeps until they are taken
EVENTS = 10_000  # of a stream without one, in hundreds of samples


class LslInlet:
    """Spikes of a stream of the Lab Streaming Layer; a `Source` on the clock of LSL.

    The stream has one channel, a sample for each spike with the time of the spike as its time
    stamp. A sample is the id of a unit (streams of strings), or its position (numbers).
    """

    def __init__(
        self,
        name: str,
        unit_ids: Sequence[str],
        *,
        delay: float = 0.0,
        wait: float = WAIT,
        silence: float = SILENCE,
    ):
        """Connect to the stream of this name, and wait for it up to `wait` s.

        An update waits `delay` s longer than its time, for spikes that travel. After `silence` s
        without a spike the stream counts as dead. Raises MissingDependencyError without pylsl,
        PoyoError when there is no such stream, and ConfigError when it has several channels or a
        time is not allowed.
        """
        check_number("delay", delay, NOT_NEGATIVE)
        check_number("wait", wait, POSITIVE)
        check_number("silence", silence, POSITIVE)
        self._lsl = import_pylsl()
        found = self._lsl.resolve_byprop("name", name, minimum=1, timeout=wait)
        if not found:
            raise PoyoError(
                f"there is no LSL stream {name!r}: none has appeared in {wait:g} s. Start it first,"
                " and check its name and the network."
            )
        if found[0].channel_count() != 1:
            raise ConfigError(
                f"the LSL stream {name!r} has {found[0].channel_count()} channels; give one with a"
                " single channel, a sample for each spike: the id of its unit, or its position."
            )
        flags = self._lsl.proc_clocksync
        kept = BUFFER if found[0].nominal_srate() else EVENTS
        self._inlet = self._lsl.StreamInlet(found[0], max_buflen=kept, processing_flags=flags)
        try:
            self._inlet.open_stream(timeout=wait)
            self._inlet.time_correction(timeout=wait)  # takes half a second, but only once
        except RuntimeError as error:  # of pylsl: LostError or TimeoutError
            raise PoyoError(
                f"the LSL stream {name!r} has ended while it was opened ({error}). Start it again."
            ) from error
        text = found[0].channel_format() == self._lsl.cf_string
        places = {unit_id: place for place, unit_id in enumerate(unit_ids)}
        self._place: Callable[[Any], float] = (lambda unit: places.get(unit, -1)) if text else float
        self._name, self._delay, self._silence = name, delay, silence
        self._heard = self._lsl.local_clock()

    def first(self, hop: float) -> float:
        """Time of the first update in s: one hop from now."""
        self._heard = self._lsl.local_clock()
        return self._heard + hop

    def until(self, now: float) -> Arrived:
        """Take in samples until the clock shows `now` s and the delay is over.

        Raises PoyoError when no spike has come for too long.
        """
        units: list[float] = []
        times: list[float] = []
        while True:
            left = now + self._delay - self._lsl.local_clock()
            sample, stamp = self._inlet.pull_sample(timeout=min(max(left, 0.0), TURN))
            if sample is not None:
                more, stamps = self._inlet.pull_chunk(timeout=0.0, max_samples=MOST)
                units += [self._place(row[0]) for row in [sample, *more]]
                times += [stamp, *stamps]
            if left <= 0:
                break
        present = self._lsl.local_clock()
        if times:
            self._heard = present
        if present - self._heard > self._silence:
            raise PoyoError(
                f"the LSL stream {self._name!r} has brought no spike for {self._silence:g} s."
                " Check that it is still running."
            )
        return Arrived(np.array(times), np.array(units), present - self._delay)

    def close(self) -> None:
        """End the connection."""
        self._inlet.close_stream()


class LslOutlet:
    """A stream of decoded values in the Lab Streaming Layer; a sink of `follow`.

    It has a channel for each query and each value, in the order of `Decoded.values`, and opens with
    the first of them. The time stamp of a sample is the end of its window.
    """

    def __init__(self, name: str, hop: float):
        """Take a name, and the s between two updates.

        Raises MissingDependencyError without pylsl, and ConfigError for a hop that is not positive.
        """
        check_number("hop", hop, POSITIVE)
        self._lsl, self._name, self._rate = import_pylsl(), name, 1 / hop
        self._outlet: Any = None

    def __call__(self, update: Update) -> None:
        """Send the values of an update."""
        values = update.decoded.values.ravel().tolist()
        if self._outlet is None:
            lsl, name = self._lsl, self._name
            kind = (len(values), self._rate, lsl.cf_double64)
            info = lsl.StreamInfo(name, "Decoded", *kind, f"poyo_jax {name}")
            self._outlet = lsl.StreamOutlet(info)
        self._outlet.push_sample(values, update.now)


def import_pylsl() -> Any:
    """Import pylsl. Raises MissingDependencyError when it is missing."""
    try:
        import pylsl  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: without liblsl
        raise MissingDependencyError(
            f"LSL needs pylsl ({error}); run: pip install poyo_jax[realtime]"
        ) from error
    return pylsl
