"""Predict sessions window by window, with the work shared by several processes."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from poyo_jax.config import DataConfig
from poyo_jax.data.batches.pipeline import EvalBatches, prefetch
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.batches.windows import causal_windows, overlapping_windows, sequential_windows
from poyo_jax.decoding.stitch import Stitcher
from poyo_jax.distributed.lookup import look_up
from poyo_jax.distributed.mesh import AXES, own_part, put_batch
from poyo_jax.distributed.processes import gather
from poyo_jax.model.apply import predict, used_rows
from poyo_jax.model.poyo import POYO
from poyo_jax.types import Batch, Prediction

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXES)


def make_predict_step(
    model: POYO, mesh: Mesh, *, microbatch_windows: int | None
) -> Callable[[dict, Batch], jax.Array]:
    """(parameters, batch) -> predictions [windows, queries, channels] in normalised units, split
    over the mesh.

    Equal arguments give the same function, so that decoding again compiles nothing. Raises
    ConfigError when the model's attention cannot be computed here (model/attention/api.py).
    """
    model.check_back_end(training=False)
    return _predict_step(cast(Any, model), mesh, microbatch_windows)


@lru_cache(maxsize=8)
def _predict_step(
    model: POYO, mesh: Mesh, microbatch_windows: int | None
) -> Callable[[dict, Batch], jax.Array]:
    specs = (EVERYWHERE, SPLIT, SPLIT)

    @partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=SPLIT, check_vma=False)
    def of_devices(backbone, vectors, batch):
        return predict(model, backbone, vectors, batch, microbatch_windows)

    @jax.jit
    def predict_step(params, batch):
        vectors = {
            name: look_up(params[name], rows, mesh) for name, rows in used_rows(batch).items()
        }
        return of_devices(params["backbone"], vectors, batch)

    return predict_step


def predict_sessions(
    predict_step: Callable[[dict, Batch], jax.Array],
    params: dict,
    sources: Sequence[ModelSession],
    config: DataConfig,
    window_length: float,
    mesh: Mesh,
    *,
    overlap: int = 2,
    causal_step: float | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> list[Prediction]:
    """Predictions at every behaviour sample inside the intervals of each session.

    Every moment lies in `overlap` windows (`window_starts`), and a sample gets the mean of what
    they say, matched by its index in the series, not by its time. With `causal_step`, windows
    follow each other by that instead, and a sample is decoded by the one in whose last
    `causal_step` seconds it lies. With several processes each gets the predictions of its own share
    of the samples: together they are what one process would get.
    """

    if causal_step:
        starts = [
            causal_windows(source.intervals, window_length, causal_step) for source in sources
        ]
    else:
        starts = [window_starts(source, window_length, overlap) for source in sources]
    shares = _shares(sources, starts, window_length)
    own = EvalBatches(
        sources,
        [share.starts for share in shares],
        config,
        window_length,
        jax.local_device_count(),
        jax.process_count(),
    )
    largest = gather(np.array(own.size)).max(
        axis=0
    )  # all processes make as many batches, of one shape
    batches = replace(own, common_size=tuple(largest.tolist()))
    stitchers = [Stitcher(source, window_length, causal_step) for source in sources]
    with contextlib.closing(prefetch(batches)) as prepared:
        for number, batch in enumerate(prepared):
            values = own_part(predict_step(params, put_batch(batch, mesh)))
            for place, session, start in batches.places(number):
                stitchers[session].add(start, values[place])
            after_batch()
    return [stitcher.finish(share.owned) for stitcher, share in zip(stitchers, shares, strict=True)]


def window_starts(source: ModelSession, window_length: float, overlap: int) -> np.ndarray:
    """Starts in s of the windows of which `overlap` hold every moment of the intervals.

    Up to two stay inside the intervals, as in torch_brain, where moments near the ends lie in
    fewer; more reach over.
    """
    step = window_length / overlap
    if overlap <= 2:
        return sequential_windows(source.intervals, window_length, step)
    return overlapping_windows(source.intervals, source.session.domain, window_length, step)


class _Share(NamedTuple):
    """What this process has of a session."""

    starts: np.ndarray  # of the windows to decode
    owned: slice  # of the behaviour's samples, of which it decodes all windows


def _shares(
    sources: Sequence[ModelSession], starts: Sequence[np.ndarray], window_length: float
) -> list[_Share]:
    """This process's share of every session's windows: about as many for each process, in one
    piece.

    Where two processes meet inside a session, a sample belongs to the later one from the first
    sample of its first window on; that one then also decodes the windows before which reach over.
    """
    ends = np.cumsum([len(some) for some in starts])
    process, count = jax.process_index(), jax.process_count()
    low, high = process * ends[-1] // count, (process + 1) * ends[-1] // count
    shares = []
    for source, some, end in zip(sources, starts, ends, strict=True):
        first, last = np.clip(np.array([low, high]) - (end - len(some)), 0, len(some)).tolist()
        behaviour = source.session.behaviour(source.readout.value_key)

        def sample(place: int, some=some, behaviour=behaviour) -> int | None:
            inside = 0 < place < len(some)
            return behaviour.range(some[place], some[place] + window_length)[0] if inside else None

        owned = slice(sample(first), sample(last)) if first < last else slice(0, 0)
        before = (
            int(np.searchsorted(some, some[first] - window_length, "right"))
            if first < last
            else first
        )
        shares.append(_Share(some[before:last], owned))
    return shares
