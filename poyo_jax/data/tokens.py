"""Windows of sessions as arrays of a fixed shape: tokens, queries, targets, weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int, Int8

from poyo_jax.config import UnitDropoutConfig
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout, sample_weights
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError
from poyo_jax.types import PADDING, SPIKE, START, STOP, Batch


@dataclass(frozen=True, eq=False)
class ModelSession:
    """A session as a model sees it: with its readout, its rows of the tables, and the intervals that count."""

    session: Session
    readout: Readout
    unit_rows: Int[np.ndarray, " units"]
    session_row: int
    intervals: Intervals  # samples outside get weight 0

    @classmethod
    def build(cls, session: Session, readout: Readout, units: Vocab, sessions: Vocab, intervals: Intervals):
        return cls(session, readout, units.rows(session.unit_names), int(sessions.rows([session.id])[0]), intervals)


@dataclass(frozen=True, eq=False)
class Window:
    """One window before it is packed: its tokens, and the samples asked for."""

    session: ModelSession
    token_units: Int[np.ndarray, " tokens"]  # positions among the session's units
    token_kinds: Int8[np.ndarray, " tokens"]
    token_times: Float64[np.ndarray, " tokens"]  # s from the window's start
    first_sample: int  # of the behaviour; the samples asked for follow each other
    query_times: Float32[np.ndarray, " queries"]
    targets: Float32[np.ndarray, "queries channels"]
    target_weights: Float32[np.ndarray, " queries"]


@dataclass(frozen=True)
class BatchShape:
    """Sizes to which the arrays of a batch are padded, on one device."""

    windows: int
    units: int
    rows: int  # chunks; equal to windows in the padded layout
    tokens: int  # of one row
    queries: int
    channels: int
    packed: bool


def cut_window(source: ModelSession, start: float, window_length: float, kept: np.ndarray | None = None) -> Window:
    """Cut [start, start + window_length) out of a session; `kept` tells which units stay (None: all)."""
    times, units = source.session.spikes_between(start, start + window_length)
    if kept is not None:
        stays = kept[units]
        times, units = times[stays], units[stays]
    alive = np.arange(len(source.unit_rows)) if kept is None else np.flatnonzero(kept)
    kinds = np.full(2 * len(alive) + len(times), SPIKE, np.int8)
    kinds[: len(alive)], kinds[len(alive) : 2 * len(alive)] = START, STOP
    edges = np.repeat([0.0, window_length], len(alive))
    queries = _cut_queries(source, start, window_length)
    return Window(
        source, np.concatenate([alive, alive, units]), kinds, np.concatenate([edges, times - start]), *queries
    )


def _cut_queries(source: ModelSession, start: float, window_length: float):
    """Samples of the window, normalised; missing ones and those outside the intervals get weight 0."""
    readout = source.readout
    behaviour = source.session.behaviour(readout.value_key)
    first, last = behaviour.range(start, start + window_length)
    times = behaviour.times_at(np.arange(first, last))
    targets = (behaviour.values(first, last) - np.array(readout.mean)) / np.array(readout.std)
    valid = np.isfinite(targets).all(axis=-1) & source.intervals.contains(times)
    weights = np.where(valid, sample_weights(source.session, readout, times), 0)
    targets = np.where(valid[:, None], targets, 0)
    return first, (times - start).astype(np.float32), targets.astype(np.float32), weights.astype(np.float32)


def draw_kept_units(num_units: int, config: UnitDropoutConfig, rng: np.random.Generator) -> np.ndarray:
    """Boolean mask of the units that a training window keeps.

    The number kept follows torch_brain's `UnitDropout` as it is, not as documented: its rejection test divides by a
    fresh uniform draw, so that a count x is accepted with probability c (1 - ln c), c = density(x) / 10. With fewer
    units than `min_units` all stay.
    """
    if num_units < config.min_units:
        return np.ones(num_units, bool)
    proposal, first, second = rng.random((3, 64))
    counts = config.min_units + proposal * (config.max_units - config.min_units)
    rising = 1 + (config.peak - 1) * (counts - config.min_units) / max(config.mode_units - config.min_units, 1e-9)
    falling = config.peak - (config.peak - 1) * (counts - config.mode_units) / max(
        config.max_units - config.mode_units, 1e-9
    )
    accepted = 10 * first * second <= np.where(counts <= config.mode_units, rising, falling)
    count = int(counts[np.argmax(accepted)]) if accepted.any() else num_units
    kept = np.zeros(num_units, bool)
    kept[rng.permutation(num_units)[:count]] = True
    return kept


def assemble(windows: Sequence[Window], window_ids: Sequence[int], shape: BatchShape) -> Batch:
    """Arrange windows in the arrays of a batch on one device. There may be fewer windows than the shape holds."""
    unit_rows, bases = _unit_rows(windows, shape)
    rows, tokens = shape.rows, shape.tokens
    token_units = np.zeros((rows, tokens), np.int32)
    token_kinds = np.full((rows, tokens), PADDING, np.int8)
    token_times, token_times_low = np.zeros((2, rows, tokens), np.float32)
    token_windows = np.full(rows, shape.windows - 1, np.int32)
    token_offsets = np.zeros(rows, np.int32)
    query_times, target_weights = np.zeros((2, shape.windows, shape.queries), np.float32)
    targets = np.zeros((shape.windows, shape.queries, shape.channels), np.float32)
    session_rows, ids = np.zeros(shape.windows, np.int32), np.zeros(shape.windows, np.uint32)
    row = 0
    for place, (window, window_id) in enumerate(zip(windows, window_ids, strict=True)):
        count = len(window.token_kinds)
        used = max(1, -(-count // tokens)) if shape.packed else 1
        _check_fit(row + used <= rows and count <= used * tokens, "tokens", count, shape)
        here = slice(row * tokens, row * tokens + count)
        rounded = window.token_times.astype(np.float32)
        token_units.reshape(-1)[here] = bases[place] + window.token_units
        token_kinds.reshape(-1)[here] = window.token_kinds
        token_times.reshape(-1)[here] = rounded
        token_times_low.reshape(-1)[here] = window.token_times - rounded
        token_windows[row : row + used] = place
        token_offsets[row : row + used] = np.arange(used) * tokens
        row += used
        queries = len(window.query_times)
        _check_fit(queries <= shape.queries, "samples", queries, shape)
        query_times[place, :queries] = window.query_times
        targets[place, :queries] = window.targets
        target_weights[place, :queries] = window.target_weights
        session_rows[place], ids[place] = window.session.session_row, window_id
    return Batch(
        unit_rows, token_units, token_kinds, token_times, token_times_low, token_windows if shape.packed else None,
        token_offsets, session_rows, query_times, targets, target_weights, ids,
    )  # fmt: skip


def _unit_rows(windows: Sequence[Window], shape: BatchShape):
    """The units of all sessions in the batch, after the padding row, and for every window where its session's begin."""
    rows, bases, begins, end = [np.zeros(1, np.int32)], [], {}, 1
    for window in windows:
        key = id(window.session)
        if key not in begins:
            begins[key] = end
            rows.append(window.session.unit_rows)
            end += len(window.session.unit_rows)
        bases.append(begins[key])
    _check_fit(end <= shape.units, "units", end, shape)
    return np.concatenate([*rows, np.zeros(shape.units - end, np.int32)]).astype(np.int32), bases


def _check_fit(fits: bool, what: str, count: int, shape: BatchShape) -> None:
    if not fits:
        raise DataError(
            f"{count} {what} do not fit {shape}; the shape must be made from the same sessions as the windows."
        )
