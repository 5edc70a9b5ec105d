"""Which part of a train split is taken for labelled, when there shall be little of it, and what it
tells of scale.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout, default_readout, known_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError

PIECE_WINDOWS = 2  # labels come in pieces of so many windows
PRIOR_SECONDS = 60.0  # of labels that weigh as much as the scale of the sessions that a model knows
GOLDEN = (5**0.5 - 1) / 2  # whose multiples, modulo 1, lie evenly however many are taken


def labelled_intervals(
    session: Session,
    window_length: float,
    *,
    num_seconds: float | None = None,
    num_trials: int | None = None,
    seed: int = 0,
) -> Intervals:
    """So many seconds or trials of the train split, drawn by `seed`; all of it without either.

    More labels contain the fewer ones of the same seed. Seconds come in pieces of up to two windows
    that lie evenly in the split, since behaviour drifts: consecutive seconds may hold a single
    movement.

    Raises:
        DataError: fewer seconds than a window, or more seconds or trials than the train split
        holds.
        SessionError: trials are asked for, and the session has none.
    """
    train = session.split("train")
    if num_trials is not None:
        return _trials(session, train, num_trials, seed)
    return (
        train if num_seconds is None else _seconds(session, train, num_seconds, window_length, seed)
    )


def labelled_readout(session: Session, labels: Intervals, known: Sequence[Readout]) -> Readout:
    """The default readout, whose mean and std, if they are measured, lean on those of `known`
    sessions.

    A few seconds may hold movements to one side only, while sessions of one data set are scaled
    alike: so mean and variance are those of a mixture of the labels and PRIOR_SECONDS of sessions
    with the same behaviour.
    """
    measured = default_readout(session, labels)
    others = [other for other in known if other.value_key == measured.value_key]
    if (
        not others or known_readout(session.brainset_id, session.session_id) is not None
    ):  # which is not measured
        return measured
    share = labels.duration / (labels.duration + PRIOR_SECONDS)
    mean, prior_mean = np.array(measured.mean), np.mean([other.mean for other in others], axis=0)
    variance, prior = (
        np.square(measured.std),
        np.mean(np.square([other.std for other in others]), axis=0),
    )
    mixed = (
        share * variance + (1 - share) * prior + share * (1 - share) * np.square(mean - prior_mean)
    )
    mean = share * mean + (1 - share) * prior_mean
    return replace(measured, mean=tuple(mean.tolist()), std=tuple(np.sqrt(mixed).tolist()))


def _seconds(
    session: Session, train: Intervals, num_seconds: float, window_length: float, seed: int
) -> Intervals:
    if num_seconds < window_length:
        raise DataError(
            f"{num_seconds:g} s of labels are fewer than a window of {window_length:g} s. Label at"
            f" least that much of session {session.id}."
        )
    if num_seconds > train.duration + 1e-9:
        raise DataError(
            f"{num_seconds:g} s of labels are asked of session {session.id}, but its train split"
            f" has {train.duration:g} s. Ask for less, or for all of it with None."
        )
    length = PIECE_WINDOWS * window_length
    pieces = np.concatenate([_cut(start, end, length) for start, end in train])  # [pieces, 2]
    pieces = pieces[_spread(len(pieces), seed)]
    before = np.concatenate([[0], np.cumsum(pieces[:, 1] - pieces[:, 0])[:-1]])
    ends = np.minimum(pieces[:, 1], pieces[:, 0] + num_seconds - before)
    taken = ends > pieces[:, 0]
    return Intervals.from_arrays(pieces[taken, 0], ends[taken])


def _spread(count: int, seed: int) -> np.ndarray:
    """A permutation whose first elements, however many, lie evenly; the seed turns it."""
    ranks = np.argsort(np.argsort(np.arange(count) * GOLDEN % 1))
    return (ranks + np.random.default_rng([seed, 3]).integers(count)) % count


def _cut(start: float, end: float, length: float) -> np.ndarray:
    """Equal pieces of an interval, as few as are no longer than `length`."""
    edges = np.linspace(start, end, max(1, int(np.ceil((end - start) / length - 1e-9))) + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _trials(session: Session, train: Intervals, num_trials: int, seed: int) -> Intervals:
    trials = session.intervals("trials")
    within = [trials.intersect(Intervals.from_pairs([block])) for block in train]
    starts, ends = (
        np.concatenate([getattr(some, name) for some in within]) for name in ("starts", "ends")
    )
    whole = np.isin(starts, trials.starts) & np.isin(ends, trials.ends)
    starts, ends = starts[whole], ends[whole]
    if num_trials > len(starts):
        raise DataError(
            f"{num_trials} trials are asked of session {session.id}, but its train split has"
            f" {len(starts)} whole ones. Ask for fewer."
        )
    chosen = np.random.default_rng([seed, 3]).permutation(len(starts))[:num_trials]
    return Intervals.from_arrays(starts[chosen], ends[chosen])
