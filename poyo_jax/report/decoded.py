"""Decoding of a recording for the report: an excerpt, errors, and attention of the latents."""

from typing import Any

import numpy as np
from jaxtyping import Float

from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.model.one_session import make_attention_function
from poyo_jax.pretrained import Pretrained
from poyo_jax.report.numbers import Content, packed, packed_columns, plain
from poyo_jax.types import Prediction

MAX_SECONDS, MAX_SAMPLES, MAX_SPIKES = 60.0, 3000, 40_000  # of an excerpt
MAX_RATE = 100.0  # Hz of an excerpt's samples
MAX_ATTENDED = 2000  # spikes of the window whose attention is shown
SPEED_BINS, DIRECTION_BINS = 10, 12
ENOUGH = 10  # samples of a bin


def decoded(session: Session, prediction: Prediction, value_key: str) -> Content:
    """The beginning of what was decoded, with its spikes; times are seconds from `start`."""
    if not len(prediction.times):
        raise DataError(f"No sample of {session.id} was decoded.")
    interval = (
        float(np.median(np.diff(prediction.times[:10_000]))) if len(prediction.times) > 1 else 1.0
    )
    every = max(1, round(1 / MAX_RATE / interval))
    start = float(prediction.times[0])
    chosen = np.arange(0, np.searchsorted(prediction.times, start + MAX_SECONDS), every)[
        :MAX_SAMPLES
    ]
    spike_times, spike_units = session.spikes_between(start, float(prediction.times[chosen[-1]]))
    if len(spike_times) > MAX_SPIKES:
        spike_times, spike_units = spike_times[:MAX_SPIKES], spike_units[:MAX_SPIKES]
        chosen = chosen[
            prediction.times[chosen] <= max(spike_times[-1], prediction.times[chosen[1]])
        ]
    return {
        "start": start,
        "key": value_key,
        "interval": interval * every,
        "times": packed(prediction.times[chosen] - start),
        "values": packed_columns(prediction.values[chosen]),
        "targets": packed_columns(prediction.targets[chosen]),
        "position": _position(session, value_key, prediction.times[chosen]),
        "spike_times": packed(np.round(1000 * (spike_times - start)), "u2"),  # ms
        "spike_units": packed(spike_units, "u2"),
        "num_units": len(session.unit_ids),
    }


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


def errors(prediction: Prediction) -> Content:
    """Mean distance of decoded from measured values, by measured speed and direction.

    Distances are in the units of the file.

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
        "largest": plain(largest),
        "weights": packed(np.round(weights.ravel() / largest * 255), "u1"),
        "shares": [plain(share) for share in weights.sum(axis=1).tolist()],
    }
