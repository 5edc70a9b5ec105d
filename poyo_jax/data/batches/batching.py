"""Deal windows over devices, and arrange them in arrays of one of a few shapes."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int

from poyo_jax.config import DataConfig
from poyo_jax.data.batches.tokens import BatchShape, ModelSession, Window, assemble
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.tasks import choose_task
from poyo_jax.types import PADDING, Batch

ROW_MULTIPLE = 8
MAX_SHAPES = 4  # of a training run, hence compilations of its step
DRAWN_BATCHES = 100  # whose fullest device decides the shapes


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Raise ConfigError unless the devices can share the windows of a step evenly."""
    if batch_size % num_devices:
        raise ConfigError(
            f"DataConfig.batch_size is {batch_size}, which {num_devices} devices cannot share"
            f" evenly. Use {round_up(batch_size, num_devices)}, or another number of devices."
        )


def deal(sizes: Sequence[float] | np.ndarray, num_shards: int) -> Int[np.ndarray, " windows"]:
    """Assign every window to a shard, equally many windows to each.

    Windows are dealt from the largest to the smallest in alternating direction.
    """
    order = np.argsort(-np.asarray(sizes), kind="stable")
    turns, shards = np.divmod(np.arange(len(order)), num_shards)
    dealt = np.empty(len(order), np.int64)
    backwards = num_shards - 1 - shards
    dealt[order] = np.where(turns % 2 == 0, shards, backwards)
    return dealt


def arrange(
    shards: Sequence[list[Window]], ids: Sequence[np.ndarray], shapes: Sequence[BatchShape]
) -> Batch:
    """Make a batch in the smallest shape that fits the windows of every device.

    `ids` are the numbers of each device's windows in the global batch.
    """
    shape = _smallest_shape(shards, shapes)
    batches = []
    for windows, numbers in zip(shards, ids, strict=True):
        batches.append(assemble(windows, numbers.tolist(), shape))
    if len(batches) == 1:
        return batches[0]
    fields = []
    for arrays in zip(*batches, strict=True):
        fields.append(None if arrays[0] is None else np.concatenate(arrays))
    return Batch(*fields)


def _smallest_shape(shards: Sequence[list[Window]], shapes: Sequence[BatchShape]) -> BatchShape:
    """Return the first shape that fits the windows of every device."""
    packed, tokens = shapes[0].packed, shapes[0].tokens
    needed = 0
    for windows in shards:
        sizes = [len(window.token_kinds) for window in windows]
        if packed:
            rows = sum(rows_of(size, tokens) for size in sizes)
            needed = max(needed, rows)
        else:
            needed = max(needed, *sizes, 0)
    if packed:
        return next(shape for shape in shapes if shape.rows >= needed)
    return next(shape for shape in shapes if shape.tokens >= needed)


def shape_index(batch: Batch, num_shards: int, shapes: Sequence[BatchShape]) -> int:
    """Return the index of the batch's shape among `shapes`."""
    sizes = [(shape.rows * num_shards, shape.tokens) for shape in shapes]
    return sizes.index(batch.token_kinds.shape)


def grow(batch: Batch, num_shards: int, shape: BatchShape) -> Batch:
    """Pad a batch to a larger shape of the same run: with more rows per device, or longer rows."""
    rows, tokens = batch.token_kinds.shape
    extra_rows = shape.rows - rows // num_shards
    extra_tokens = shape.tokens - tokens
    extra = [(0, 0), (0, extra_rows), (0, extra_tokens)]
    if not any(after for _, after in extra):
        return batch

    def larger(array: np.ndarray, fill: int) -> np.ndarray:
        by_shard = array.reshape(num_shards, -1, *array.shape[1:])
        padded = np.pad(by_shard, extra[: by_shard.ndim], constant_values=fill)
        return padded.reshape(-1, *padded.shape[2:])

    fills = {
        "token_units": 0,
        "token_kinds": PADDING,
        "token_times": 0,
        "token_times_low": 0,
        "token_offsets": 0,
    }
    grown = {}
    for name, fill in fills.items():
        grown[name] = larger(getattr(batch, name), fill)
    if batch.token_windows is not None:
        grown["token_windows"] = larger(batch.token_windows, shape.windows - 1)
    return batch._replace(**grown)


