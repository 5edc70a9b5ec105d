"""Find what a test split shares with the train split: time, trials, neighbours, copies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poyo_jax.checks import check_choice
from poyo_jax.data.given import check_ids, session_list
from poyo_jax.data.intervals import SAME_TIME, Intervals
from poyo_jax.data.session import Session
from poyo_jax.errors import SessionError

NEAR = 1.0  # s; behaviour hardly changes within less
MOST_NEAR = 0.5  # share of the test time, above which a split tests neighbours
RUN = 16  # samples in a row that are compared; at least half of them differ from the one before
FEWEST_COPIED = 0.01  # share of the runs of the test split
BEGINNING = 200  # spikes; this many equal ones at the start are no accident
_SPREAD = 0x9E3779B97F4A7C15  # odd, so that multiplication modulo 2^64 is a bijection


@dataclass(frozen=True)
class Leakage:
    """What `find_leaks` has found."""

    split: str  #: the split that is to be unknown
    leaks: tuple[str, ...]  #: a sentence about each; empty if there is none
    near: float  #: share of the split's time within a second of train time; NaN without splits

    def __str__(self) -> str:
        """One line, or one for each leak."""
        if self.leaks:
            return "\n".join(f"leakage: {leak}" for leak in self.leaks)
        if np.isnan(self.near):
            return f"leakage: not checked, as no session has both train and {self.split}"
        return (
            f"leakage: none found; {100 * self.near:.0f} % of the {self.split} time lies within"
            f" {NEAR:g} s of train time"
        )


def find_leaks(
    sessions: Session | Sequence[Session],
    split: str = "test",
    *,
    value_keys: Mapping[str, str] | None = None,
) -> Leakage:
    """Compare a split of sessions with the train splits of the same sessions.

    Found are, in each session, time that is in both, trials with parts in both, and test time of
    which most lies beside train time, as after shuffling short pieces; and over all sessions,
    recordings that begin with the same spikes, and behaviour that is a copy of train behaviour.

    Args:
        sessions: all sessions that a model is trained or tested on.
        split: "test" or "valid".
        value_keys: the behaviour by session id; otherwise the first one of a session.

    Raises:
        ConfigError: there is no such split.
        DataError: `value_keys` names a session that is not there.
        SessionError: a session does not have the behaviour.
    """
    check_choice("split", split, ("test", "valid"))
    sessions = session_list(sessions)
    check_ids(sessions, value_keys or {}, "a value key")
    divided = [each for each in sessions if each.has_split("train") and each.has_split(split)]
    leaks = []
    for session in divided:
        leaks += [*_shared_time(session, split), *_shared_trials(session, split)]
    leaks += [*_neighbours(divided, split), *_equal_beginnings(sessions)]
    leaks += _copies(sessions, split, value_keys or {})
    return Leakage(split, tuple(leaks), _share_near(divided, split))


def _shared_time(session: Session, split: str) -> Iterator[str]:
    shared = session.split("train").intersect(session.split(split)).duration
    if shared > SAME_TIME:
        yield f"train and {split} of {session.id} have {shared:.3g} s in common."


def _shared_trials(session: Session, split: str) -> Iterator[str]:
    if "trials" not in session.interval_names:
        return
    trials = session.table("trials")
    starts, ends = (np.asarray(trials[name], np.float64) for name in ("start", "end"))
    seconds = [_covered(session.split(name), starts, ends) for name in ("train", split)]
    inside = [each > SAME_TIME for each in seconds]
    count = int(np.sum(inside[0] & inside[1]))
    if count:
        yield f"{count} of {len(starts)} trials of {session.id} have parts in train and in {split}."


def _covered(intervals: Intervals, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Seconds of the intervals between starts [trials] and ends [trials]."""
    lengths = intervals.ends - intervals.starts
    before = np.concatenate([[0.0], np.cumsum(lengths)])

    def until(times: np.ndarray) -> np.ndarray:
        row = np.searchsorted(intervals.starts, times, side="right") - 1
        of_row = np.clip(times - intervals.starts[row], 0, lengths[row])
        return np.where(row < 0, 0.0, before[np.maximum(row, 0)] + of_row)

    return until(ends) - until(starts)


def _share_near(sessions: Sequence[Session], split: str) -> float:
    """Share of the split's time within `NEAR` s of train time; NaN without sessions."""
    total = sum(session.split(split).duration for session in sessions)
    near = sum(_near(session, split).duration for session in sessions)
    return near / total if total else np.nan


