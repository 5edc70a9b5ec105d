"""Select a small labelled subset of the train split, and estimate the target scale from it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from poyo_jax.checks import POSITIVE, SEED, check_number, integer, number
from poyo_jax.data.given import one_session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout, known_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.types import Readout

PIECE_WINDOWS = 2  # length of a labelled piece, in windows
PIECES_OF_FOLD = 4  # of cross-validation
PRIOR_SECONDS = 60.0  # weight of the scale of known sessions, as seconds of labels
SHORTEST = 1e-6  # s, of a piece; what is shorter comes from rounding
GOLDEN = (5**0.5 - 1) / 2  # its first multiples, modulo 1, are evenly spread for any number


def labelled_intervals(
    session: Session,
    window_length: float,
    *,
    num_seconds: float | None = None,
    num_trials: int | None = None,
    seed: int = 0,
) -> Intervals:
    """Select seconds or trials of the train split at random; all of it without either.

    Of two amounts with the same seed, the larger one contains the smaller one. Seconds come in
    pieces of up to two windows, spread evenly over the split: behaviour drifts, and consecutive
    seconds may hold a single movement.

    Raises:
        DataError: fewer seconds than a window, or more seconds or trials than the train split has.
        SessionError: trials are wanted, and the session has none.
        ConfigError: a number that cannot be, such as -1 s.
    """
    session = one_session(session)
    check_number("window_length", window_length, POSITIVE)
    check_number("num_seconds", num_seconds, number(above=0, or_none=True))
    check_number("num_trials", num_trials, integer(1, or_none=True))
    check_number("seed", seed, SEED)
    train = session.split("train")
    if num_trials is not None:
        return _trials(session, train, num_trials, seed)
    if num_seconds is not None:
        return _seconds(session, train, num_seconds, window_length, seed)
    return train


def labelled_readout(session: Session, labels: Intervals, known: Sequence[Readout]) -> Readout:
    """The default readout, with a measured mean and std shrunk towards those of `known` readouts.

    A few seconds may hold movements in one direction only, while the sessions of a data set have
    similar scales. So mean and variance are those of a mixture of the labels and PRIOR_SECONDS of
    known sessions with the same behaviour.
    """
    measured = default_readout(session, labels)
    similar = [readout for readout in known if _measures_the_same(readout, measured)]
    is_constant = known_readout(session.brainset_id, session.session_id) is not None
    if not similar or is_constant:
        return measured
    share = labels.duration / (labels.duration + PRIOR_SECONDS)
    mean, variance = np.array(measured.mean), np.square(measured.std)
    prior_mean = np.mean([readout.mean for readout in similar], axis=0)
    prior_variance = np.mean(np.square([readout.std for readout in similar]), axis=0)
    between = share * (1 - share) * np.square(mean - prior_mean)
    mixed_mean = share * mean + (1 - share) * prior_mean
    mixed_std = np.sqrt(share * variance + (1 - share) * prior_variance + between)
    return replace(measured, mean=tuple(mixed_mean.tolist()), std=tuple(mixed_std.tolist()))


def _measures_the_same(known: Readout, measured: Readout) -> bool:
    same_values = (known.value_key, known.kind) == (measured.value_key, measured.kind)
    return same_values and len(known.mean) == len(measured.mean)


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
    pieces = np.concatenate([cut_pieces(start, end, length) for start, end in train])  # [pieces, 2]
    starts, ends = pieces[_spread(len(pieces), seed)].T
    earlier = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])  # seconds of earlier pieces
    ends = np.minimum(ends, starts + num_seconds - earlier)
    taken = ends - starts > SHORTEST
    return Intervals.from_arrays(starts[taken], ends[taken])


def _spread(count: int, seed: int) -> np.ndarray:
    """A permutation whose first elements are evenly spread for any number; the seed rotates it."""
    ranks = np.argsort(np.argsort(np.arange(count) * GOLDEN % 1))
    return (ranks + np.random.default_rng([seed, 3]).integers(count)) % count


def cut_pieces(start: float, end: float, length: float) -> np.ndarray:
    """Cut an interval into the fewest equal pieces that are no longer than `length`."""
    num_pieces = max(1, int(np.ceil((end - start) / length - 1e-9)))
    edges = np.linspace(start, end, num_pieces + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def cut_folds(labels: Intervals, window_length: float, num_folds: int) -> list[Intervals]:
    """Deal labels into folds, each with pieces from all over them, because behaviour drifts.

    The last folds are empty where there are fewer pieces, of two windows (s) at least, than folds.
    """
    shortest = PIECE_WINDOWS * window_length
    length = max(shortest, labels.duration / (PIECES_OF_FOLD * num_folds))
    pieces = np.concatenate([cut_pieces(start, end, length) for start, end in labels])
    return [Intervals.from_arrays(*pieces[fold::num_folds].T) for fold in range(num_folds)]


def _trials(session: Session, train: Intervals, num_trials: int, seed: int) -> Intervals:
    trials = session.intervals("trials")
    within = [trials.intersect(Intervals.from_pairs([block])) for block in train]
    starts = np.concatenate([inside.starts for inside in within])
    ends = np.concatenate([inside.ends for inside in within])
    whole = np.isin(starts, trials.starts) & np.isin(ends, trials.ends)
    starts, ends = starts[whole], ends[whole]
    if num_trials > len(starts):
        raise DataError(
            f"{num_trials} trials are asked of session {session.id}, but its train split has"
            f" {len(starts)} whole ones. Ask for fewer."
        )
    chosen = np.random.default_rng([seed, 3]).permutation(len(starts))[:num_trials]
    return Intervals.from_arrays(starts[chosen], ends[chosen])
