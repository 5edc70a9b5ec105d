"""Doubts about a session: times in another unit, clocks without a common zero, labels as numbers.

Every way into a session asks here, and so do `Session.check` and `data_prep check`.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from poyo_jax.data.behaviour import LARGEST, Behaviour

logger = logging.getLogger(__name__)

USUAL_KEYS = ("cursor.vel", "hand.vel")  # decoded by default, in this order

FEW = 50  # spikes or samples; fewer allow no judgement
USUAL_RATE = 5.0  # Hz of a unit
SLOWEST, SLOW, FASTEST = 0.02, 1.0, 300.0  # Hz, mean over units; slow ones are doubted with others
SLOWEST_SAMPLES, SLOW_SAMPLES = 0.05, 2.0  # Hz of behaviour
FAST, FAST_SAMPLES = 100.0, 2000.0  # Hz of units and of behaviour; doubted if both are faster
FAR = 200.0  # between the durations of spikes and behaviour
NEAR = 0.05  # relative distance between a ratio of durations and a known factor
HARDLY = 0.1  # share of the shorter one of spikes and behaviour
JUDGED = 1000  # times
LABELS = 20  # kinds of classes at most
FEW_KINDS = 3  # of numbers that are not whole
JUDGED_SAMPLES = 100_000

# Ticks per second, how a time with so many is called, and what to do.
UNITS = (
    (1e3, "milliseconds", "pass time_unit='ms'"),
    (3e4, "sample indices", "pass time_unit='samples' and sampling_rate"),
    (1e6, "microseconds", "pass time_unit='us'"),
    (1e9, "nanoseconds", "divide them by 1e9"),
)


def usual_key(keys: Sequence[str]) -> str | None:
    """The behaviour that is decoded by default: a usual one, or the only one."""
    for key in USUAL_KEYS:
        if key in keys:
            return key
    return keys[0] if len(keys) == 1 else None


class _Span(NamedTuple):
    """Times of the spikes or of a behaviour, in s as given."""

    name: str
    start: float
    end: float
    count: int
    rate: float  # Hz, of one unit or of the samples
    step: float  # s between the first times, 0 for spikes
    whole: bool  # all times are whole numbers
    regular: bool  # has a sampling rate instead of times

    @property
    def duration(self) -> float:
        return self.end - self.start


def tell_doubts(session: Any, told: Sequence[str] = ()) -> None:
    """Log a warning for every doubt about a session, but for those that were `told` before."""
    for doubt in find_doubts(session):
        if doubt in told:
            continue
        logger.warning("session %s: %s", session.id, doubt)


def find_doubts(session: Any) -> list[str]:
    """List what is implausible about the times and targets of a session, as sentences.

    Reads few spikes, and the beginning of the behaviour.
    """
    doubts = []
    spikes = _span_of_spikes(session)
    series = {key.rsplit(".", 1)[0]: key for key in session.behaviour_keys}
    spans = [_span_of(session.behaviour(key)) for key in series.values()]
    spans = [span for span in spans if span is not None]
    for span in spans:
        doubt = _clock_doubt(spikes, span) if spikes else _doubt_of_samples(span)
        doubts.append(doubt)
    if spikes and not spans:
        doubts.append(_doubt_of_spikes(spikes))
    decoded = usual_key(session.behaviour_keys)
    if decoded is not None:
        doubts += _value_doubts(session.behaviour(decoded))
    return list(dict.fromkeys(doubt for doubt in doubts if doubt))


def _span_of_spikes(session: Any) -> _Span | None:
    times = session.spike_times
    if len(times) < FEW or not times[-1] > times[0]:
        return None
    start, end = float(times[0]), float(times[-1])
    rate = len(times) / (end - start) / len(session.unit_ids)
    whole = _is_whole(np.asarray(times[:JUDGED]))
    return _Span("the spikes", start, end, len(times), rate, 0.0, whole, False)


def _span_of(behaviour: Behaviour) -> _Span | None:
    if behaviour.count < FEW:
        return None
    start, end = behaviour.times_at([0, behaviour.count - 1]).tolist()
    first = behaviour.times_at(np.arange(min(behaviour.count, JUDGED)))
    step = float(np.median(np.diff(first)))
    if not (step > 0 and end > start and math.isfinite(end - start)):
        return None
    regular = behaviour.timestamps is None
    return _Span(
        behaviour.key, start, end, behaviour.count, 1 / step, step, _is_whole(first), regular
    )


def _is_whole(times: np.ndarray) -> bool:
    return bool(np.all(times == np.floor(times)))


# --- clocks


def _clock_doubt(spikes: _Span, samples: _Span) -> str | None:
    """Return the first doubt about the times of spikes and behaviour."""
    ratio = spikes.duration / samples.duration
    both = (
        f"the spikes span {_time(spikes.duration)} with {spikes.rate:.2g} Hz per unit, but"
        f" {samples.name} {_time(samples.duration)} with {samples.rate:.3g} Hz"
    )
    if ratio >= FAR and (spikes.rate < SLOW or _is_known(ratio)):
        question = _are_these("the spike times", ratio)
        return f"{both}: {question} (in from_arrays together with target_time_unit='s')."
    if ratio <= 1 / FAR and (samples.rate < SLOW_SAMPLES or _is_known(1 / ratio)):
        if _is_period(samples, spikes.duration):
            return (
                f"{both}: is the rate a period? Its inverse, {1 / samples.rate:g} Hz, would fit the"
                " spikes; correct the rate."
            )
        return f"{both}: {_are_these(f'the times of {samples.name}', 1 / ratio, 'target_')}."
    if samples.whole and samples.step == 1 and ratio < 0.5:
        return (
            f"{both}: are the times of {samples.name} sample numbers? Divide them by the sampling"
            " rate."
        )
    if doubt := _doubt_of_spikes(spikes):
        return doubt
    if spikes.rate > FAST and samples.rate > FAST_SAMPLES:
        return f"{both}: {_too_short('the times')}."
    return _doubt_of_samples(samples) or _overlap_doubt(spikes, samples)


def _doubt_of_spikes(spikes: _Span) -> str | None:
    seen = f"the spikes span {_time(spikes.duration)} with {spikes.rate:.2g} Hz per unit"
    if spikes.rate < SLOWEST or (spikes.rate < SLOW and spikes.whole):
        return f"{seen}: {_are_these('these', USUAL_RATE / spikes.rate)}."
    if spikes.rate > FASTEST:
        return f"{seen}: {_too_short('these')}."
    return None


def _doubt_of_samples(samples: _Span) -> str | None:
    if samples.rate >= SLOWEST_SAMPLES:
        return None
    seen = f"{samples.name} has one sample every {_time(samples.step)}"
    return f"{seen}: {_are_these('its times', 1e3, 'target_')}, or is its rate a period?"


def _overlap_doubt(spikes: _Span, samples: _Span) -> str | None:
    shared = min(spikes.end, samples.end) - max(spikes.start, samples.start)
    if shared > HARDLY * min(spikes.duration, samples.duration):
        return None
    how = f"share only {_time(shared)}" if shared > 0 else "share no time"
    return (
        f"the spikes, from {_time(spikes.start)} to {_time(spikes.end)}, and {samples.name}, from"
        f" {_time(samples.start)} to {_time(samples.end)}, {how}: do they count from the same zero,"
        " in seconds?"
    )


def _is_known(ratio: float) -> bool:
    return any(abs(ratio / ticks - 1) < NEAR for ticks, _, _ in UNITS)


def _are_these(times: str, ticks: float, prefix: str = "") -> str:
    """Ask for the unit that has about so many ticks per second, and say what to do."""
    distances = [abs(math.log(ticks / known)) for known, _, _ in UNITS]
    _, name, advice = UNITS[int(np.argmin(distances))]
    advice = advice.replace("time_unit", f"{prefix}time_unit")
    return f"are {times} {name}? A session has seconds: {advice}, or convert them"


def _too_short(times: str) -> str:
    return (
        f"are {times} minutes or hours, or were they divided once too often? A session has seconds:"
        " convert them"
    )


def _is_period(samples: _Span, duration: float) -> bool:
    """Tell whether the inverse of the sampling rate makes the behaviour as long as the spikes."""
    length = samples.count * samples.rate
    return samples.regular and duration / 3 < length < 3 * duration


def _time(seconds: float) -> str:
    return f"{seconds:.6g} s"


# --- values


def _value_doubts(behaviour: Behaviour) -> list[str | None]:
    """List doubts about the first values of a behaviour."""
    count = min(behaviour.count, JUDGED_SAMPLES)
    values = behaviour.values(0, count)
    stored = np.asarray(behaviour.samples[:count]).reshape(values.shape)
    doubts = [_label_doubt(behaviour, values[np.isfinite(values).all(axis=1)])]
    lost = int(np.count_nonzero(np.isnan(values) & ~np.isnan(stored)))
    if lost:
        doubts.append(
            f"{lost} of {values.size} values of {behaviour.key} are infinite or beyond"
            f" {LARGEST:.2g}, the largest number of float32; they count as missing."
        )
    return doubts


def _label_doubt(behaviour: Behaviour, values: np.ndarray) -> str | None:
    """Doubt a behaviour that consists of few numbers, each of which lasts."""
    if behaviour.classes or len(values) < FEW or not looks_like_classes(values):
        return None
    kinds = np.unique(values)
    if not _is_whole(values):
        return (
            f"{behaviour.key} has only {len(kinds)} different values: are these classes? They are"
            " decoded by regression; for classes, number or name them, and see"
            " poyo_jax.measure_readout."
        )
    return (
        f"{behaviour.key} has only the whole numbers {kinds[0]:g} to {kinds[-1]:g}, each for"
        " several samples: are these labels of classes? They are decoded by regression, as if 2 lay"
        " between 1 and 3, unless their readout says that they are classes:"
        f" poyo_jax.measure_readout(session, {behaviour.key!r}, kind='classes')."
    )


def looks_like_classes(values: np.ndarray) -> bool:
    """Tell if values [samples, channels] are few numbers, each of which lasts.

    They are whole numbers of at most 20 kinds, or any numbers of at most three.
    """
    changes = np.mean((np.diff(values, axis=0) != 0).any(axis=1)) if len(values) > 1 else 0.0
    most = LABELS if _is_whole(values) else FEW_KINDS
    return bool(2 <= len(np.unique(values)) <= most and changes <= 0.2)