def _near(session: Session, split: str) -> Intervals:
    return session.split(split).intersect(session.split("train").dilate(NEAR))


def _neighbours(sessions: Sequence[Session], split: str) -> Iterator[str]:
    shares = {session.id: _share_near([session], split) for session in sessions}
    wrong = {name: share for name, share in shares.items() if share > MOST_NEAR}
    if wrong:
        name = max(wrong, key=lambda name: wrong[name])
        yield (
            f"{len(wrong)} of {len(sessions)} sessions have most of their {split} time within"
            f" {NEAR:g} s of train time ({name}: {100 * wrong[name]:.0f} %), as after shuffling"
            " short pieces; behaviour hardly changes in that time."
        )


def _equal_beginnings(sessions: Sequence[Session]) -> Iterator[str]:
    """Pairs of recordings that begin with the same units at the same distances in time."""
    seen: dict[bytes, list[Session]] = {}
    for session in sessions:
        units = np.asarray(session.spike_units[:BEGINNING], np.int64)
        if len(units) < BEGINNING:
            continue
        for other in seen.setdefault(units.tobytes(), []):
            if (count := _num_equal(session, other)) >= BEGINNING:
                yield (
                    f"{other.id} and {session.id} begin with the same {count} spikes: one is a"
                    " beginning or a copy of the other."
                )
        seen[units.tobytes()].append(session)


def _num_equal(first: Session, second: Session) -> int:
    """Number of spikes at the start that are equal in both, apart from a constant in time."""
    count = min(len(first.spike_times), len(second.spike_times))
    times = [np.asarray(session.spike_times[:count]) for session in (first, second)]
    units = [np.asarray(session.spike_units[:count]) for session in (first, second)]
    shifts = (times[0] - times[0][0]) - (times[1] - times[1][0])
    differ = (np.abs(shifts) > SAME_TIME) | (units[0] != units[1])
    return int(np.argmax(differ)) if differ.any() else count


def _copies(sessions: Sequence[Session], split: str, keys: Mapping[str, str]) -> Iterator[str]:
    """Sessions of which runs of samples are, to the bit, runs of a train split."""
    trained = [session for session in sessions if session.has_split("train")]
    prints = [_fingerprints(session, "train", keys) for session in trained]
    known = np.concatenate([np.zeros(0, np.uint64), *prints])
    owners = np.repeat(np.arange(len(trained)), [len(each) for each in prints])
    order = np.argsort(known, kind="stable")
    known, owners = known[order], owners[order]
    for session in sessions:
        asked = _fingerprints(session, split, keys) if session.has_split(split) else known[:0]
        if not len(asked) or not len(known):
            continue
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        copied = known[place] == asked
        if copied.mean() > FEWEST_COPIED:
            source = trained[np.bincount(owners[place[copied]]).argmax()].id
            yield (
                f"{100 * copied.mean():.0f} % of the {split} behaviour of {session.id} is a copy"
                f" of train behaviour, most of it of {source}."
            )


def _fingerprints(session: Session, split: str, keys: Mapping[str, str]) -> np.ndarray:
    """A number for every run of `RUN` samples of the split in which the behaviour changes."""
    if not session.behaviour_keys:
        raise SessionError(f"session {session.id} has no behaviour that could be compared.")
    behaviour = session.behaviour(keys.get(session.id, session.behaviour_keys[0]))
    prints = [np.zeros(0, np.uint64)]
    for start, end in session.split(split):
        values = behaviour.values(*behaviour.range(start, end))
        if len(values) >= RUN:
            prints.append(_runs(values))
    return np.concatenate(prints)


def _runs(values: np.ndarray) -> np.ndarray:
    """Hashes of all runs in values [samples, channels] that are finite and mostly change."""
    samples = np.zeros(len(values), np.uint64)
    for channel in np.ascontiguousarray(values.T, np.float64):
        samples = (samples ^ channel.view(np.uint64)) * np.uint64(_SPREAD)
        samples ^= samples >> np.uint64(29)
    count = len(samples) - RUN + 1
    hashes = np.zeros(count, np.uint64)
    for place in range(RUN):
        hashes = (hashes + samples[place : place + count]) * np.uint64(_SPREAD)
    changes = np.concatenate([[0], np.cumsum(samples[1:] != samples[:-1])])
    missing = np.concatenate([[0], np.cumsum(~np.isfinite(values).all(axis=1))])
    num_changes = changes[RUN - 1 :] - changes[:count]
    num_missing = missing[RUN:] - missing[:count]
    return hashes[(num_changes >= RUN // 2) & (num_missing == 0)]
