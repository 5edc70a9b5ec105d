"""Cut windows out of sessions, and assemble them in arrays of a fixed shape."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int, Int8, Int32
from numpy.typing import ArrayLike

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import sample_weights
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError
from poyo_jax.tasks import Regression, Task
from poyo_jax.types import PADDING, SPIKE, START, STOP, Batch, Readout

REGRESSION = Regression()


@dataclass(frozen=True, eq=False)
class ModelSession:
    """A session with its readout, its rows of the embedding tables, and its intervals."""

    session: Session
    readout: Readout
    unit_rows: Int[np.ndarray, " units"]
    session_row: int
    intervals: Intervals  # samples outside get weight 0
    task: Task = REGRESSION  # how the behaviour is trained and scored

    @classmethod
    def build(
        cls,
        session: Session,
        readout: Readout,
        units: Vocab,
        sessions: Vocab,
        intervals: Intervals,
        task: Task = REGRESSION,
    ):
        """Look up the session's rows in the vocabularies of units and sessions."""
        unit_rows = units.rows(session.unit_names)
        session_row = int(sessions.rows([session.id])[0])
        return cls(session, readout, unit_rows, session_row, intervals, task)


@dataclass(frozen=True, eq=False)
class Window:
    """Tokens and queries of one window, before it is packed."""

    session: ModelSession
    token_units: Int[np.ndarray, " tokens"]  # positions among the session's units
    token_kinds: Int8[np.ndarray, " tokens"]
    token_times: Float64[np.ndarray, " tokens"]  # s from the window's start
    query_times: Float32[np.ndarray, " queries"]
    targets: Float32[np.ndarray, "queries channels"]
    target_weights: Float32[np.ndarray, " queries"]


@dataclass(frozen=True)
class BatchShape:
    """Sizes to which the arrays of a batch are padded on one device."""

    windows: int
    units: int
    rows: int  # chunks; equal to windows in the padded layout
    tokens: int  # of one row
    queries: int
    channels: int
    packed: bool


def cut_window(
    source: ModelSession, start: float, window_length: float, kept: np.ndarray | None = None
) -> Window:
    """Cut [start, start + window_length) out of a session.

    `kept` is a mask of the units that stay, None for all.
    """
    times, units = source.session.spikes_between(start, start + window_length)
    if kept is not None:
        stays = kept[units].nonzero()[0]
        times, units = times[stays], units[stays]
    alive = np.arange(len(source.unit_rows))
    if kept is not None:
        alive = kept.nonzero()[0]
    # Start tokens come first, then stop tokens, then spikes.
    num_alive = len(alive)
    starts, stops = slice(num_alive), slice(num_alive, 2 * num_alive)
    token_units = np.concatenate([alive, alive, units])
    token_kinds = np.full(len(token_units), SPIKE, np.int8)
    token_kinds[starts], token_kinds[stops] = START, STOP
    token_times = np.empty(len(token_units))
    token_times[starts], token_times[stops] = 0.0, window_length
    np.subtract(times, start, out=token_times[stops.stop :])
    queries = _cut_queries(source, start, window_length)
    return Window(source, token_units, token_kinds, token_times, *queries)


def _cut_queries(source: ModelSession, start: float, window_length: float):
    """Return times, normalised targets and weights of the samples in the window.

    Samples that are missing or outside the intervals get weight 0.
    """
    readout = source.readout
    behaviour = source.session.behaviour(readout.value_key)
    first, last = behaviour.range(start, start + window_length)
    times = behaviour.times_at(np.arange(first, last))
    targets = source.task.normalise(behaviour.values(first, last), readout)
    weights = sample_weights(source.session, readout, times)
    measured = np.isfinite(targets).all(axis=-1)
    missing = ~(source.intervals.contains(times) & measured)
    if missing.any():
        weights[missing], targets[missing] = 0, 0
    query_times = (times - start).astype(np.float32)
    return query_times, targets.astype(np.float32), weights


