"""Linear models of other kinds than numbers, by scikit-learn.

Classes are decoded by logistic regression or a linear discriminant, counts by Poisson regression,
all from the features of the Wiener filter.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64

from poyo_jax.baselines.samples import Samples
from poyo_jax.baselines.search import (
    Bins,
    Reaches,
    SearchResult,
    Trial,
    best_of,
    check_bins,
    choose_bins,
)
from poyo_jax.checks import POSITIVE, check_choice, check_numbers
from poyo_jax.data.session import Session
from poyo_jax.data.spike_counts import spike_counts
from poyo_jax.errors import DataError, MissingDependencyError
from poyo_jax.progress import Progress
from poyo_jax.types import Kind

Model = Literal["logistic", "discriminant", "poisson"]
MAX_SAMPLES = 50_000  # that a model is fitted to, spread evenly
ITERATIONS = 300  # most of a fit; the valid split tells how good it is

Features = Float32[np.ndarray, "samples features"]


@dataclass(frozen=True, kw_only=True)
class LinearSearch:
    """Search over the bins of `wiener_filter` and the penalty of a linear model of scikit-learn.

    "logistic" and "discriminant" decode classes, "poisson" counts. The discriminant does not know
    weights of samples; it leaves out those of weight 0. Raises ConfigError for numbers that cannot
    be.
    """

    model: Model  #: what is fitted
    bin_sizes: Sequence[float] = (0.05, 0.1)  #: s
    reaches: Reaches = ((0.5, 0.1), (1.0, 0.2))  #: s before and after a sample
    penalties: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)
    """Half the penalty of squared coefficients of scaled features, relative to the mean loss of a
    sample; of the discriminant, the shrinkage of its covariance, which is 1 at most.
    """

    def __post_init__(self) -> None:
        check_choice("LinearSearch.model", self.model, get_args(Model))
        check_bins(self)
        check_numbers("LinearSearch.penalties", self.penalties, POSITIVE)

    @property
    def kind(self) -> Kind:
        """Kind of behaviour that the model decodes."""
        return "counts" if self.model == "poisson" else "classes"

    def run(self, samples: Samples, *, causal: bool, seed: int, progress: bool) -> SearchResult:
        """Run all trials, and decode the test split with the best one; `seed` is not used.

        Raises DataError when the train split has one class, and MissingDependencyError without
        scikit-learn.
        """
        make = _maker(self.model)
        all_bins = choose_bins(samples.interval, self.bin_sizes, self.reaches, causal=causal)
        metric, readout = samples.metric, samples.readout
        targets = samples.targets[samples.masks["valid"]]
        trials, fitted = [], []
        with Progress(f"tuning {self.model}", 0, len(all_bins), progress, unit="bins") as bar:
            for done, bins in enumerate(all_bins, start=1):
                fits = _Fits(samples, bins)
                for penalty in self.penalties:
                    decoder = fits.fit(partial(make, penalty))
                    values, _ = decoder.decode("valid")
                    score = metric.score(metric.sums(targets, values, readout))
                    trials.append(Trial(bins.settings() | {"penalty": penalty}, score))
                    fitted.append(decoder)
                bar.advance(done)
        best = best_of(trials)
        return SearchResult(trials, best, *fitted[best].decode("test"))


@dataclass(frozen=True, eq=False)
class _Features:
    """Counts in the bins about samples, scaled by a mean and a spread."""

    session: Session
    offsets: Float64[np.ndarray, " bins"]  # s
    mean: Float32[np.ndarray, " features"]
    std: Float32[np.ndarray, " features"]

    def scaled(self, counts: Features) -> Features:
        return (counts - self.mean) / self.std

    def chunks(self, times: Float64[np.ndarray, " samples"]) -> Iterator[Features]:
        """Features at these times, so many at once as fit the memory."""
        for first in range(0, len(times), MAX_SAMPLES):
            chunk = times[first : first + MAX_SAMPLES]
            yield self.scaled(spike_counts(self.session, chunk, self.offsets))


class _Fits:
    """The samples to fit to, and their features in one choice of bins."""

    def __init__(self, samples: Samples, bins: Bins):
        rows = np.flatnonzero(samples.masks["train"])
        weights = samples.weights()
        rows, weights = rows[weights > 0], weights[weights > 0]
        step = -(-len(rows) // MAX_SAMPLES)
        rows, self._weights = rows[::step], weights[::step]
        offsets = np.arange(-bins.past, bins.future + 1) * bins.size
        counts = spike_counts(samples.session, samples.times[rows], offsets)
        mean, std = counts.mean(axis=0), counts.std(axis=0)
        scale = np.where(std > 0, std, np.float32(1))
        self._samples = samples
        self._features = _Features(samples.session, offsets, mean, scale)
        self._matrix = self._features.scaled(counts)
        self._targets = samples.targets[rows]
        if samples.readout.kind == "classes" and len(np.unique(self._targets)) < 2:
            raise DataError(
                f"the train split of session {samples.session.id} has one class of"
                f" {samples.readout.value_key}, but two are the fewest to tell apart. Choose other"
                " splits."
            )

    def fit(self, make: Any) -> "_Decoder":
        """Fit a model of every channel; `make` makes one from the sum of the weights."""
        models = []
        for target in self._targets.T:
            model = make(float(self._weights.sum()))
            known = {} if _ignores_weights(model) else {"sample_weight": self._weights}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a fit that stops early shows in its score
                models.append(model.fit(self._matrix, target, **known))
        return _Decoder(self._samples, self._features, models)


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Models of the channels. It keeps no features of the samples that they were fitted to."""

    samples: Samples
    features: _Features
    models: list[Any]  # one a channel

    def decode(self, split: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Values [samples, channels] of a split, and probabilities of the classes."""
        times = self.samples.times[self.samples.masks[split]]
        decoded = np.concatenate([self._decode(x) for x in self.features.chunks(times)])
        if self.samples.readout.kind != "classes":
            return decoded, None
        return decoded.argmax(axis=1)[:, None].astype(float), decoded

    def _decode(self, features: Features) -> np.ndarray:
        readout = self.samples.readout
        if readout.kind != "classes":
            return np.stack([model.predict(features) for model in self.models], axis=1)
        (model,) = self.models
        probabilities = np.zeros((len(features), len(readout.classes)))
        probabilities[:, model.classes_.astype(int)] = model.predict_proba(features)
        return probabilities


def _ignores_weights(model: Any) -> bool:
    return type(model).__name__ == "LinearDiscriminantAnalysis"


def _maker(model: Model) -> Any:
    """Return a function (penalty, sum of weights) -> model of scikit-learn."""
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.linear_model import LogisticRegression, PoissonRegressor
    except ImportError as error:
        raise MissingDependencyError(
            f"the baseline {model!r} needs scikit-learn, which cannot be imported ({error}); run:"
            " pip install poyo_jax[baselines]"
        ) from error
    if model == "logistic":
        return lambda penalty, total: LogisticRegression(
            C=1 / (penalty * total), max_iter=ITERATIONS
        )
    if model == "poisson":
        return lambda penalty, total: PoissonRegressor(alpha=penalty, max_iter=ITERATIONS)
    return lambda penalty, total: LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=min(penalty, 1.0)
    )
