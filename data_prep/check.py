"""Checks of session files: errors in the format, suspicious values, and descriptive numbers.

An error makes a session unusable or its results wrong; a warning asks for a look.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from poyo_jax import Readout, Session
from poyo_jax.data.behaviour import Behaviour
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.manifest import read_sessions
from poyo_jax.data.plausible import find_doubts
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import SPLITS
from poyo_jax.errors import DataError, PoyoError, SessionError

WINDOW = 1.0  # seconds
CHUNK = 1 << 21  # spikes or samples read at a time
CLOSE = 3e-4  # seconds between spikes of a unit; no neuron recovers that quickly
FASTEST = 500.0  # Hz over a whole session
# The 99th percentile of targets, in standard deviations of the readout, is between these.
SLOW, FAST = 0.05, 20.0
SOME, NOTABLE, MOST = 0.01, 0.05, 0.5  # shares
GAP = 5.0  # usual steps between samples; a longer step is a gap
SAME = 1e-6  # seconds up to which bounds are the same


@dataclass
class SessionCheck:
    """Errors, warnings and numbers of a session.

    `name` is the path of its file in the folder, or its id.
    """

    name: str
    id: str
    path: Path | None = None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(
        default_factory=dict
    )  # empty when the session could not be opened

    def judge(self, share: float, text: str, *, warn: float = SOME, fail: float = MOST) -> None:
        """Note `text` when a share is above `warn`, as an error when it is above `fail`."""
        if share > warn:
            (self.errors if share > fail else self.warnings).append(text)

    @property
    def verdict(self) -> str:
        """ "ok", or how many errors, or how many warnings if there are no errors."""
        for word, findings in (("error", self.errors), ("warning", self.warnings)):
            if findings:
                return f"{len(findings)} {word}{'s' * (len(findings) > 1)}"
        return "ok"


def check_folder(folder: str | Path) -> list[SessionCheck]:
    """Check the session files (*.h5) in a folder and below.

    A file that cannot be opened counts as an error.

    Raises DataError when there are no files.
    """
    folder = Path(folder)
    paths = sorted(folder.rglob("*.h5")) if folder.is_dir() else []
    if not paths:
        state = "has no session files (*.h5)" if folder.is_dir() else "does not exist"
        raise DataError(
            f"the folder {folder} {state}; give the folder that holds processed sessions."
        )
    opened = read_sessions(folder, tqdm(paths, desc="checking", unit="file", disable=None))
    checks = [_check_file(path, folder, result) for path, result in zip(paths, opened, strict=True)]
    _check_ids([check for check in checks if check.numbers])
    return checks


def check_session(session: Session) -> SessionCheck:
    """Check one session; reads all of its spikes and behaviour."""
    check = SessionCheck(session.id, session.id, session.path)
    check.numbers |= {"units": len(session.unit_ids), "spikes": len(session.spike_times)}
    with np.errstate(all="ignore"):  # the check reports numbers that overflow; numpy need not warn
        for part in (_check_domain, _check_spikes, _check_splits, _check_behaviour, _check_clocks):
            try:
                part(session, check)
            except PoyoError as error:
                check.errors.append(str(error))
    return check


def has_errors(checks: Iterable[SessionCheck]) -> bool:
    """True when any session has an error."""
    return any(check.errors for check in checks)


def _check_file(path: Path, folder: Path, opened: Session | SessionError) -> SessionCheck:
    name = str(path.relative_to(folder))
    if isinstance(opened, SessionError):
        return SessionCheck(name, path.stem, path, errors=[str(opened)])
    try:
        check = check_session(opened)
        check.name = name
        return check
    except PoyoError as error:
        text = str(error)
    except (
        Exception
    ) as error:  # an unexpected error in one file must not stop the check of the others
        text = f"unforeseen {type(error).__name__}: {error}; please report this file."
    return SessionCheck(name, path.stem, path, errors=[text])


def _check_ids(checks: Sequence[SessionCheck]) -> None:
    """Note sessions with the same id: they would share units, and a model would mix them up."""
    for check in checks:
        if others := [
            other.name for other in checks if other.id == check.id and other is not check
        ]:
            check.errors.append(
                f"its id {check.id} is also that of {some(others)}; remove or rename all but one."
            )


# --- spikes


class SpikeScan:
    """Counts over the spikes of a session, from one pass that reads a piece at a time."""

    def __init__(self, session: Session):
        self.num_units = len(session.unit_ids)
        # Per unit: spikes, those less than CLOSE after the one before, those at the same time as
        # the one before.
        self.counts, self.close, self.same = np.zeros((3, self.num_units), np.int64)
        self.not_finite = self.falls = self.strangers = self.inside = 0
        self._last = np.full(self.num_units, -np.inf)  # time of every unit's last spike
        before = -np.inf
        for start in range(0, len(session.spike_times), CHUNK):
            times = np.array(session.spike_times[start : start + CHUNK])
            units = np.array(session.spike_units[start : start + CHUNK])
            self.falls += int(times[0] < before) + int(np.count_nonzero(times[1:] < times[:-1]))
            before = times[-1]
            ends = np.searchsorted(times, session.domain.ends, side="right")
            self.inside += int(np.sum(ends - np.searchsorted(times, session.domain.starts)))
            finite, known = np.isfinite(times), (units >= 0) & (units < self.num_units)
            self.not_finite += int(np.count_nonzero(~finite))
            self.strangers += int(np.count_nonzero(~known))
            self._count(times[finite & known], units[finite & known])

    def _count(self, times: np.ndarray, units: np.ndarray) -> None:
        order = np.argsort(
            units.astype(np.uint16) if self.num_units < 1 << 16 else units, kind="stable"
        )
        times, units = times[order], units[order]
        change = np.ones(
            len(units) + 1, bool
        )  # True where a unit's spikes begin, and one past the last spike
        change[1:-1] = units[1:] != units[:-1]
        steps = times - np.where(change[:-1], self._last[units], np.roll(times, 1))
        self._last[units[change[1:]]] = times[change[1:]]
        self.counts += np.bincount(units, minlength=self.num_units)
        self.close += np.bincount(units[steps < CLOSE], minlength=self.num_units)
        self.same += np.bincount(units[steps == 0], minlength=self.num_units)


def _check_spikes(session: Session, check: SessionCheck) -> None:
    if not (num_spikes := len(session.spike_times)):
        check.errors.append("there are no spikes.")
        return
    scan = SpikeScan(session)
    rates = scan.counts / session.domain.duration
    check.numbers["rate"] = float(np.median(rates))
    for count, text in (
        (scan.not_finite, "spike times are NaN or infinite; remove those spikes."),
        (
            scan.falls,
            (
                "spikes are earlier than the one before; sort spikes.timestamps and unit_index"
                " together."
            ),
        ),
        (
            scan.strangers,
            f"spikes belong to no unit; unit_index must be one of 0 ... {scan.num_units - 1}.",
        ),
    ):
        if count:
            check.errors.append(f"{count:,} of {num_spikes:,} {text}")
    if silent := [session.unit_ids[unit] for unit in np.flatnonzero(scan.counts == 0)]:
        check.warnings.append(
            f"{len(silent)} of {len(rates)} units have no spikes: {some(silent)}."
        )
    fast = [
        f"{session.unit_ids[unit]} ({rates[unit]:.0f} Hz)"
        for unit in np.flatnonzero(rates > FASTEST)
    ]
    if fast and session.domain.duration >= WINDOW:
        check.warnings.append(
            f"units faster than {FASTEST:g} Hz: {some(fast)}; are they single units, and times"
            " in s?"
        )
    if not scan.falls and not scan.not_finite:
        outside = 1 - scan.inside / num_spikes
        check.judge(
            outside,
            f"{outside:.1%} of the spikes lie outside the domain; do all times share one clock?",
        )
        _check_repeats(session, scan, check)


def _check_repeats(session: Session, scan: SpikeScan, check: SessionCheck) -> None:
    """Note spikes that occur twice or follow another spike of their unit too soon."""
    for counts, limit, what in (
        (scan.same, SOME, "have the time of another one of the unit"),
        (scan.close, NOTABLE, f"follow another one of the unit within {CLOSE * 1000:g} ms"),
    ):
        shares = counts / np.maximum(scan.counts, 1)
        worst, number = int(np.argmax(shares)), np.count_nonzero(shares > limit)
        if number:
            check.warnings.append(
                f"in {number} of {len(shares)} units more than {limit:.0%} of the spikes {what} "
                f"({session.unit_ids[worst]}: {shares[worst]:.0%}); are spikes there twice?"
            )


# --- splits


def _check_domain(session: Session, check: SessionCheck) -> None:
    _check_rows(session, "domain", check)
    seconds = session.domain.duration
    check.numbers["minutes"] = seconds / 60
    if seconds < WINDOW:
        check.errors.append(f"the domain holds {seconds:g} s, less than a window of {WINDOW:g} s.")
    elif seconds < 10 * WINDOW:
        check.warnings.append(f"the domain holds {seconds:g} s, few for windows of {WINDOW:g} s.")


def _check_splits(session: Session, check: SessionCheck) -> None:
    for name in SPLITS:
        _check_rows(session, f"{name}_domain", check)
    splits = {name: session.split(name) for name in SPLITS if session.has_split(name)}
    check.numbers["splits"] = {name: split.duration for name, split in splits.items()}
    if missing := [name for name in SPLITS if name not in splits]:
        check.warnings.append(f"there is nothing in the splits {', '.join(missing)}.")
    for one, other in combinations(splits, 2):
        shared = splits[one].intersect(splits[other])
        if shared.duration > SAME:
            where = f"{shared.duration:g} s, first at {shared.starts[0]:g} s"
            check.errors.append(
                f"the splits {one} and {other} share {where}; scores would be too good."
            )
    for name, split in splits.items():
        outside = split.subtract(session.domain).duration / split.duration
        check.judge(
            outside, f"{outside:.0%} of the {name} split lies outside the domain.", fail=0.99
        )
    lengths = {name: split.ends - split.starts for name, split in splits.items()}
    shares = {
        name: np.sum(every[every < WINDOW - SAME]) / np.sum(every)
        for name, every in lengths.items()
    }
    if short := [f"{share:.0%} of {name}" for name, share in shares.items() if share > NOTABLE]:
        effect = "training leaves those out or widens them, elsewhere windows reach over their ends"
        check.warnings.append(
            f"intervals shorter than a window of {WINDOW:g} s make up {', '.join(short)}: {effect}."
        )


def _check_rows(session: Session, name: str, check: SessionCheck) -> None:
    """Check intervals as the file has them; `Session` drops or merges rows that it cannot use."""
    if name not in session.interval_names:
        return
    rows = session.table(name)
    starts, ends = (np.asarray(rows[column], np.float64) for column in ("start", "end"))
    if wrong := np.count_nonzero(~(np.isfinite(starts) & np.isfinite(ends) & (starts <= ends))):
        check.errors.append(
            f"{wrong} of {len(starts)} rows of {name} have no finite bounds or end before they"
            " start."
        )
    order = np.argsort(starts)
    overlaps = np.count_nonzero(starts[order][1:] < np.maximum.accumulate(ends[order])[:-1] - SAME)
    if overlaps:
        check.warnings.append(
            f"{overlaps} of {len(starts)} rows of {name} begin before an earlier one has ended."
        )


# --- behaviour


def _check_behaviour(session: Session, check: SessionCheck) -> None:
    if not (keys := session.behaviour_keys):
        check.warnings.append(
            "there is no behaviour: the session can be decoded, but not trained on or scored."
        )
        return
    rates = {key.rsplit(".", 1)[0]: np.nan for key in keys}
    for series in rates:
        key = next(key for key in keys if key.startswith(f"{series}."))
        rates[series] = _check_times(session.behaviour(key), series, check)
    try:
        readout = default_readout(session)
        check.numbers |= {
            "key": readout.value_key,
            "sampling_rate": rates[readout.value_key.rsplit(".", 1)[0]],
        }
    except PoyoError as error:
        readout = None
        check.warnings.append(f"there is no default readout: {error}")
    where = Intervals.from_pairs([])
    for split in [session.split(name) for name in SPLITS if session.has_split(name)] or [
        session.domain
    ]:
        where = where.union(split)
    for key in keys:
        is_decoded = readout is not None and readout.value_key == key
        _check_values(session.behaviour(key), where, readout if is_decoded else None, check)


def _check_clocks(session: Session, check: SessionCheck) -> None:
    """Note times in another unit, clocks without a common zero, and labels of classes."""
    with contextlib.suppress(PoyoError):  # of behaviour that cannot be read, which is told already
        check.warnings += find_doubts(session)


def _check_times(behaviour: Behaviour, series: str, check: SessionCheck) -> float:
    """Check the time stamps of a series; return its sampling rate in Hz."""
    if behaviour.timestamps is None:
        return behaviour.sampling_rate
    times = np.asarray(behaviour.timestamps)
    if wrong := np.count_nonzero(~np.isfinite(times)):
        check.errors.append(
            f"{wrong:,} time stamps of {series} are NaN or infinite; remove those samples."
        )
        return np.nan
    if len(steps := np.diff(times)) == 0:
        return np.nan
    if falls := np.count_nonzero(steps < 0):
        check.errors.append(
            f"{falls:,} time stamps of {series} are earlier than the one before; sort its samples."
        )
        return np.nan
    usual = float(np.median(steps))
    far = steps > GAP * usual
    odd = float(np.mean(np.abs(steps - usual)[~far] > 0.1 * usual))
    check.judge(
        odd,
        f"{odd:.1%} of the steps between samples of {series} differ from the usual {usual:g} s.",
        fail=1,
    )
    if repeated := np.count_nonzero(steps == 0):
        check.warnings.append(
            f"{repeated:,} time stamps of {series} are the same as the one before."
        )
    gaps = (
        Intervals(times[:-1][far], times[1:][far])
        .intersect(behaviour.domain)
        .longer_than(2 * usual)
    )
    if len(gaps):
        text = (
            f"{len(gaps)} gaps between samples of {series}, {gaps.duration:g} s in all, belong to"
            " its domain."
        )
        check.warnings.append(text)
    return 1 / usual if usual else np.inf


def _check_values(
    behaviour: Behaviour, where: Intervals, readout: Readout | None, check: SessionCheck
) -> None:
    """Count samples that are missing in the splits, and add the range of decoded values."""
    key, num_samples, num_missing = behaviour.key, 0, 0
    speeds, targets = [], []
    mean, std = (readout.mean, readout.std) if readout else ((), ())
    if readout and len(mean) != behaviour.num_channels:
        raise SessionError(
            f"{key} has {behaviour.num_channels} channels, but its readout has {len(mean)}."
        )
    for start in range(0, behaviour.count, CHUNK):
        stop = min(start + CHUNK, behaviour.count)
        values = behaviour.values(start, stop)[
            where.contains(behaviour.times_at(np.arange(start, stop)))
        ]
        finite = np.isfinite(values).all(axis=1)
        num_samples += len(values)
        num_missing += int(np.count_nonzero(~finite))
        if readout:
            speeds.append(np.linalg.norm(values[finite], axis=1))
            targets.append(np.linalg.norm((values[finite] - mean) / std, axis=1))
    missing = num_missing / num_samples if num_samples else 1.0
    text = f"{missing:.1%} of the samples of {key} in the splits are missing or not finite."
    check.judge(missing, text, fail=0.99 if readout else 1)
    if not readout or missing == 1:
        return
    usual, high = map(float, np.percentile(np.concatenate(speeds), [50, 99]))
    scaled = float(np.percentile(np.concatenate(targets), 99))
    check.numbers |= {"missing": missing, "median": usual, "high": high, "scaled": scaled}
    if not SLOW <= scaled <= FAST:
        check.warnings.append(
            f"99% of {key} are below {high:.3g}, which is {scaled:.3g} of the readout's standard"
            f" deviation (of about {max(std):.3g}) and should be {SLOW:g} to {FAST:g}; is it in"
            " another unit?"
        )


def some(names: Sequence[str]) -> str:
    """Join the first names of a list, and say how many more there are."""
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)