def assemble(windows: Sequence[Window], window_ids: Sequence[int], shape: BatchShape) -> Batch:
    """Assemble windows in the arrays of a batch on one device.

    There may be fewer windows than the shape holds. Raises DataError when they do not fit.
    """
    unit_rows, bases = _unit_rows(windows, shape)
    counts = np.array([len(window.token_kinds) for window in windows], int)
    used = np.ones_like(counts)  # rows of every window
    if shape.packed:
        used = np.maximum(1, -(-counts // shape.tokens))
    lengths = used * shape.tokens
    fits = (np.cumsum(used) <= shape.rows) & (counts <= lengths)
    _check_fit(counts, fits, "tokens", shape)
    owners = np.repeat(np.arange(len(windows)), used)
    owners = _padded(owners, shape.rows, shape.windows - 1)
    first_rows = np.cumsum(used) - used
    places = np.arange(used.sum()) - np.repeat(first_rows, used)  # of rows in their windows
    size = (shape.rows, shape.tokens)
    lengths = lengths.tolist()
    units = []
    for base, window in zip(bases, windows, strict=True):
        units.append(base + window.token_units)
    kinds = [window.token_kinds for window in windows]
    times = [window.token_times for window in windows]
    times = _lay_out(times, lengths, np.zeros(size))
    rounded = times.astype(np.float32)
    session_rows = [window.session.session_row for window in windows]
    return Batch(
        unit_rows=unit_rows,
        token_units=_lay_out(units, lengths, np.zeros(size, np.int32)),
        token_kinds=_lay_out(kinds, lengths, np.full(size, PADDING, np.int8)),
        token_times=rounded,
        token_times_low=(times - rounded).astype(np.float32),
        token_windows=owners if shape.packed else None,
        token_offsets=_padded(places * shape.tokens, shape.rows, 0),
        session_rows=_padded(session_rows, shape.windows, 0),
        **_queries(windows, shape),
        window_ids=_padded(window_ids, shape.windows, 0).astype(np.uint32),
    )


def _queries(windows: Sequence[Window], shape: BatchShape) -> dict[str, np.ndarray]:
    """Assemble the arrays of a batch that belong to queries."""
    counts = np.array([len(window.query_times) for window in windows], int)
    _check_fit(counts, counts <= shape.queries, "samples", shape)
    lengths = [shape.queries] * len(windows)
    blank = np.zeros((shape.windows, shape.queries), np.float32)
    targets = np.zeros((*blank.shape, shape.channels), np.float32)
    return {
        "query_times": _lay_out([window.query_times for window in windows], lengths, blank),
        "targets": _lay_out([window.targets for window in windows], lengths, targets),
        "target_weights": _lay_out([window.target_weights for window in windows], lengths, blank),
    }


def _lay_out(pieces: Sequence[np.ndarray], lengths: Sequence[int], blank: np.ndarray) -> np.ndarray:
    """Concatenate pieces, each padded to its length, and pad the result to the shape of `blank`.

    The padding is taken from `blank`.
    """
    fill = blank.reshape(-1, *blank.shape[2:])
    padded = []
    for piece, length in zip(pieces, lengths, strict=True):
        padded += [piece, fill[len(piece) : length]]
    padded.append(fill[sum(lengths) :])
    flat = np.concatenate(padded, dtype=blank.dtype, casting="same_kind")
    return flat.reshape(blank.shape)


def _padded(values: ArrayLike, length: int, fill: int) -> Int32[np.ndarray, " length"]:
    values = np.asarray(values, np.int32)
    padding = np.full(length - len(values), fill, np.int32)
    return np.concatenate([values, padding])


def _unit_rows(windows: Sequence[Window], shape: BatchShape):
    """Return the rows of all units in the batch, and for every window its session's first unit.

    The padding row comes first.
    """
    rows, bases = [np.zeros(1, np.int32)], []
    begins, end = {}, 1
    for window in windows:
        key = id(window.session)
        if key not in begins:
            begins[key] = end
            rows.append(window.session.unit_rows)
            end += len(window.session.unit_rows)
        bases.append(begins[key])
    fits = np.array([end <= shape.units])
    _check_fit(np.array([end]), fits, "units", shape)
    rows.append(np.zeros(shape.units - end, np.int32))
    return np.concatenate(rows).astype(np.int32), bases


def _check_fit(counts: np.ndarray, fits: np.ndarray, what: str, shape: BatchShape) -> None:
    """Raise DataError with the first count that does not fit."""
    if not fits.all():
        raise DataError(
            f"{counts[np.argmin(fits)]} {what} do not fit {shape}; the shape must be made from the"
            " same sessions as the windows."
        )
