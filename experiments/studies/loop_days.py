"""Decoders that learn from recorded blocks of a closed loop, and then move the cursor."""

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from experiments.studies.results import Cell
from experiments.studies.subject import STEP, Block, Decode, Subject
from poyo_jax import Session
from poyo_jax.realtime import Stream

if TYPE_CHECKING:
    from poyo_jax import Pretrained
    from poyo_jax.finetune import FitConfig


@dataclass(frozen=True)
class Settings:
    """What the open loop cannot tell: how a decoder is used in the loop."""

    ahead: float = 0.0
    """s that the labels are later than the spikes: the decoder learns to look ahead."""
    gain: float = 1.0
    """Factor of the decoded velocity."""


def scaled(decode: Decode, gain: float) -> Decode:
    """The decoder with a factor on its velocity."""

    def decode_scaled(now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        return gain * decode(now, times, units)

    return decode_scaled


class FilterDay:
    """Fits a filter to each block."""

    def __init__(self, kind: type, settings: Settings):
        self._kind, self._settings = kind, settings

    def __call__(self, subject: Subject, block: Block) -> Decode:
        """The filter as a decoder of the loop."""
        session = block.session("today", subject.num_units, self._settings.ahead)
        return scaled(self._kind(session), self._settings.gain)


class PoyoDay:
    """Learns from the first block, and then again while updates go on."""

    def __init__(self, pretrained: "Pretrained", config: "FitConfig", settings: Settings):
        self._model, self._config, self._settings = pretrained, config, settings
        self._stream: Stream | None = None
        self.measured: Cell = {}

    def __call__(self, subject: Subject, block: Block) -> Decode:
        """The stream as a decoder of the loop; a block after the first one is learned beside it."""
        name = "today" if self._stream is None else "today, shuffled"
        session = block.session(name, subject.num_units, self._settings.ahead)
        if self._stream is None:
            self._stream = self._begin(session)
        else:
            self._again(self._stream, subject, session)
        return self._decoder(self._stream)

    def _decoder(self, stream: Stream) -> Decode:
        return scaled(partial(_decode, stream), self._settings.gain)

    def _begin(self, session: Session) -> Stream:
        from poyo_jax import StreamDecoder
        from poyo_jax.finetune import finetune

        fitted = finetune(self._model, session, self._config, progress=False)
        self._model = fitted.pretrained
        stream = StreamDecoder(self._model, session, STEP, back_end="native")
        stream.warm_up()
        return stream

    def _again(self, stream: Stream, subject: Subject, session: Session) -> None:
        from poyo_jax.finetune import Recalibration

        job = Recalibration(self._model, session, self._config, hop=STEP)
        pace = Pace()
        began = time.monotonic()

        def go_on(now: float) -> bool:
            if (engine := job.poll()) is not None:
                stream.swap(engine)
            pace.wait()
            return engine is None

        subject.play(3600.0, self._decoder(stream), go_on)
        self.measured = {
            "refit_s": time.monotonic() - began,
            "longest_gap_s": pace.longest,
            "updates_meanwhile": pace.count,
        }
        job.close()


def _decode(stream: Stream, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Velocity in cm/s."""
    stream.push(times, units)
    velocity = stream.predict(now).values[0]
    stream.prepare()
    return velocity


class Pace:
    """Keeps updates STEP s of real time apart, and knows the longest time between two."""

    def __init__(self) -> None:
        self._last = self._due = time.monotonic()
        self.longest, self.count = 0.0, 0

    def wait(self) -> None:
        """Sleep until the next update is due."""
        self._due = max(self._due + STEP, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        now = time.monotonic()
        self.longest, self.count = max(self.longest, now - self._last), self.count + 1
        self._last = now
