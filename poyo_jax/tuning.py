"""Tuning features of units, and a ridge map from them to embeddings.

A trained model gives units of like tuning like embeddings. `TuningMap` is the ridge regression from
the one to the other over the units of pretraining. It is small and saved with the model. With it
the embeddings of new units can start where units of their tuning lie, without the pretraining
recordings. Before there is a trained model, `untrained_rows` gives units of like tuning like
embeddings. (Azabou et al. 2023 start from random embeddings, both times.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from poyo_jax.checks import check_number, integer
from poyo_jax.data.classes import readout_values
from poyo_jax.data.given import one_readout, one_session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.spike_counts import spike_counts
from poyo_jax.errors import DataError
from poyo_jax.types import Readout

EDGES = np.linspace(-0.35, 0.25, 7)  # s from a behaviour sample: bins in which spikes are counted
MAX_SAMPLES = 4000  # of the behaviour, spread evenly
RIDGES = (0.1, 1.0, 10.0, 1e6)  # the last one maps every unit to the mean embedding
NUM_FOLDS = 10
UNTRAINED_SD = 0.1  # of what one feature adds to a row, five times the scatter of fresh tables

Features = Float32[np.ndarray, "units features"]


def tuning_features(session: Session, readout: Readout, intervals: Intervals) -> Features:
    """Log rate of every unit, and its modulation by the behaviour at several lags.

    The modulation is the change of the rate per SD of the behaviour, relative to the mean rate. The
    behaviour is the readout's channels and their norm, or for classes a channel for each that is 1
    in its samples, at samples inside `intervals`. Spikes are counted in bins from 0.35 s before to
    0.25 s after each sample. A unit that never spikes is untuned. Raises DataError when fewer than
    two samples were measured.
    """
    session, readout = one_session(session), one_readout(readout)
    times, behaviour = _samples(session, readout, intervals)
    counts = spike_counts(session, times, EDGES)  # [samples, units * bins]
    mean = counts.mean(axis=0)
    products = (counts - mean).T @ behaviour  # [units * bins, channels + 1]
    slopes = products / (len(times) * (mean[:, None] + 0.05))
    num_units = len(session.unit_ids)
    rates = mean.reshape(num_units, -1).mean(axis=1) / (EDGES[1] - EDGES[0])  # Hz
    log_rates = np.log(rates + 0.1)[:, None]
    features = np.concatenate([log_rates, slopes.reshape(num_units, -1)], axis=1)
    return features.astype(np.float32)


def _samples(
    session: Session, readout: Readout, intervals: Intervals
) -> tuple[Float64[np.ndarray, " samples"], Float32[np.ndarray, "samples channels"]]:
    """Times of measured samples, and the channels with their norm there, each of SD 1."""
    behaviour = session.behaviour(readout.value_key)
    times = behaviour.times_at(np.arange(behaviour.count))
    values = readout_values(behaviour, readout, 0, behaviour.count)
    measured = np.flatnonzero(intervals.contains(times) & np.isfinite(values).all(axis=1))
    if len(measured) < 2:
        raise DataError(
            f"session {session.id} has {len(measured)} measured samples of {readout.value_key} in"
            f" the {intervals.duration:g} s to learn from, but needs at least 2. Label more of it,"
            " or check its train split."
        )
    count = min(len(measured), MAX_SAMPLES)
    chosen = measured[np.linspace(0, len(measured) - 1, count).astype(int)]
    values = _channels(values[chosen], readout)
    values = np.concatenate([values, np.linalg.norm(values, axis=1, keepdims=True)], axis=1)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    return times[chosen], values.astype(np.float32)


def _channels(values: np.ndarray, readout: Readout) -> np.ndarray:
    """Values of a readout as channels to which units may be tuned."""
    if readout.kind == "classes":
        return (values == np.arange(len(readout.classes))).astype(float)
    if readout.kind == "counts":
        return values
    return (values - np.array(readout.mean)) / np.array(readout.std)


def untrained_rows(features: Features, dim: int) -> Float32[np.ndarray, "units dim"]:
    """Embeddings of a session's units that encode their tuning, for a model before training.

    All models of a width share the directions. Slopes are in units of their root mean square over
    the session, so that neither the rates nor the number of samples matter.
    """
    check_number("dim", dim, integer(1))
    log_rates = (features[:, :1] - 1) / 2  # which are about 1 +- 2
    slopes = features[:, 1:] / (np.sqrt(np.mean(features[:, 1:] ** 2)) + 1e-6)
    scaled = np.concatenate([log_rates, slopes], axis=1)
    size = max(scaled.shape[1], dim)
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    rows = UNTRAINED_SD * scaled @ directions[: scaled.shape[1], :dim]
    return rows.astype(np.float32)


class TuningSums(NamedTuple):
    """Sums over units, by fold, from which a `TuningMap` is fitted.

    Sums of the same folds over other units may be added.
    """

    features: Float64[np.ndarray, "folds inputs inputs"]  #: products of 1 and the features
    rows: Float64[np.ndarray, "folds inputs dim"]  #: products of 1 and the features with the rows
    squares: Float64[np.ndarray, " folds"]  #: squared norms of the rows

    @classmethod
    def zeros(cls, num_features: int, dim: int) -> "TuningSums":
        """Sums over no units."""
        size = num_features + 1
        features, rows = np.zeros((NUM_FOLDS, size, size)), np.zeros((NUM_FOLDS, size, dim))
        return cls(features, rows, np.zeros(NUM_FOLDS))

    def add(
        self,
        features: Features,
        rows: Float[np.ndarray, "units dim"],
        folds: Int[np.ndarray, " units"],
    ) -> None:
        """Add the features and embeddings of units, each to its fold."""
        inputs = np.concatenate([np.ones((len(features), 1)), features], axis=1, dtype=np.float64)
        rows = rows.astype(np.float64)
        for fold in np.unique(folds):
            inside = folds == fold
            self.features[fold] += inputs[inside].T @ inputs[inside]
            self.rows[fold] += inputs[inside].T @ rows[inside]
            self.squares[fold] += np.sum(rows[inside] ** 2)


def folds_of(number: int, num_sessions: int, num_units: int) -> Int[np.ndarray, " units"]:
    """Fold of every unit of session `number`, as a position from 0.

    Sessions are left out as a whole; of a single session, parts of the units are.
    """
    if num_sessions > 1:
        return np.full(num_units, number % NUM_FOLDS)
    return np.arange(num_units) % min(5, num_units)


@dataclass(frozen=True, eq=False)
class TuningMap:
    """A linear map from tuning features to embeddings."""

    mean: Float64[np.ndarray, " features"]  #: of the features
    std: Float64[np.ndarray, " features"]  #: of the features
    weights: Float64[np.ndarray, "features dim"]  #: of the features in SD
    origin: Float64[np.ndarray, " dim"]  #: mean embedding

    @classmethod
    def fit(
        cls, features: Sequence[Features], rows: Sequence[Float[np.ndarray, "units2 dim"]]
    ) -> "TuningMap":
        """Learn from the features and embeddings of the units of several sessions.

        The ridge is the one that predicts units of left-out sessions best. If none predicts them
        better than their mean does, the map gives the mean. Of a single session, parts of the units
        are left out. Raises DataError when a feature or an embedding is not finite.
        """
        sums = TuningSums.zeros(features[0].shape[1], rows[0].shape[1])
        for number, of_session in enumerate(features):
            folds = folds_of(number, len(features), len(of_session))
            sums.add(of_session, rows[number], folds)
        return cls.fit_sums(sums)

    @classmethod
    def fit_sums(cls, sums: TuningSums) -> "TuningMap":
        """Learn from the sums over all units, as `fit` does.

        Raises DataError when a sum is not finite.
        """
        folds = np.flatnonzero(sums.features[:, 0, 0])
        errors = []
        for ridge in RIDGES:
            errors.append(sum(_left_out_error(sums, folds, fold, ridge) for fold in folds.tolist()))
        if np.isnan(errors).any():
            raise DataError(
                "the tuning map cannot be learned: the rows or the tuning of a unit are not finite."
                " Load another checkpoint, or look for extreme targets in the sessions."
            )
        return cls._solve(sums, folds, RIDGES[int(np.argmin(errors))])

    @classmethod
    def _solve(cls, sums: TuningSums, folds: np.ndarray, ridge: float) -> "TuningMap":
        features = sums.features[folds].sum(axis=0)
        rows = sums.rows[folds].sum(axis=0)
        count = features[0, 0]
        mean, origin = features[0, 1:] / count, rows[0] / count
        covariance = features[1:, 1:] / count - np.outer(mean, mean)
        std = np.sqrt(np.maximum(np.diag(covariance), 0)) + 1e-6
        scaled = covariance / np.outer(std, std) + ridge * np.eye(len(std))
        target = (rows[1:] / count - np.outer(mean, origin)) / std[:, None]
        return cls(mean, std, np.linalg.solve(scaled, target), origin)

    def rows(self, features: Features) -> Float32[np.ndarray, "units dim"]:
        """Embeddings for units with these features.

        Raises DataError when the map is for a behaviour with another number of channels.
        """
        if features.shape[1] != len(self.mean):
            raise DataError(
                f"the model's tuning map takes {len(self.mean)} features of a unit, but there are"
                f" {features.shape[1]}: it belongs to a behaviour with another number of channels."
                " Choose another readout."
            )
        scaled = (features - self.mean) / self.std
        return (self.origin + scaled @ self.weights).astype(np.float32)

    def to_dict(self) -> dict[str, list]:
        """All numbers as lists, which JSON can hold."""
        return {name: array.tolist() for name, array in asdict(self).items()}

    def check(self, dim: int) -> None:
        """Raise ValueError unless all arrays are numbers of fitting shapes, for rows of `dim`."""
        num_features = self.mean.size
        shapes = {
            "mean": (num_features,),
            "std": (num_features,),
            "weights": (num_features, dim),
            "origin": (dim,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64:
                raise ValueError(
                    f"the tuning map's {name} is {array.dtype} of shape {array.shape}, and should"
                    f" be float64 of shape {shape}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TuningMap":
        """The map that `to_dict` made."""
        return cls(**{name: np.array(numbers) for name, numbers in values.items()})


def _left_out_error(sums: TuningSums, folds: np.ndarray, left_out: int, ridge: float) -> float:
    """Squared error of a fold under the map of the others; infinite when there are no others."""
    others = folds[folds != left_out]
    if not len(others):
        return np.inf
    fitted = TuningMap._solve(sums, others, ridge)
    slopes = fitted.weights / fitted.std[:, None]
    offset = fitted.origin - fitted.mean @ slopes
    weights = np.concatenate([offset[None], slopes])  # of 1 and the features
    predicted = np.sum(weights * (sums.features[left_out] @ weights))
    shared = np.sum(weights * sums.rows[left_out])
    return float(predicted - 2 * shared + sums.squares[left_out])
