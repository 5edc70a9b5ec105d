"""Spikes in the forms that users have: one array with units, or one array of times per unit."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.numbers import to_numbers, to_seconds
from poyo_jax.errors import SessionError

logger = logging.getLogger(__name__)


def flat_spikes(
    spike_times: Any, spike_units: Any, unit_ids: Any, per_second: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return sorted times [spikes] in s, the unit of each spike [spikes], and the units' names.

    `Session.from_arrays` describes the forms and the errors.
    """
    if spike_units is None:
        by_unit, names = _by_unit(spike_times, unit_ids)
        return *merge_units(by_unit, names, per_second), names
    if _is_ragged(spike_times):
        raise SessionError(
            f"spike_times has {len(spike_times)} arrays of several lengths, as of times per unit,"
            " but there are spike_units too; pass spike_units=None."
        )
    if unit_ids is None:
        raise SessionError(
            "unit_ids is missing; pass the name of every unit, or leave spike_units out, too, and"
            " pass spike_times as a list with the times of each unit."
        )
    names = unit_names(unit_ids)
    times = to_seconds(spike_times, "spike_times", per_second)
    check_times(times, "spike_times")
    return times, _checked_units(spike_units, len(times), len(names)), names


def unit_names(unit_ids: Any) -> list[str]:
    """Return the ids of units as texts. Raises SessionError for one alone."""
    if np.ndim(unit_ids) == 0:
        raise SessionError(
            f"unit_ids is {unit_ids!r}; pass the name of every unit, for example range(20)."
        )
    return [_text(name) for name in np.asarray(unit_ids).ravel().tolist()]


def merge_units(
    by_unit: Sequence[Any], names: Sequence[str], per_second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the times of every unit: sorted times [spikes] in s, and units [spikes].

    Spikes at the same time stay in the order of their units.
    """
    times = []
    for name, unit_times in zip(names, by_unit, strict=True):
        label = f"spike_times of unit {name}"
        unit_times = unit_times if np.ndim(unit_times) else [unit_times]
        unit_times = to_seconds(unit_times, label, per_second)
        if not np.isfinite(unit_times).all():
            check_times(unit_times, label)  # raises
        times.append(unit_times)
    counts = [len(unit_times) for unit_times in times]
    tell_restarts(times, names)
    all_times = np.concatenate([np.zeros(0), *times])
    order = np.argsort(all_times, kind="stable")
    units = np.repeat(np.arange(len(times)), counts)
    return all_times[order], units[order]


def tell_restarts(times: Iterable[np.ndarray], names: Sequence[str]) -> None:
    """Warn of units whose spikes are not in order; they are sorted, but a clock may restart."""
    wrong = []
    for name, unit_times in zip(names, times, strict=True):
        falls = np.flatnonzero(np.diff(unit_times) < 0)
        if len(falls):
            before, after = unit_times[falls[0] : falls[0] + 2]
            wrong.append(f"unit {name} has a spike at {after:g} s after one at {before:g} s")
    if wrong:
        logger.warning(
            "the spikes of %d of %d units were not in order and have been sorted: %s. Does the"
            " clock restart there, as between files or trials? Then add the start of each to its"
            " times (trials: Session.from_trials).",
            len(wrong),
            len(names),
            wrong[0],
        )


def _by_unit(spike_times: Any, unit_ids: Any) -> tuple[list[Any], list[str]]:
    """Return the times of every unit, and the names of the units."""
    if isinstance(spike_times, Mapping):
        if unit_ids is not None:
            raise SessionError(
                "spike_times is a mapping of unit ids to times, but there are unit_ids too; pass"
                " unit_ids=None."
            )
        return list(spike_times.values()), unit_names(list(spike_times))
    if not _is_nested(spike_times):
        raise SessionError(
            "spike_units is missing; pass the unit of every spike, or spike_times as a list with"
            " the times of each unit, or as a mapping of unit ids to times."
        )
    _refuse_counts(spike_times)
    by_unit = list(spike_times)
    if unit_ids is None:
        return by_unit, [f"unit_{number}" for number in range(len(by_unit))]
    names = unit_names(unit_ids)
    if len(names) != len(by_unit):
        raise SessionError(
            f"unit_ids has {len(names)} names, but spike_times has the times of {len(by_unit)}"
            " units; pass one name per unit."
        )
    return by_unit, names


def _refuse_counts(spike_times: Any) -> None:
    """Raise SessionError for a matrix of counts: whole numbers that repeat are no times."""
    if not isinstance(spike_times, np.ndarray) or spike_times.dtype.kind not in "iuf":
        return
    whole = np.array_equal(spike_times, np.floor(spike_times))
    repeats = (np.diff(np.sort(spike_times, axis=1), axis=1) == 0).any()
    if whole and repeats:
        raise SessionError(
            f"spike_times is a matrix of shape {spike_times.shape} whose whole numbers repeat, like"
            " counts in bins; pass those to Session.from_counts, or a list with the times of each"
            " unit."
        )


def _is_nested(spike_times: Any) -> bool:
    """Tell whether these are several arrays of times, rather than one."""
    if isinstance(spike_times, np.ndarray) and spike_times.ndim == 0:
        return False
    if not isinstance(spike_times, list | tuple | np.ndarray):
        return False
    return any(np.ndim(unit_times) > 0 for unit_times in spike_times)


def _is_ragged(spike_times: Any) -> bool:
    """Tell whether these are arrays of several lengths."""
    try:
        array = np.asarray(spike_times)
        return isinstance(spike_times, Mapping) or (array.dtype == object and _is_nested(array))
    except ValueError:
        return True
    except (TypeError, RuntimeError):
        return False


def _checked_units(values: Any, num_spikes: int, num_units: int) -> np.ndarray:
    if np.asarray(values).dtype.kind in "US":
        raise SessionError(
            "spike_units holds names; pass the position of each in unit_ids: [unit_ids.index(name)"
            " for name in spike_units]."
        )
    units = to_numbers(values, "spike_units")
    if len(units) != num_spikes:
        raise SessionError(
            f"spike_units has {len(units)} entries but spike_times {num_spikes}; pass one per"
            " spike."
        )
    known = (units >= 0) & (units < num_units)
    wrong = ~(known & (units == np.floor(units)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SessionError(
            f"spike_units[{row}] is {units[row]:g}, but there are {num_units} units; "
            f"pass whole numbers in 0 ... {num_units - 1}, the positions in unit_ids."
        )
    return units.astype(np.int64)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
