"""Rules that several data sets share: splits, outliers, derivatives, trials and phases."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from poyo_jax import __version__
from poyo_jax.data.derive import SEED as SEED
from poyo_jax.data.derive import gradient as gradient
from poyo_jax.data.derive import permutation_split as permutation_split
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node
from poyo_jax.errors import RawDataError, SessionError

Table = dict[str, np.ndarray]


def brainset_node(name: str, *, origin: str, derived: str, source: str, description: str) -> Node:
    return data_node(
        id=name,
        origin_version=origin,
        derived_version=derived,
        source=source,
        description=description,
        poyo_jax_version=__version__,
    )


def session_nodes(session_id: str, date: str, device_id: str, technology: str) -> dict[str, Node]:
    """The groups `session` and `device`; `date` is YYYY-MM-DD."""
    return {
        "session": data_node(id=session_id, recording_date=f"{date} 00:00:00", task="REACHING"),
        "device": data_node(id=device_id, recording_tech=technology),
    }


# --- samples


def need_samples(raw: RawFile, field: str, times: np.ndarray) -> None:
    if not len(times):
        raise raw.wrong(field, "empty", "one sample at least")


def outlier_mask(values: np.ndarray, limit: float, grow: int) -> np.ndarray:
    """Mask samples whose vector is longer than `limit`, and their neighbours.

    The mask covers `grow // 2` samples before and `(grow - 1) // 2` after such a sample.
    """
    return dilated(np.linalg.norm(values, axis=1) > limit, grow)


def dilated(mask: np.ndarray, size: int) -> np.ndarray:
    """True within `size // 2` samples before and `(size - 1) // 2` samples after a True sample."""
    return np.asarray(ndimage.binary_dilation(mask, np.ones(size)))


def eroded(mask: np.ndarray, size: int) -> np.ndarray:
    """Shorten every run of True at both ends.

    It loses `size // 2` samples at its beginning and `(size - 1) // 2` at its end.
    """
    return np.asarray(ndimage.binary_erosion(mask, np.ones(size)))


def mask_intervals(times: np.ndarray, mask: np.ndarray) -> Intervals:
    """Convert runs of True to intervals.

    An interval begins at the sample before the run (or at the first sample of all) and ends at the
    last sample of the run.
    """
    edges = np.diff(mask.astype(np.int8))
    starts, ends = times[:-1][edges == 1], times[:-1][edges == -1]
    if len(mask) and mask[0]:
        starts = np.concatenate([times[:1], starts])
    if len(mask) and mask[-1]:
        ends = np.concatenate([ends, times[-1:]])
    return Intervals(starts, ends)


# --- splits


def nested_split(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw rows of train (70 %), valid (10 %) and test (20 %).

    The rows are those that two calls of scikit-learn's `train_test_split` draw.
    """
    shuffled = np.random.RandomState(SEED).permutation(count)
    test, rest = np.split(shuffled, [math.ceil(0.2 * count)])
    shuffled = np.random.RandomState(SEED).permutation(len(rest))
    valid, train = np.split(rest[shuffled], [math.ceil(0.125 * len(rest))])
    return np.sort(train), np.sort(valid), np.sort(test)


def rows_of(table: Mapping[str, np.ndarray], rows: np.ndarray) -> Table:
    return {name: column[rows] for name, column in table.items()}


# --- trials


def trial_columns(
    raw: RawFile, numbers: Sequence[str], texts: Sequence[str] = (), arrays: Sequence[str] = ()
) -> Table:
    """Make the trial table. Each column has a number, a text or a row of numbers per trial.

    Raises RawDataError when one of them is missing or holds something else.
    """
    trials = nwb.trial_table(raw, (*numbers, *texts, *arrays))
    kinds = [
        (numbers, 1, "biuf", "number"),
        (texts, 1, "O", "text"),
        (arrays, 2, "biuf", "row of numbers"),
    ]
    for names, dimensions, types, what in kinds:
        for name in names:
            column = trials[name]
            if column.ndim != dimensions or column.dtype.kind not in types or 0 in column.shape[1:]:
                found = f"of type {column.dtype} and shape {column.shape}"
                raise raw.wrong(f"{nwb.TRIALS}/{name}", found, f"one {what} per trial")
    return trials


def refuse_nan(raw: RawFile, trials: Table, names: Sequence[str]) -> None:
    """Raise RawDataError when there is no trial, or when a trial lacks a required time."""
    for name in names:
        if not len(trials[name]):
            raise raw.wrong("intervals/trials", "an empty table", "one row per trial")
        if (missing := np.isnan(trials[name])).any():
            raise raw.wrong(
                f"intervals/trials/{name}[{int(np.argmax(missing))}]",
                "NaN",
                "the time of every trial",
            )


def trial_intervals(raw: RawFile, starts: np.ndarray, ends: np.ndarray, what: str) -> Intervals:
    """Intervals, one per trial. Raises RawDataError unless they are finite, sorted and disjoint."""
    try:
        return Intervals(starts, ends)
    except SessionError as error:
        raise RawDataError(
            f"{raw.path.name}: {what}: {error} Trials must follow each other."
        ) from error


def need_trials(raw: RawFile, valid: np.ndarray, least: int) -> None:
    """Raise RawDataError unless there are enough valid trials to split."""
    if valid.sum() < least:
        raise raw.wrong(
            "intervals/trials",
            f"a table with {int(valid.sum())} valid of {len(valid)} trials",
            f"{least} valid at least",
        )


def phases_node(domain: Intervals, outliers: Intervals, phases: Mapping[str, Intervals]) -> Node:
    """Movement phases, from which the outliers are cut; their domain stays whole."""
    members = {name: interval_node(phase.subtract(outliers)) for name, phase in phases.items()}
    return data_node({"domain": interval_node(domain), **members})
