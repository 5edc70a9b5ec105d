"""The Wiener filter: ridge regression from binned spike counts to behaviour."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from poyo_jax.baselines.samples import Samples
from poyo_jax.baselines.search import (
    Reaches,
    SearchResult,
    Trial,
    best_of,
    best_position,
    check_bins,
    choose_bins,
)
from poyo_jax.checks import NOT_NEGATIVE, check_number, check_numbers, integer, number
from poyo_jax.data.given import one_readout, one_session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.spike_counts import Counts, Times, spike_counts
from poyo_jax.errors import DataError
from poyo_jax.metrics import r2_score
from poyo_jax.progress import Progress
from poyo_jax.types import Readout

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
BIN_SIZE = 0.05  # s
CHUNK = 4096  # samples whose features are in memory at once
MOST_BINS = 10_000  # on each side of a sample

Filter = tuple[np.ndarray, np.ndarray]  # coefficients [features, channels], intercepts [channels]


@dataclass(frozen=True)
class WienerResult:
    """Predictions of the test split, in the units of the behaviour, and the chosen ridge."""

    times: Times  #: s of session time, samples of the test split inside the evaluation interval
    values: Float64[np.ndarray, "samples channels"]  #: decoded
    targets: Float64[np.ndarray, "samples channels"]  #: measured
    r2: dict[str, float]  #: of "valid" and "test"
    ridge: float  #: the penalty chosen
    valid_r2: dict[float, float]  #: of every ridge


def wiener_filter(
    session: Session,
    readout: Readout,
    *,
    bin_size: float | None = None,
    past: int = 10,
    future: int = 2,
    ridges: Sequence[float] = RIDGES,
    labels: Intervals | None = None,
) -> WienerResult:
    """Fit on the train split, choose the ridge by R2 on the valid split, and decode the test split.

    With `labels`, only the train samples inside them count. The features of a sample at
    time t are the counts of every unit in the `past` bins before t and the `future` bins after it,
    `bin_size` seconds each; None takes 0.05, or the behaviour's sampling interval if that is
    longer. Train samples are weighted as `readout` says; valid and test samples are those of the
    split inside the readout's evaluation interval. A ridge is relative to the mean variance of the
    features.

    Raises:
        ConfigError: a number that cannot be, such as a bin of 0 s.
        DataError: no bin, no ridge, a split without two samples that have targets, targets of the
        valid or test split that do not vary, or a train split without spikes.
        SessionError: the session lacks the behaviour or an interval that the readout names.
    """
    session, readout = one_session(session), one_readout(readout)
    check_number("bin_size", bin_size, number(above=0, or_none=True))
    check_number("past", past, integer(0, MOST_BINS))
    check_number("future", future, integer(0, MOST_BINS))
    if past + future < 1 or not ridges:
        raise DataError(
            f"past + future is {past + future} and {len(ridges)} ridges are given, but the filter"
            " needs at least one bin and one ridge; give more."
        )
    check_numbers("ridges", ridges, NOT_NEGATIVE)
    samples = Samples.read(session, readout, labels)
    size = bin_size or max(BIN_SIZE, round(samples.interval, 3))
    return _fit(samples, size, past, future, ridges)


def valid_r2(
    session: Session,
    readout: Readout,
    *,
    bin_size: float,
    past: int,
    future: int,
    labels: Intervals | None = None,
) -> float:
    """R2 of `wiener_filter` on the valid split alone; the session needs no test split.

    Arguments and errors are those of `wiener_filter`.
    """
    samples = Samples.read(session, readout, labels, splits=("train", "valid"))
    scores, _ = _tune(samples, _edges(bin_size, past, future), RIDGES)
    return scores[best_position(scores, "valid R2 of the ridges")]


def _fit(
    samples: Samples, bin_size: float, past: int, future: int, ridges: Sequence[float]
) -> WienerResult:
    edges = _edges(bin_size, past, future)
    scores, filters = _tune(samples, edges, ridges)
    best = best_position(scores, "valid R2 of the ridges")
    times, targets = samples.of("test")
    [values] = _decode(samples.session, times, edges, filters[best : best + 1])
    test_score = r2_score(targets, values)
    return WienerResult(
        times=times,
        values=values,
        targets=targets,
        r2={"valid": scores[best], "test": test_score},
        ridge=ridges[best],
        valid_r2=dict(zip(ridges, scores, strict=True)),
    )


def _edges(bin_size: float, past: int, future: int) -> np.ndarray:
    """Edges of the bins, s from a sample."""
    return np.arange(-past, future + 1) * bin_size


def _tune(
    samples: Samples, edges: np.ndarray, ridges: Sequence[float]
) -> tuple[list[float], list[Filter]]:
    """The valid R2 of every ridge, and its filter."""
    moments = _moments(samples.session, *samples.of("train"), samples.weights(), edges)
    filters = [_solve(*moments, ridge) for ridge in ridges]
    times, targets = samples.of("valid")
    decoded = _decode(samples.session, times, edges, filters)
    return [r2_score(targets, values) for values in decoded], filters


def _chunks(session: Session, times: Times, offsets: np.ndarray) -> Iterator[tuple[slice, Counts]]:
    """Slices of the samples, and the features of each slice."""
    for start in range(0, len(times), CHUNK):
        chunk = slice(start, start + CHUNK)
        yield chunk, spike_counts(session, times[chunk], offsets)


def _moments(
    session: Session, times: Times, targets: np.ndarray, weights: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weighted moments: means of features and targets, and their covariances xx and xy."""
    total = weights.sum(dtype=np.float64)
    size = len(session.unit_ids) * (len(offsets) - 1)
    num_channels = targets.shape[1]
    mean_x = np.zeros(size)
    mean_y = np.zeros(num_channels)
    xx = np.zeros((size, size))
    xy = np.zeros((size, num_channels))
    for chunk, x in _chunks(session, times, offsets):
        y = targets[chunk]
        weight = weights[chunk, None]
        weighted = x * weight
        weighted_y = y * weight
        mean_x += weighted.sum(axis=0, dtype=np.float64) / total
        mean_y += weighted_y.sum(axis=0, dtype=np.float64) / total
        xx += weighted.T @ x / total
        xy += weighted.T @ y / total
    xx -= np.outer(mean_x, mean_x)
    xy -= np.outer(mean_x, mean_y)
    return mean_x, mean_y, xx, xy


