"""Average the outputs of overlapping windows, sample by sample."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64

from poyo_jax.checks import check_choice
from poyo_jax.data.batches.tokens import ModelSession, SessionOutput
from poyo_jax.data.batches.windows import rounding
from poyo_jax.data.classes import readout_values
from poyo_jax.tasks.choose import average
from poyo_jax.types import Prediction

EDGE = 1e-9  # s; a sample this near to the edge between two causal windows is decoded by both
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


class SessionStitcher:
    """Stitchers of all outputs of a session, whose queries follow each other in a window."""

    def __init__(
        self,
        source: ModelSession,
        window_length: float,
        causal_step: float | None,
        weigh: Weigh,
    ):
        self._stitchers = [
            Stitcher(source, output, window_length, causal_step, weigh) for output in source.outputs
        ]

    def add(self, start: float, outputs: np.ndarray) -> None:
        """Add the outputs [..., queries, outputs] of the window that starts at `start` s.

        Those of an ensemble have a first axis of members.
        """
        for stitcher in self._stitchers:
            count = stitcher.add(start, outputs)
            outputs = outputs[..., count:, :]

    def finish(self, owned: Sequence[slice]) -> list[Prediction]:
        """Return the prediction of each output for the samples of this process, `owned`."""
        pairs = zip(self._stitchers, owned, strict=True)
        return [stitcher.finish(samples) for stitcher, samples in pairs]


class Stitcher:
    """Weighted sums of one output of one session, by member of the ensemble and sample."""

    def __init__(
        self,
        source: ModelSession,
        output: SessionOutput,
        window_length: float,
        causal_step: float | None,
        weigh: Weigh,
    ):
        self._source, self._output = source, output
        self._window_length = window_length
        # A causal window decodes the samples from here on, in s from its start, on its own.
        edge = max(EDGE, rounding(source.intervals))
        own = window_length if causal_step is None else causal_step + edge
        self._decoded_from = max(0.0, window_length - own)
        self._weigh = weigh if causal_step is None else equal_weights
        self._behaviour = source.behaviour(output)
        self._columns = output.columns
        num_outputs = self._columns.stop - self._columns.start
        self._sums = np.zeros((source.model.members, self._behaviour.count, num_outputs))
        self._weights = np.zeros(self._behaviour.count)

    def add(self, start: float, outputs: np.ndarray) -> int:
        """Add the first of the outputs [..., queries, outputs] of the window from `start` s on.

        Returns the number of queries of this output in the window.
        """
        end = start + self._window_length
        first, last = self._behaviour.range(start, end)
        begin, _ = self._behaviour.range(start + self._decoded_from, end)
        times = self._behaviour.times_at(np.arange(begin, last)) - start
        weights = self._weigh(times, self._window_length)
        own = outputs[..., begin - first : last - first, self._columns]
        self._sums[:, begin:last] += weights[:, None] * own
        self._weights[begin:last] += weights
        return last - first

    def finish(self, owned: slice) -> Prediction:
        """Return the prediction of the decoded samples among those of this process, `owned`."""
        source, output = self._source, self._output
        readout, task = output.readout, output.task
        samples = np.arange(len(self._weights))[owned]
        samples = samples[self._weights[samples] > 0]
        times = self._behaviour.times_at(samples)
        inside = source.intervals.contains(times)
        samples, times = samples[inside], times[inside]

        members = self._sums[:, samples] / self._weights[samples, None]
        outputs = average(task, members)
        targets = readout_values(self._behaviour, readout, 0, self._behaviour.count)[samples]
        scored = np.asarray(np.isfinite(targets).all(axis=1))
        if readout.eval_interval is not None:
            scored &= source.session.intervals(readout.eval_interval).contains(times)
        return Prediction(
            session_id=source.session.id,
            times=times,
            values=task.predict(outputs, readout),
            targets=targets,
            scored=scored,
            output=output.name,
            quantity=self._behaviour.quantity,
            kind=readout.kind,
            classes=readout.classes,
            **self._details(outputs),
        )

    def _details(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """The details of the task, with calibrated standard deviations."""
        details = dict(self._output.task.details(outputs, self._output.readout))
        if "std" in details and self._output.calibration:
            details["std"] = details["std"] * np.array(self._output.calibration)
        return details
