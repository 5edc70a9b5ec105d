"""Windows dealt over devices and arranged in arrays of one shape."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from poyo_jax.config import DataConfig
from poyo_jax.data.batches.tokens import BatchShape, ModelSession, Window, assemble
from poyo_jax.errors import DataError
from poyo_jax.types import PADDING, Batch

ROW_MULTIPLE = 8
MAX_SHAPES = 4  # of a training run, hence compilations of its step


def deal(sizes: Sequence[float] | np.ndarray, num_shards: int) -> Int[np.ndarray, " windows"]:
    """The shard of every window: equally many each, dealt from the largest down in alternating
    direction.
    """
    order = np.argsort(-np.asarray(sizes), kind="stable")
    turns, shards = np.divmod(np.arange(len(order)), num_shards)
    dealt = np.empty(len(order), np.int64)
    dealt[order] = np.where(turns % 2 == 0, shards, num_shards - 1 - shards)
    return dealt


def arrange(
    parts: Sequence[list[Window]], ids: Sequence[np.ndarray], shapes: Sequence[BatchShape]
) -> Batch:
    """The windows of each device, with their numbers in the global batch, in the smallest shape
    that fits all.
    """
    sizes = [[len(window.token_kinds) for window in part] for part in parts]
    tokens = shapes[0].tokens
    if shapes[0].packed:
        needed = max(sum(rows_of(size, tokens) for size in part) for part in sizes)
        shape = next(shape for shape in shapes if shape.rows >= needed)
    else:
        needed = max((size for part in sizes for size in part), default=0)
        shape = next(shape for shape in shapes if shape.tokens >= needed)
    shards = [
        assemble(part, numbers.tolist(), shape) for part, numbers in zip(parts, ids, strict=True)
    ]
    if len(shards) == 1:
        return shards[0]
    return Batch(
        *(
            None if arrays[0] is None else np.concatenate(arrays)
            for arrays in zip(*shards, strict=True)
        )
    )


def shape_index(batch: Batch, num_shards: int, shapes: Sequence[BatchShape]) -> int:
    """Which of the shapes a batch has."""
    rows, tokens = batch.token_kinds.shape
    return next(
        i
        for i, shape in enumerate(shapes)
        if (shape.rows * num_shards, shape.tokens) == (rows, tokens)
    )


def grow(batch: Batch, num_shards: int, shape: BatchShape) -> Batch:
    """The batch in a larger shape of the same run: more rows per device, or longer ones, of
    padding.
    """
    rows, tokens = batch.token_kinds.shape
    extra = [(0, 0), (0, shape.rows - rows // num_shards), (0, shape.tokens - tokens)]
    if not any(after for _, after in extra):
        return batch

    def larger(array: np.ndarray, fill: int) -> np.ndarray:
        parts = array.reshape(num_shards, -1, *array.shape[1:])
        padded = np.pad(parts, extra[: parts.ndim], constant_values=fill)
        return padded.reshape(-1, *padded.shape[2:])

    fills = {
        "token_units": 0,
        "token_kinds": PADDING,
        "token_times": 0,
        "token_times_low": 0,
        "token_offsets": 0,
    }
    grown = {name: larger(getattr(batch, name), fill) for name, fill in fills.items()}
    if batch.token_windows is not None:
        grown["token_windows"] = larger(batch.token_windows, shape.windows - 1)
    return batch._replace(**grown)


def base_shape(
    sessions: Sequence[ModelSession], window_length: float, windows: int, config: DataConfig
) -> BatchShape:
    """The shape of a batch of these sessions but for its rows and tokens; `windows` is their number
    on a device.
    """
    channels = {len(source.readout.mean) for source in sessions}
    if len(channels) != 1:
        listed = "; ".join(f"{s.session.id}: {len(s.readout.mean)}" for s in sessions)
        raise DataError(
            f"the sessions' behaviours differ in their number of channels ({listed}). A model"
            " decodes one number of channels: choose readouts with equally many, or train two"
            " models."
        )
    units = sorted((len(source.unit_rows) for source in sessions), reverse=True)[:windows]
    queries = max(
        s.session.behaviour(s.readout.value_key).max_samples(window_length) for s in sessions
    )
    return BatchShape(
        windows=windows,
        units=round_up(1 + sum(units), ROW_MULTIPLE),
        rows=windows,
        tokens=config.chunk_tokens,
        queries=max(1, queries),
        channels=channels.pop(),
        packed=config.layout == "packed",
    )


def growing_shapes(
    shape: BatchShape, counts: np.ndarray, largest: int, num_devices: int, layout: str
) -> tuple[BatchShape, ...]:
    """At most MAX_SHAPES shapes, of growing size, for windows with about as many tokens as
    `counts`, at most `largest`.

    The first fits most batches, the second all but a few, and the last one every batch. All devices
    take the shape that the fullest needs.
    """
    tokens = shape.tokens
    if layout == "padded":
        limit = -(-largest // tokens) * tokens
        guesses = counts.max() * np.array([0.85, 1.2])
        sizes = {*np.minimum(-(-guesses // tokens) * tokens, limit).astype(int).tolist(), limit}
        return tuple(replace(shape, tokens=size) for size in sorted(sizes))
    rows = np.ceil(counts / tokens)
    deviations = np.array([1.0, 4.0, 10.0]) + math.sqrt(2 * math.log(num_devices))
    guesses = rows.mean() * shape.windows + deviations * rows.std() * math.sqrt(shape.windows)
    limit = shape.windows * max(1, -(-largest // tokens))
    sizes = {round_up(min(size, limit), ROW_MULTIPLE) for size in (*guesses.tolist(), limit)}
    return tuple(replace(shape, rows=size) for size in sorted(sizes))


def padding_fraction(batch: Batch) -> float:
    """Share of the token places that hold no token."""
    return float(np.mean(batch.token_kinds == PADDING))


def rows_of(tokens: int, row_tokens: int) -> int:
    """Chunks that a window fills; a window without tokens takes one."""
    return max(1, -(-tokens // row_tokens))


def round_up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
