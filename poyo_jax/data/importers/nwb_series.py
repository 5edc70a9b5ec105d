"""List the behaviour series of an NWB file and read their samples in the unit of the file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.io.hdf5 import SafeGroup, subgroups
from poyo_jax.errors import RawDataError, suggest

PLACES = ("processing", "acquisition")
# Members of series that are no behaviour: signals of electrodes and of imaged cells, stimuli shown
# by number.
FOREIGN_MEMBERS = frozenset(
    {"electrodes", "electrode", "rois", "indexed_timeseries", "indexed_images"}
)
FOREIGN_TYPES = frozenset({"IntervalSeries", "AnnotationSeries"})
RESERVED = frozenset(
    {
        "brainset",
        "device",
        "domain",
        "movement_phases",
        "session",
        "spikes",
        "subject",
        "trials",
        "units",
    }
)
ENDINGS = {"velocity": r"(.*?)((^|_)vel|_?velocity)", "position": r"(.*?)((^|_)pos|_?position)"}
COLUMNS = {"velocity": "vel", "position": "pos"}
STEPS_JUDGED = 10_000  # of time stamps, for the rate of a candidate
JITTER = 0.1  # of a median step


@dataclass(frozen=True)
class CandidateTarget:
    """A series of an NWB file that could be decoded.

    The rate is in Hz, or None if the samples are irregular.
    """

    path: str  #: in the file, for `target`
    shape: tuple[int, ...]  #: of its samples
    rate: float | None  #: Hz
    unit: str  #: as the file names it
    seconds: float  #: length
    looks_like: str  #: "velocity", "position" or "other"


@dataclass(frozen=True, eq=False)
class Series:
    """Samples [samples] or [samples, channels] in `unit` at `times` (s).

    The rate is in Hz, or None if the samples have time stamps of their own.
    """

    path: str
    times: np.ndarray
    values: np.ndarray
    unit: str
    rate: float | None


def candidate_targets(path: str | Path) -> list[CandidateTarget]:
    """The series of an NWB file that could be decoded, in the order of their paths.

    Whether the time stamps are regular is judged by the first 10,000 steps. Raises RawDataError
    when the file cannot be read.
    """
    with open_raw(path) as raw:
        return candidates(raw)


def candidates(raw: RawFile) -> list[CandidateTarget]:
    """The same of an open file."""
    listed = []
    for place in PLACES:
        group = raw.file.get(place)
        if not isinstance(group, SafeGroup):
            continue
        for path, series in subgroups(group, place):
            candidate = _candidate(path, series)
            if candidate is not None:
                listed.append(candidate)
    return listed


def _candidate(path: str, series: h5py.Group) -> CandidateTarget | None:
    data = series.get("data")
    if (
        not isinstance(data, h5py.Dataset)
        or data.dtype.kind not in "biuf"
        or data.ndim not in (1, 2)
    ):
        return None
    foreign = (
        not FOREIGN_MEMBERS.isdisjoint(series)
        or text(series.attrs.get("neurodata_type", "")) in FOREIGN_TYPES
    )
    if foreign or len(data) < 2:
        return None
    timing = _timing(series, len(data))
    if timing is None:
        return None
    rate, seconds = timing
    unit = text(data.attrs.get("unit", ""))
    return CandidateTarget(path, data.shape, rate, unit, seconds, looks_like(path))


def _timing(series: h5py.Group, count: int) -> tuple[float | None, float] | None:
    """Rate in Hz, None if irregular, and length in seconds; None if the series says neither."""
    start, times = series.get("starting_time"), series.get("timestamps")
    if isinstance(times, h5py.Dataset) and times.shape == (count,) and times.dtype.kind in "iuf":
        steps = np.diff(times[: STEPS_JUDGED + 1].astype(np.float64))
        return rate_of(steps), float(times[-1]) - float(times[0])
    if (
        isinstance(start, h5py.Dataset)
        and np.size(rate := start.attrs.get("rate", 0.0)) == 1
        and float(rate) > 0
    ):
        return float(rate), count / float(rate)
    return None


def rate_of(steps: np.ndarray) -> float | None:
    """Compute the rate (Hz) of samples from the `steps` (s) between them.

    Return None when the steps differ from their median by over a tenth. Gaps do not count.
    """
    step = np.median(steps)
    within_runs = steps[steps <= 5 * step]
    if not step > 0 or not len(within_runs):
        return None
    largest = np.abs(within_runs / step - 1).max()
    return float(1 / step) if largest <= JITTER else None


# --- names


def looks_like(path: str) -> str:
    """Guess from a path if a series is a "velocity", a "position" or something "other".

    The name of the series counts first, then the names of its containers.
    """
    *containers, name = map(_plain, path.split("/"))
    for kind, ending in ENDINGS.items():
        if re.fullmatch(ending, name):
            return kind
    for kind in ENDINGS:
        if any(kind in container for container in containers):
            return kind
    return "other"


def session_key(path: str, *, derived: bool = False) -> tuple[str, str]:
    """Choose series and column of a session for a target: (cursor, vel) for ".../cursor_vel".

    Names are in lower case. What looks like neither velocity nor position is a column of the series
    `behavior`. The velocity `derived` from a position is the column `vel`, that from something else
    ends in `_vel`.
    """
    name = _plain(path.rsplit("/", 1)[-1])
    kind = looks_like(path)
    if kind == "other":
        return "behavior", f"{name}_vel" if derived else name
    match = re.fullmatch(ENDINGS[kind], name)
    series = match[1].strip("_") if match else name
    if not series or series in RESERVED:
        series = "behavior"
    return series, "vel" if derived else COLUMNS[kind]


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- reading


def find_target(raw: RawFile, target: str) -> str:
    """Find the path of a series from its path or its name.

    Raises RawDataError when no series or more than one has this name.
    """
    target = target.strip("/")
    group = raw.file.get(target)
    if isinstance(group, h5py.Group) and "data" in group:
        return target
    known = {candidate.path: candidate for candidate in candidates(raw)}
    matches = [path for path in known if path.endswith(f"/{target}")]
    # A series that cannot be used is found, too: reading it says what is wrong.
    matches = matches or _series_called(raw, target)
    if len(matches) == 1:
        return matches[0]
    if not known:
        raise RawDataError(
            f"{raw.path.name}: there is no behaviour series under {' or '.join(PLACES)}; a session"
            " needs one with data and timestamps (or starting_time). Add it to the file, or use"
            " Session.from_arrays."
        )
    if matches:
        state = f"the name of {len(matches)} series"
    else:
        state = "missing" if group is None else "no behaviour series"
    listed = "; ".join(_shown(path, known) for path in matches or known)
    names = list(known)
    if "/" not in target:
        names = [path.rsplit("/", 1)[-1] for path in known]
    near = "" if matches else suggest(target, names)
    raise RawDataError(f"{raw.path.name}: target {target} is {state}; pass one of {listed}.{near}")


def _series_called(raw: RawFile, target: str) -> list[str]:
    """List the paths of all series with this name, or with this end of their path."""
    paths = []
    for place in PLACES:
        group = raw.file.get(place)
        members = subgroups(group, place) if isinstance(group, SafeGroup) else ()
        paths += [path for path, member in members if "data" in member]
    return [path for path in paths if target and path.endswith(f"/{target}")]


def _shown(path: str, known: Mapping[str, CandidateTarget]) -> str:
    return f"{path} {known[path].shape}" if path in known else path


def read_series(raw: RawFile, path: str) -> Series:
    """Read the samples of a series in its unit, which is `data * conversion + offset` in NWB.

    Raises RawDataError when there are fewer than two, when they have more dimensions than samples
    and channels, or when their times do not increase.
    """
    data = raw.data_set(f"{path}/data")
    if data.ndim not in (1, 2) or 0 in data.shape[1:]:
        wanted = "shape (samples,) or (samples, channels); choose another target"
        raise raw.wrong(f"{path}/data", f"an array of shape {data.shape}", wanted)
    if len(data) < 2:
        raise raw.wrong(
            f"{path}/data",
            f"{len(data)} sample long",
            "two samples at least; choose another target",
        )
    scale = _number(raw, data, "conversion", 1.0)
    shift = _number(raw, data, "offset", 0.0)
    stored = raw.array(f"{path}/data", (None,) * data.ndim)
    values = stored.astype(np.float64) * scale + shift
    unit = text(data.attrs.get("unit", ""))
    if raw.has(f"{path}/timestamps"):
        times = _timestamps(raw, path, len(values))
        return Series(path, times, values, unit, None)
    start, rate = _grid(raw, path)
    times = start + np.arange(len(values)) / rate
    return Series(path, times, values, unit, rate)


def _timestamps(raw: RawFile, path: str, count: int) -> np.ndarray:
    field = f"{path}/timestamps"
    times = raw.array(field, (None,), finite=True).astype(np.float64, copy=False)
    if len(times) != count:
        raise raw.wrong(
            field, f"{len(times)} times", f"one for each of the {count} samples in {path}/data"
        )
    if (wrong := np.diff(times) <= 0).any():
        row = int(np.argmax(wrong))
        found = f"{times[row + 1]} s after {times[row]} s (the first of {wrong.sum()} such rows)"
        wanted = (
            "times that increase; write a clean series, or read it yourself and use"
            " Session.from_arrays"
        )
        raise raw.wrong(f"{field}[{row + 1}]", found, wanted)
    return times


def _grid(raw: RawFile, path: str) -> tuple[float, float]:
    """Time of the first sample, in seconds, and rate, in Hz."""
    if not raw.has(f"{path}/starting_time"):
        raise raw.wrong(
            f"{path}/timestamps",
            "missing, as is starting_time",
            "one of them; choose another target",
        )
    data_set = raw.data_set(f"{path}/starting_time")
    start, rate = data_set[()], _number(raw, data_set, "rate", 0.0)
    if rate <= 0 or np.size(start) != 1 or not np.isfinite(start).all():
        found = f"{start} s with a rate of {rate:g} Hz"
        raise raw.wrong(
            f"{path}/starting_time", found, "a time and a positive rate; choose another target"
        )
    return float(np.ravel(start)[0]), rate


def _number(raw: RawFile, data_set: h5py.Dataset, name: str, default: float) -> float:
    """A finite number from an attribute."""
    value = data_set.attrs.get(name, default)
    if (
        np.size(value) != 1
        or np.asarray(value).dtype.kind not in "biuf"
        or not np.isfinite(value).all()
    ):
        raise raw.wrong(
            f"{str(data_set.name).strip('/')} attribute {name}", value, "a finite number"
        )
    return float(np.ravel(value)[0])
