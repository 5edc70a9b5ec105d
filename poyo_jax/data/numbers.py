"""Turn the arrays of a user into plain numbers, without losing masks, units or kinds of time."""

import datetime
from typing import Any

import numpy as np

from poyo_jax.checks import POSITIVE
from poyo_jax.errors import ConfigError, SessionError, suggest

TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6}  # in a second
COARSEST = 1e-3  # s between two times that a type of floats can tell apart
SECOND_NAMES = ("s", "sec", "second", "seconds")


def ticks_per_second(time_unit: str, sampling_rate: float | None) -> float:
    """Return how many of this unit make a second.

    Raises ConfigError for an unknown unit, or when "samples" and `sampling_rate` (Hz) do not come
    together.
    """
    if time_unit == "samples":
        if not POSITIVE.allows(sampling_rate):
            raise ConfigError(
                f"time_unit is 'samples', but sampling_rate is {sampling_rate!r}; pass the rate of"
                " the recording in Hz, for example sampling_rate=30000."
            )
        return float(sampling_rate or 0)
    if time_unit not in TICKS:
        known = (*TICKS, "samples")
        raise ConfigError(
            f"time_unit is {time_unit!r}; choose {', '.join(map(repr, known))}."
            f"{suggest(time_unit, known)}"
        )
    return TICKS[time_unit]


def to_numbers(values: Any, name: str, ndims: tuple[int, ...] = (1,)) -> np.ndarray:
    """Return a new float64 array with as many dimensions as one of `ndims`; NaN where masked.

    Raises SessionError for text, dates, durations, complex numbers, rows of several lengths, or
    another number of dimensions.
    """
    try:
        array = _without_mask(values)
        _refuse_meaning(array, name)
        array = np.array(array, np.float64)
    except SessionError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise SessionError(
            f"{name} is not an array of numbers ({error}); pass numbers in rows of one length."
        ) from error
    if array.ndim not in ndims:
        expected = " or ".join(f"{ndim}-D" for ndim in ndims)
        raise SessionError(f"{name} has shape {array.shape}; pass a {expected} array.")
    return array


def to_seconds(values: Any, name: str, per_second: float = 1.0) -> np.ndarray:
    """Return times [times] in s as a new float64 array; durations are converted by their type.

    Raises SessionError as `to_numbers` does, and for floats too coarse to tell spikes apart.
    """
    durations = durations_in_seconds(values, name)
    if durations is not values:
        return to_numbers(durations, name)
    times = to_numbers(values, name) / per_second
    _refuse_coarse(values, times, name, per_second)
    return times


def _refuse_coarse(values: Any, times: np.ndarray, name: str, per_second: float) -> None:
    """Raise SessionError for floats of few digits that cannot tell times 1 ms apart."""
    kind = getattr(values, "dtype", None)
    if kind not in (np.float16, np.float32) or not times.size:
        return
    largest = np.max(np.abs(times), where=np.isfinite(times), initial=0.0)
    step = float(np.spacing(np.asarray(largest * per_second, kind))) / per_second
    if step > COARSEST:
        raise SessionError(
            f"{name} is {kind}, which at {largest:g} s has steps of {step:g} s; pass float64 times"
            " as they were recorded, since converting these gives nothing back."
        )


def durations_in_seconds(values: Any, name: str) -> Any:
    """Return timedeltas as numbers of seconds, and anything else as it is.

    Raises SessionError for dates, and for quantities in another unit than seconds.
    """
    _refuse_other_units(values, name)
    try:
        array = np.asanyarray(values)
    except (TypeError, ValueError, RuntimeError):
        return values  # `to_numbers` says what is wrong
    first = array.flat[0] if array.dtype == object and array.size else None
    if array.dtype.kind == "M" or isinstance(first, datetime.date | np.datetime64):
        raise SessionError(
            f"{name} holds dates, but a session has seconds from its zero; subtract the date of"
            " that zero: (times - start) / np.timedelta64(1, 's')."
        )
    if isinstance(first, datetime.timedelta | np.timedelta64):
        array = array.astype("timedelta64[ns]")
    if array.dtype.kind != "m":
        return values
    try:
        return array / np.timedelta64(1, "s")
    except TypeError as error:
        raise SessionError(
            f"{name} holds durations of type {array.dtype}, which have no length in seconds; pass"
            " seconds."
        ) from error


def _refuse_other_units(values: Any, name: str) -> None:
    """Raise SessionError for a quantity (of astropy, pint, quantities) that is not in seconds."""
    if getattr(getattr(values, "dtype", None), "kind", None) in ("m", "M"):
        return
    unit = getattr(values, "units", None)
    unit = getattr(values, "unit", None) if unit is None else unit
    words = str("s" if unit is None else unit).split()
    if words and words[-1].lower() not in (*SECOND_NAMES, "dimensionless"):
        raise SessionError(
            f"{name} is a quantity in {words[-1]!r}; convert it to seconds, and pass plain numbers"
            " (its magnitude)."
        )


def _without_mask(values: Any) -> np.ndarray:
    """Return an array in which NaN stands for masked entries."""
    if isinstance(values, list | tuple) and any(map(np.ma.isMaskedArray, values)):
        values = np.ma.array(values)
    if not np.ma.isMaskedArray(values):
        return np.asarray(values)
    if not np.ma.getmaskarray(values).any():
        return values.data
    return np.ma.filled(values.astype(np.float64), np.nan)


def _refuse_meaning(array: np.ndarray, name: str) -> None:
    """Raise SessionError for an array whose entries mean more than a number."""
    first = array.flat[0] if array.size else 0.0
    if array.dtype.kind in "US" or isinstance(first, str | bytes):
        raise SessionError(
            f"{name} is not an array of numbers (it holds text such as {str(first)!r}); pass"
            " numbers in rows of one length."
        )
    dated = isinstance(first, datetime.date | datetime.timedelta | np.datetime64 | np.timedelta64)
    if array.dtype.kind in "mM" or dated:
        raise SessionError(f"{name} holds {type(first).__name__}; pass plain numbers.")
    if array.dtype.kind == "c":
        raise SessionError(
            f"{name} is not an array of numbers (it is complex); pass real numbers, for example the"
            " real and the imaginary component as two channels."
        )
