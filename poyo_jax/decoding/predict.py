"""Predict sessions window by window, with the work shared by several processes."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float64

from poyo_jax.checks import check_number, integer, number
from poyo_jax.config import DataConfig
from poyo_jax.data.batches.pipeline import EvalBatches, prefetch
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.batches.windows import (
    causal_windows,
    overlapping_windows,
    rounding,
    sequential_windows,
)
from poyo_jax.data.behaviour import Behaviour
from poyo_jax.decoding.stitch import SessionStitcher, Weigh, taper_weights
from poyo_jax.distributed.lookup import EVERYWHERE, SPLIT, look_up
from poyo_jax.distributed.mesh import own_part, put_batch, split_over_windows
from poyo_jax.distributed.processes import gather
from poyo_jax.errors import ConfigError
from poyo_jax.model.apply import predict, used_rows
from poyo_jax.model.build import without_vocab
from poyo_jax.model.members import over_members
from poyo_jax.model.poyo import POYO
from poyo_jax.types import Batch, Prediction

MOST_PER_SECOND = 1000  # windows


def make_predict_step(
    model: POYO, mesh: Mesh, *, microbatch_windows: int | None
) -> Callable[[dict, Batch], jax.Array]:
    """Make a function (parameters, batch) -> outputs of the model, of two jitted programs.

    Outputs [windows, queries, outputs], of an ensemble [windows, members, queries, outputs], are in
    the scale of their tasks (normalised units for regression) and split over the mesh. Equal
    arguments give the same function, so that decoding again compiles nothing. Raises ConfigError
    when the model's attention cannot be computed here (model/attention/api.py).
    """
    model.check_back_end(training=False)
    return _predict_step(without_vocab(model), mesh, microbatch_windows)


@lru_cache(maxsize=8)
def _predict_step(
    model: POYO, mesh: Mesh, microbatch_windows: int | None
) -> Callable[[dict, Batch], jax.Array]:
    """The function of `make_predict_step`, whatever tables the model has.

    Rows are looked up by a program of their own: the large one does not depend on their number.
    """
    members = model.config.members
    specs = (EVERYWHERE, SPLIT, SPLIT)

    def vectors_of_model(params, batch):
        return {name: look_up(params[name], rows, mesh) for name, rows in used_rows(batch).items()}

    @partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=SPLIT, check_vma=False)
    def predict_on_device(backbone, vectors, batch):
        return predict(model, backbone, vectors, batch, microbatch_windows)

    @jax.jit
    def vectors_of_rows(params, batch):
        return over_members(vectors_of_model, members, (0, None))(params, batch)

    @jax.jit
    def predict_step(backbone, vectors, batch):
        outputs = over_members(predict_on_device, members, (0, 0, None), out_axes=1)
        outputs = outputs(backbone, vectors, batch)
        return jax.lax.with_sharding_constraint(outputs, split_over_windows(mesh))

    def step(params, batch):
        tables = {name: params[name] for name in used_rows(batch)}
        return predict_step(params["backbone"], vectors_of_rows(tables, batch), batch)

    return step


def check_windows(overlap: int, causal_step: float | None, window_length: float) -> None:
    """Raise ConfigError for an `overlap` or a `causal_step` that windows cannot have.

    Windows more than MOST_PER_SECOND times a second would decode for hours and fill the memory.
    """
    if not integer(1).allows(overlap):
        raise ConfigError(
            f"overlap is {overlap!r}, but a sample is decoded from at least one window; give an"
            " integer from 1 on."
        )
    check_number("overlap", overlap, integer(1, int(MOST_PER_SECOND * window_length)))
    if causal_step is None:
        return
    if not number(above=0, at_most=window_length).allows(causal_step):
        raise ConfigError(
            f"causal_step is {causal_step!r}, but a window decodes its last seconds; give a number"
            f" above 0 and up to the length of a window, {window_length} s."
        )
    check_number("causal_step", causal_step, number(at_least=1 / MOST_PER_SECOND))


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
    weigh: Weigh = taper_weights,
    after_batch: Callable[[], None] = lambda: None,
) -> list[list[Prediction]]:
    """Predict every behaviour sample inside the intervals of each session, output by output.

    Every moment lies in `overlap` windows (`window_starts`), and a sample gets the mean of their
    outputs, weighted by `weigh`, and matched by its index in the series, not by its time. With
    `causal_step`, windows follow each other every `causal_step` s instead, and a sample is decoded
    by the one in whose last `causal_step` seconds it lies. With several processes each returns the
    predictions of its share of the samples; together they are those of one process. `after_batch`
    is called after each.
    """
    starts = [window_starts(source, window_length, overlap, causal_step) for source in sources]
    shares = _shares(sources, starts, window_length)
    batches = _batches_of_equal_shape(sources, shares, config, window_length)
    stitchers = [SessionStitcher(source, window_length, causal_step, weigh) for source in sources]
    with contextlib.closing(prefetch(batches)) as prepared:
        for number, batch in enumerate(prepared):
            outputs = own_part(predict_step(params, put_batch(batch, mesh)))
            for place, session, start in batches.places(number):
                stitchers[session].add(start, outputs[place])
            after_batch()
    return [stitcher.finish(share.owned) for stitcher, share in zip(stitchers, shares, strict=True)]


def window_starts(
    source: ModelSession, window_length: float, overlap: int, causal_step: float | None = None
) -> Float64[np.ndarray, " windows"]:
    """Starts in s of the windows of which `overlap` hold every moment of the intervals.

    Up to two stay inside the intervals, as in torch_brain, where moments near the ends lie in
    fewer; more reach over. With `causal_step`, a window ends every `causal_step` s instead. Windows
    side by side overlap by a rounding error, so that no sample lies between them.
    """
    longest_step = window_length - rounding(source.intervals)
    if causal_step is not None:
        step = min(causal_step, longest_step)
        return causal_windows(source.intervals, window_length, step)
    step = min(window_length / overlap, longest_step)
    if overlap <= 2:
        return sequential_windows(source.intervals, window_length, step)
    return overlapping_windows(source.intervals, source.session.domain, window_length, step)


def _batches_of_equal_shape(
    sources: Sequence[ModelSession],
    shares: Sequence["_Share"],
    config: DataConfig,
    window_length: float,
) -> EvalBatches:
    """Batches of this process's windows, as many and of the same shape as in all processes."""
    batches = EvalBatches(
        sources,
        [share.starts for share in shares],
        config,
        window_length,
        jax.local_device_count(),
        jax.process_count(),
    )
    largest = gather(np.array(batches.size)).max(axis=0)
    return replace(batches, common_size=tuple(largest.tolist()))