def _solve(
    mean_x: np.ndarray, mean_y: np.ndarray, xx: np.ndarray, xy: np.ndarray, ridge: float
) -> Filter:
    """Solve the ridge regression from the moments; counts that never vary decode the mean.

    Without a ridge, of many solutions the one with the smallest coefficients is taken.
    """
    size = len(xx)
    mean_variance = float(np.trace(xx)) / size
    if not mean_variance > 0:
        return np.zeros_like(xy), mean_y
    penalty = ridge * mean_variance
    if penalty:
        coefficients = np.linalg.solve(xx + penalty * np.eye(size), xy)
    else:  # units that never spike make xx singular
        coefficients = np.linalg.lstsq(xx, xy, rcond=None)[0]
    return coefficients, mean_y - mean_x @ coefficients


def _decode(
    session: Session, times: Times, offsets: np.ndarray, filters: Sequence[Filter]
) -> list[Float64[np.ndarray, "samples channels"]]:
    """Predictions of every filter at `times`."""
    decoded = [[] for _ in filters]
    for _, x in _chunks(session, times, offsets):
        for values, (coefficients, intercepts) in zip(decoded, filters, strict=True):
            values.append(x @ coefficients + intercepts)
    return [np.concatenate(values) for values in decoded]


@dataclass(frozen=True, kw_only=True)
class WienerSearch:
    """Search over the bins and the ridge of `wiener_filter`.

    Raises ConfigError for numbers that cannot be.
    """

    bin_sizes: Sequence[float] = (0.05, 0.1)  #: s
    reaches: Reaches = ((0.5, 0.1), (1.0, 0.2), (1.5, 0.3))  #: s before and after a sample
    ridges: Sequence[float] = RIDGES  #: relative to the mean variance of the features

    def __post_init__(self) -> None:
        check_bins(self)
        check_numbers("WienerSearch.ridges", self.ridges, NOT_NEGATIVE)

    def run(self, samples: Samples, *, causal: bool, seed: int, progress: bool) -> SearchResult:
        """Run all trials, and decode the test split with the best one; `seed` is not used."""
        results, trials = [], []
        all_bins = choose_bins(samples.interval, self.bin_sizes, self.reaches, causal=causal)
        with Progress("tuning wiener", 0, len(all_bins), progress, unit="filter") as bar:
            for done, bins in enumerate(all_bins, start=1):
                result = _fit(samples, bins.size, bins.past, bins.future, self.ridges)
                for ridge, score in result.valid_r2.items():
                    settings = bins.settings() | {"ridge": ridge}
                    results.append(result)
                    trials.append(Trial(settings, score))
                bar.advance(done)
        best = best_of(trials)
        return SearchResult(trials, best, results[best].values)
