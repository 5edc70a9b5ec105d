"""Decoding of a recording for the report: an excerpt, errors, and attention of the latents."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from poyo_jax.data.derive import median_step
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.model.one_session import make_attention_function
from poyo_jax.pages import short_names
from poyo_jax.pretrained import Pretrained
from poyo_jax.report.numbers import Content, packed, packed_columns, plain
from poyo_jax.types import Prediction

MAX_SECONDS, MAX_SAMPLES, MAX_SPIKES = 60.0, 3000, 40_000  # of an excerpt
MAX_RATE = 100.0  # Hz of an excerpt's samples
BLOCK_GAP = 1.0  # s without a sample, which an excerpt leaves out
MAX_ATTENDED = 2000  # spikes of the window whose attention is shown
SPEED_BINS, DIRECTION_BINS = 10, 12
ENOUGH = 10  # samples of a bin


def decoded(session: Session, prediction: Prediction, value_key: str) -> Content:
    """The first minute of what was decoded, with its spikes.

    What lies between two blocks of the split is left out: `times` are seconds of decoded time, and
    `blocks` has, for every block, its start in decoded time, its start in session time and its
    length, in s.
    """
    if not len(prediction.times):
        raise DataError(f"No sample of {session.id} was decoded.")
    interval = median_step(prediction.times[:10_000])
    every = max(1, round(1 / MAX_RATE / interval))
    longest_step = max(BLOCK_GAP, 5 * interval)
    behind_gap = np.diff(prediction.times, prepend=prediction.times[0]) > longest_step
    shown_times = prediction.times - prediction.times[0]
    gaps = np.where(behind_gap, np.diff(shown_times, prepend=0.0) - interval, 0.0)
    shown_times = shown_times - np.cumsum(gaps)
    chosen = np.arange(0, np.searchsorted(shown_times, MAX_SECONDS), every)[:MAX_SAMPLES]
    blocks = _blocks(prediction.times, shown_times, behind_gap, int(chosen[-1]), interval)
    times, units = _spikes(session, blocks)
    if len(times) == MAX_SPIKES:
        chosen = chosen[shown_times[chosen] <= max(times[-1], shown_times[chosen[1]])]
    return {
        "start": float(prediction.times[0]),
        "key": value_key,
        "unit": session.behaviour(value_key).unit,
        "interval": interval * every,
        "blocks": blocks,
        "times": packed(shown_times[chosen]),
        "values": packed_columns(prediction.values[chosen]),
        "targets": packed_columns(prediction.targets[chosen]),
        "position": _position(session, value_key, prediction.times[chosen]),
        "spike_times": packed(np.round(1000 * times), "u2"),  # ms of decoded time
        "spike_units": packed(units, "u2"),
        "unit_ids": list(session.unit_ids),
        "unit_labels": short_names(session.unit_ids),
    }


def _blocks(
    times: Float[np.ndarray, " samples"],
    shown_times: Float[np.ndarray, " samples"],
    behind_gap: Bool[np.ndarray, " samples"],
    last: int,
    interval: float,
) -> list[tuple[float, float, float]]:
    """(start in decoded time, start in session time, length) of the blocks up to sample `last`."""
    firsts = [0, *np.flatnonzero(behind_gap[: last + 1]).tolist()]
    ends = [*(first - 1 for first in firsts[1:]), last]
    return [
        (
            float(shown_times[first]),
            float(times[first]),
            float(times[end] - times[first] + interval),
        )
        for first, end in zip(firsts, ends, strict=True)
    ]


def _spikes(
    session: Session, blocks: list[tuple[float, float, float]]
) -> tuple[Float[np.ndarray, " spikes"], Int[np.ndarray, " spikes"]]:
    """Spikes of the blocks, MAX_SPIKES at most: times in s of decoded time, and units."""
    all_times, all_units = [], []
    for shown, start, length in blocks:
        times, units = session.spikes_between(start, start + length)
        all_times.append(times - start + shown)
        all_units.append(units)
    return np.concatenate(all_times)[:MAX_SPIKES], np.concatenate(all_units)[:MAX_SPIKES]


def _position(
    session: Session, value_key: str, times: Float[np.ndarray, " samples"]
) -> list[Content] | None:
    """The measured position beside a velocity, at the sample before each time.

    None where it is not known all along, or never changes.
    """
    key = value_key.rsplit(".", 1)[0] + ".pos"
    if not value_key.endswith(".vel") or key not in session.behaviour_keys:
        return None
    behaviour = session.behaviour(key)
    first, last = behaviour.range(float(times[0]) - 1.0, float(times[-1]) + 1.0)
    place = np.searchsorted(behaviour.times_at(np.arange(first, last)), times, side="right") - 1
    values = behaviour.values(first, last)[np.clip(place, 0, None)]
    usable = values.shape[1] == 2 and np.isfinite(values).all() and np.ptp(values, axis=0).all()
    return packed_columns(values) if usable else None


def errors(prediction: Prediction, unit: str) -> Content:
    """Mean distance of decoded from measured values, by measured speed and direction.

    Distances are in the `unit` of the file.

    Raises DataError unless there are two channels and enough samples.
    """
    targets, values = prediction.targets[prediction.scored], prediction.values[prediction.scored]
    if targets.shape[1] != 2 or len(targets) < ENOUGH * SPEED_BINS:
        raise DataError(
            f"Errors over speed and direction need two channels and {ENOUGH * SPEED_BINS} scored"
            f" samples; here are {targets.shape[1]} and {len(targets)}."
        )
    distance, speed = np.linalg.norm(values - targets, axis=1), np.linalg.norm(targets, axis=1)
    edges = np.unique(np.quantile(speed, np.linspace(0, 1, SPEED_BINS + 1)))
    of_speed = np.clip(np.searchsorted(edges, speed, side="right") - 1, 0, max(len(edges) - 2, 0))
    fast = speed > np.median(speed)
    turn = np.arctan2(targets[:, 1], targets[:, 0]) / (2 * np.pi) * DIRECTION_BINS
    of_direction = np.round(turn[fast]).astype(int) % DIRECTION_BINS
    return {
        "unit": unit,
        "speed": _means(speed, of_speed, len(edges) - 1),
        "by_speed": _means(distance, of_speed, len(edges) - 1),
        "by_direction": _means(distance[fast], of_direction, DIRECTION_BINS),
    }


def _means(values: Any, bins: Any, count: int) -> list[float | None]:
    """Mean of every bin; None where there is hardly anything in it."""
    counts, sums = np.bincount(bins, minlength=count), np.bincount(bins, values, minlength=count)
    return [plain(sums[i] / counts[i]) if counts[i] >= ENOUGH else None for i in range(count)]


def attention(pretrained: Pretrained, session: Session, start: float) -> Content:
    """Attention of the latents of every time step to each spike of the window at `start`, in s.

    `weights` are means over heads and over the latents of a step, [steps * spikes], in 255ths of
    `largest`.
    """
    config, source = pretrained.config.model, pretrained.source(session, session.domain)
    times, units = session.spikes_between(start, start + config.window_length)
    if not len(times):
        raise DataError(f"No unit of {session.id} fires in the second that is shown.")
    times, units = times[:MAX_ATTENDED] - start, np.asarray(units[:MAX_ATTENDED], np.int32)
    rounded = times.astype(np.float32)
    weigh = make_attention_function(pretrained.model, pretrained.params, source.unit_rows)
    weights = np.asarray(
        weigh(units, rounded, (times - rounded).astype(np.float32), np.ones(len(times), bool))
    )
    weights = (
        weights.mean(axis=0).reshape(config.num_latent_steps, config.num_latents, -1).mean(axis=1)
    )
    largest = float(weights.max())
    return {
        "start": start,
        "length": config.window_length,
        "latent_times": config.latent_times[:: config.num_latents].tolist(),
        "spike_times": packed(times),
        "spike_units": packed(units, "u2"),
        "unit_ids": list(session.unit_ids),
        "unit_labels": short_names(session.unit_ids),
        "largest": plain(largest),
        "weights": packed(np.round(weights.ravel() / largest * 255), "u1"),
        "shares": [plain(share) for share in weights.sum(axis=1).tolist()],
    }