class _Share(NamedTuple):
    """Windows and samples of one session that this process decodes."""

    starts: np.ndarray  # s, of the windows to decode
    owned: tuple[slice, ...]  # samples of each output; this process decodes all their windows


def _shares(
    sources: Sequence[ModelSession], starts: Sequence[np.ndarray], window_length: float
) -> list[_Share]:
    """Share of this process in every session: about as many windows for each process, in one piece.

    All windows of all sessions stand in one row, which is cut into equal pieces, one a process.
    """
    total = sum(len(session_starts) for session_starts in starts)
    process, count = jax.process_index(), jax.process_count()
    piece = np.array([process * total // count, (process + 1) * total // count])
    shares, before = [], 0
    for source, session_starts in zip(sources, starts, strict=True):
        first, last = np.clip(piece - before, 0, len(session_starts)).tolist()
        shares.append(_share(source, session_starts, first, last, window_length))
        before += len(session_starts)
    return shares


def _share(
    source: ModelSession, starts: np.ndarray, first: int, last: int, window_length: float
) -> _Share:
    """Share of the process to which the windows `first` to `last` of a session fall.

    Where two processes meet inside a session, the later one owns the samples from the start of its
    first window on. It also decodes the windows before that reach over this start.
    """
    if first == last:
        return _Share(starts[first:last], (slice(0, 0),) * len(source.outputs))

    def first_sample(behaviour: Behaviour, window: int) -> int | None:
        if not 0 < window < len(starts):
            return None  # the share goes to the end of the session
        return behaviour.range(starts[window], starts[window] + window_length)[0]

    reaching_over = int(np.searchsorted(starts, starts[first] - window_length, "right"))
    owned = []
    for output in source.outputs:
        behaviour = source.behaviour(output)
        owned.append(slice(first_sample(behaviour, first), first_sample(behaviour, last)))
    return _Share(starts[reaching_over:last], tuple(owned))