def base_shape(
    sessions: Sequence[ModelSession], window_length: float, windows: int, config: DataConfig
) -> BatchShape:
    """Return the shape of a batch of these sessions, with rows and tokens still to be chosen.

    `windows` is the number of windows of a device. Raises DataError when the sessions' only
    readouts differ in their number of channels.
    """
    _check_channels(sessions)
    units = sorted([len(source.unit_rows) for source in sessions], reverse=True)
    queries = 1
    for source in sessions:
        samples = [source.behaviour(each).max_samples(window_length) for each in source.outputs]
        queries = max(queries, sum(samples))
    outputs = sessions[0].model.all_outputs
    widths = [choose_task(output).target_size(output.num_channels) for output in outputs]
    return BatchShape(
        windows=windows,
        units=round_up(1 + sum(units[:windows]), ROW_MULTIPLE),
        rows=windows,
        tokens=config.chunk_tokens,
        queries=queries,
        channels=max(widths),
        packed=config.layout == "packed",
        several=len(outputs) > 1,
    )


def _check_channels(sessions: Sequence[ModelSession]) -> None:
    if len({source.model.all_outputs for source in sessions}) != 1:
        listed = "; ".join(f"{s.session.id}: {s.model.num_channels}" for s in sessions)
        raise DataError(
            f"the sessions' behaviours differ in their number of channels ({listed}). A model"
            " decodes one number of channels: choose readouts with equally many, or train two"
            " models."
        )


def growing_shapes(
    shape: BatchShape,
    counts: np.ndarray,
    expected: np.ndarray,
    largest: int,
    num_devices: int,
    layout: str,
) -> tuple[BatchShape, ...]:
    """Choose at most MAX_SHAPES shapes of growing size.

    `counts` are typical numbers of tokens of a window, `expected` those by which windows are dealt,
    and `largest` is the largest. The first shape fits most batches, the second nearly all, and the
    last fits every batch. All devices use the shape that the fullest device needs.
    """
    tokens = shape.tokens
    if layout == "padded":
        limit = -(-largest // tokens) * tokens
        guesses = counts.max() * np.array([0.85, 1.2])
        guesses = -(-guesses // tokens) * tokens
        guesses = np.minimum(guesses, limit).astype(int)
        sizes = {*guesses.tolist(), limit}
        return tuple(replace(shape, tokens=size) for size in sorted(sizes))
    rows = np.ceil(counts / tokens)
    windows = shape.windows
    mean, deviation = rows.mean() * windows, rows.std() * math.sqrt(windows)
    if num_devices > 1:
        fullest = _rows_of_fullest(rows, expected, windows, num_devices)
        mean, deviation = fullest.mean(), fullest.std()
    guesses = mean + np.array([1.0, 4.0, 10.0]) * deviation
    limit = windows * max(1, -(-largest // tokens))
    sizes = set()
    for size in (*guesses.tolist(), limit):
        sizes.add(round_up(min(size, limit), ROW_MULTIPLE))
    return tuple(replace(shape, rows=size) for size in sorted(sizes))


def _rows_of_fullest(
    rows: np.ndarray, expected: np.ndarray, windows: int, num_devices: int
) -> Float64[np.ndarray, " batches"]:
    """Rows of the fullest device in batches that are drawn from the given windows and dealt."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(rows), size=(DRAWN_BATCHES, windows * num_devices))
    fullest = []
    for batch in drawn:
        shards = deal(expected[batch], num_devices)
        fullest.append(np.bincount(shards, rows[batch]).max())
    return np.array(fullest)


def padding_fraction(batch: Batch) -> float:
    """Return the fraction of token places that hold padding."""
    return float(np.mean(batch.token_kinds == PADDING))


def rows_of(tokens: int, row_tokens: int) -> int:
    """Return the number of chunks that a window fills, at least one."""
    return max(1, -(-tokens // row_tokens))


def common_size(value: float) -> int:
    """Return one of a few sizes that is not below the value, by at most a quarter above it.

    The sizes are the multiples of ROW_MULTIPLE, from four of them on only four to every doubling.
    Arrays of other recordings then often have the same shape, and share a compiled program.
    """
    doublings = max(0, int(value / ROW_MULTIPLE).bit_length() - 3)
    return round_up(value, ROW_MULTIPLE << doublings)


def round_up(value: float, multiple: int) -> int:
    """Return the smallest multiple that is not below the value."""
    return math.ceil(value / multiple) * multiple
