"""Cut windows out of sessions, and assemble them in arrays of a fixed shape."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int, Int8, Int32
from numpy.typing import ArrayLike

from poyo_jax.config import ModelConfig
from poyo_jax.data.behaviour import Behaviour
from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.classes import readout_values
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import class_weights, sample_weights
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError
from poyo_jax.tasks import Task, choose_task
from poyo_jax.tasks.choose import column_ranges
from poyo_jax.types import PADDING, SPIKE, START, STOP, Batch, Readout, Readouts, each_readout


@dataclass(frozen=True, eq=False)
class SessionOutput:
    """An output of a model as one session has it."""

    number: int  # among the outputs of the model
    name: str  # of the output of the model
    readout: Readout
    task: Task  # how it is trained and scored
    columns: slice  # among the values that the model returns for a query
    calibration: tuple[float, ...] = ()  # factors of the standard deviations, if there are any


@dataclass(frozen=True, eq=False)
class ModelSession:
    """A session with its outputs, its rows of the embedding tables, and its intervals."""

    session: Session
    outputs: tuple[SessionOutput, ...]  # what it has of the outputs of the model, at least one
    unit_rows: Int[np.ndarray, " units"]
    session_row: int
    intervals: Intervals  # samples outside get weight 0
    model: ModelConfig

    @classmethod
    def build(
        cls,
        session: Session,
        readouts: Readouts,
        units: Vocab,
        sessions: Vocab,
        intervals: Intervals,
        model: ModelConfig | None = None,
        calibration: Mapping[str, tuple[float, ...]] | None = None,
    ):
        """Look up the session's rows in the vocabularies of units and sessions.

        Without a model, the only output is a regression of the only readout. The calibration holds
        factors of standard deviations by name of the output.
        """
        unit_rows = units.rows(session.unit_names)
        session_row = int(sessions.rows([session.id])[0])
        if model is None:
            (readout,) = each_readout(readouts)
            channels = len(readout.mean) or session.behaviour(readout.value_key).num_channels
            model = ModelConfig(num_channels=channels)
        outputs = tuple(_outputs(each_readout(readouts), model, calibration or {}))
        return cls(session, outputs, unit_rows, session_row, intervals, model)

    @property
    def readout(self) -> Readout:
        """Readout of the first output, which is the only one of most sessions."""
        return self.outputs[0].readout

    @property
    def tuned(self) -> Readout | None:
        """Readout of the first output of the model, to which units are tuned; None without it."""
        first = self.outputs[0]
        return first.readout if first.number == 0 else None

    def behaviour(self, output: SessionOutput) -> Behaviour:
        """The samples of an output."""
        return self.session.behaviour(output.readout.value_key)


def _outputs(
    readouts: Sequence[Readout], model: ModelConfig, calibration: Mapping[str, tuple[float, ...]]
) -> Iterator[SessionOutput]:
    """The outputs of a session in the order of the model's outputs."""
    by_number = {output_number(readout, model): readout for readout in readouts}
    columns = column_ranges(model)
    for number, (output, own) in enumerate(zip(model.all_outputs, columns, strict=True)):
        if number in by_number:
            task = choose_task(output)
            factors = calibration.get(output.name, ())
            yield SessionOutput(number, output.name, by_number[number], task, own, factors)


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
    query_outputs: Int8[np.ndarray, " queries"]  # numbers of the outputs, ascending


@dataclass(frozen=True)
class BatchShape:
    """Sizes to which the arrays of a batch are padded on one device."""

    windows: int
    units: int
    rows: int  # chunks; equal to windows in the padded layout
    tokens: int  # of one row
    queries: int
    channels: int  # of the widest target
    packed: bool
    several: bool = False  # whether the model has several outputs


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
    """Return times, normalised targets, weights and outputs of the samples in the window.

    Samples that are missing or outside the intervals get weight 0. Targets have as many columns as
    the widest of the session's outputs.
    """
    pieces = []
    for output in source.outputs:
        pieces.append(_cut_output(source, output, start, window_length))
    if len(pieces) == 1:
        return pieces[0]
    width = max(targets.shape[1] for _, targets, _, _ in pieces)
    joined = []
    for times, targets, *others in pieces:
        joined.append((times, _widened(targets, width), *others))
    return tuple(np.concatenate(arrays) for arrays in zip(*joined, strict=True))


def _cut_output(source: ModelSession, output: SessionOutput, start: float, window_length: float):
    readout, behaviour = output.readout, source.behaviour(output)
    first, last = behaviour.range(start, start + window_length)
    times = behaviour.times_at(np.arange(first, last))
    values = readout_values(behaviour, readout, first, last)
    targets = output.task.normalise(values, readout)
    weights = sample_weights(source.session, readout, times)
    measured = np.isfinite(targets).all(axis=-1)
    missing = ~(source.intervals.contains(times) & measured)
    if missing.any():
        weights[missing], targets[missing] = 0, 0
    if readout.class_weights:
        weights *= class_weights(readout)[targets[:, 0].astype(int)]
    query_times = (times - start).astype(np.float32)
    numbers = np.full(len(times), output.number, np.int8)
    return query_times, targets.astype(np.float32), weights, numbers


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
        query_outputs=_query_outputs(windows, shape) if shape.several else None,
    )


def _queries(windows: Sequence[Window], shape: BatchShape) -> dict[str, np.ndarray]:
    """Assemble the arrays of a batch that belong to queries."""
    counts = np.array([len(window.query_times) for window in windows], int)
    _check_fit(counts, counts <= shape.queries, "samples", shape)
    lengths = [shape.queries] * len(windows)
    blank = np.zeros((shape.windows, shape.queries), np.float32)
    targets = np.zeros((*blank.shape, shape.channels), np.float32)
    wide = [_widened(window.targets, shape.channels) for window in windows]
    return {
        "query_times": _lay_out([window.query_times for window in windows], lengths, blank),
        "targets": _lay_out(wide, lengths, targets),
        "target_weights": _lay_out([window.target_weights for window in windows], lengths, blank),
    }


def _query_outputs(
    windows: Sequence[Window], shape: BatchShape
) -> Int8[np.ndarray, "windows queries"]:
    pieces = [window.query_outputs for window in windows]
    blank = np.zeros((shape.windows, shape.queries), np.int8)
    return _lay_out(pieces, [shape.queries] * len(windows), blank)


def _widened(targets: np.ndarray, width: int) -> np.ndarray:
    """Targets with columns of zeros up to the width."""
    missing = width - targets.shape[1]
    return np.pad(targets, ((0, 0), (0, missing))) if missing else targets


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
