"""Average the outputs of overlapping windows, sample by sample."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float64

from poyo_jax.checks import check_choice
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.types import Prediction

EDGE = 1e-9  # s; a sample on the edge between two causal windows is decoded by both, not by none
TAPERED = 0.25  # share of a window, at either end, over which the weights of a taper fall
FLOOR = 1e-6  # smallest weight of a taper, for samples that lie in one window alone

Stitch = Literal["taper", "mean"]
Times = Float64[np.ndarray, " samples"]
Weigh = Callable[[Times, float], Times]  # times from the window's start and its length, both in s


def taper_weights(times: Times, window_length: float) -> Times:
    """Weights of samples `times` s after the start of a window, never quite 0.

    They are 1 in its middle and fall in straight lines over the last quarter to either end. So a
    window enters and leaves the average with a weight of almost 0, and the average does not jump
    where it begins or ends.
    """
    from_end = np.minimum(times, window_length - times)
    return np.clip(from_end / (TAPERED * window_length), FLOOR, 1)


def equal_weights(times: Times, window_length: float) -> Times:
    """Weights of the plain mean: 1 everywhere, as torch_brain averages windows."""
    return np.ones(len(times))


WEIGHTS: dict[str, Weigh] = {"taper": taper_weights, "mean": equal_weights}


def choose_weights(stitch: str) -> Weigh:
    """Return the weights that `stitch` names. Raises ConfigError for another name."""
    check_choice("stitch", stitch, WEIGHTS)
    return WEIGHTS[stitch]


class Stitcher:
    """Weighted sums of the outputs of one session, by sample."""

    def __init__(
        self,
        source: ModelSession,
        window_length: float,
        causal_step: float | None,
        weigh: Weigh,
    ):
        self._source = source
        self._window_length = window_length
        # A causal window decodes the samples from here on, in s from its start, on its own.
        self._decoded_from = 0.0 if causal_step is None else window_length - causal_step - EDGE
        self._weigh = weigh if causal_step is None else equal_weights
        self._behaviour = source.session.behaviour(source.readout.value_key)
        num_outputs = source.task.output_size(self._behaviour.num_channels)
        self._sums = np.zeros((self._behaviour.count, num_outputs))
        self._weights = np.zeros(self._behaviour.count)

    def add(self, start: float, outputs: np.ndarray) -> None:
        """Add the outputs [queries, outputs] of the window that starts at `start` s."""
        end = start + self._window_length
        first, last = self._behaviour.range(start, end)
        begin, _ = self._behaviour.range(start + self._decoded_from, end)
        times = self._behaviour.times_at(np.arange(begin, last)) - start
        weights = self._weigh(times, self._window_length)
        self._sums[begin:last] += weights[:, None] * outputs[begin - first : last - first]
        self._weights[begin:last] += weights

    def finish(self, owned: slice) -> Prediction:
        """Return the prediction of the decoded samples among those of this process, `owned`."""
        source, readout = self._source, self._source.readout
        samples = np.arange(len(self._weights))[owned]
        samples = samples[self._weights[samples] > 0]
        times = self._behaviour.times_at(samples)
        inside = source.intervals.contains(times)
        samples, times = samples[inside], times[inside]

        outputs = self._sums[samples] / self._weights[samples, None]
        values = source.task.predict(outputs, readout)
        targets = self._behaviour.values(0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(source.session.id, times, values, targets, scored)
