"""What units fire to, and the embeddings that units of such tuning have in a trained model.

A trained model gives units of like tuning like embeddings. `TuningMap` is the ridge regression from
the one to the other over the units of pretraining. It is small and saved with the model, so that
the embeddings of new units can start where units of their tuning lie, without the pretraining
recordings. Before there is a trained model, `untrained_rows` gives units of like tuning like
embeddings. (Azabou et al. 2023 start from random ones, both times.)
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from etils import epath
from jaxtyping import Float32, Float64

from poyo_jax.baselines import spike_counts
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.errors import CheckpointError, DataError
from poyo_jax.files import write_text

EDGES = np.linspace(-0.35, 0.25, 7)  # s from a behaviour sample: bins in which spikes are counted
MAX_SAMPLES = 4000  # of the behaviour, spread evenly
RIDGES = (0.1, 1.0, 10.0, 1e6)  # the last one maps every unit to the mean embedding
MAX_FOLDS = 10
UNTRAINED_SD = 0.1  # of what one feature adds to a row, five times the scatter of fresh tables

Features = Float32[np.ndarray, "units features"]


def tuning_features(session: Session, readout: Readout, intervals: Intervals) -> Features:
    """Log rate of every unit, and by how much of its mean rate it fires more when the behaviour is
    one SD higher.

    The behaviour is the readout's channels and their norm, at samples inside `intervals`; spikes
    are counted in bins from 0.35 s before to 0.25 s after each. A unit that never spikes is
    untuned. Raises DataError when fewer than two samples were measured.
    """
    behaviour = session.behaviour(readout.value_key)
    times, values = (
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
    )
    measured = np.flatnonzero(intervals.contains(times) & np.isfinite(values).all(axis=1))
    if len(measured) < 2:
        raise DataError(
            f"session {session.id} has {len(measured)} measured samples of {readout.value_key} in"
            f" the {intervals.duration:g} s to learn from, but needs at least 2. Label more of it,"
            " or check its train split."
        )
    chosen = measured[
        np.linspace(0, len(measured) - 1, min(len(measured), MAX_SAMPLES)).astype(int)
    ]
    times, values = times[chosen], (values[chosen] - np.array(readout.mean)) / np.array(readout.std)
    values = np.concatenate([values, np.linalg.norm(values, axis=1, keepdims=True)], axis=1)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    counts = spike_counts(session, times, EDGES)  # [samples, units * bins]
    mean = counts.mean(axis=0)
    slopes = (counts - mean).T @ values.astype(np.float32) / (len(times) * (mean[:, None] + 0.05))
    units = len(session.unit_ids)
    rates = mean.reshape(units, -1).mean(axis=1) / (EDGES[1] - EDGES[0])
    features = np.concatenate([np.log(rates + 0.1)[:, None], slopes.reshape(units, -1)], axis=1)
    return features.astype(np.float32)


def untrained_rows(features: Features, dim: int) -> Float32[np.ndarray, "units dim"]:
    """Embeddings that say of a session's units what their tuning is, along directions that all
    models of a width share.

    Slopes are in units of their root mean square over the session, so that neither the rates nor
    the number of samples matter.
    """
    slopes = features[:, 1:] / (np.sqrt(np.mean(features[:, 1:] ** 2)) + 1e-6)
    scaled = np.concatenate(
        [(features[:, :1] - 1) / 2, slopes], axis=1
    )  # log rates are about 1 +- 2
    size = max(scaled.shape[1], dim)
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    return (UNTRAINED_SD * scaled @ directions[: scaled.shape[1], :dim]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TuningMap:
    """A linear map from tuning features to embeddings."""

    mean: Float64[np.ndarray, " features"]  #: of the features
    std: Float64[np.ndarray, " features"]  #: of the features
    weights: Float64[np.ndarray, "features dim"]  #: of the features in SD
    origin: Float64[np.ndarray, " dim"]  #: mean embedding

    @classmethod
    def fit(
        cls, features: Sequence[Features], rows: Sequence[Float32[np.ndarray, "units2 dim"]]
    ) -> "TuningMap":
        """Learn from the features and embeddings of the units of several sessions.

        The ridge is the one that predicts units of left-out sessions best; if none predicts them
        better than their mean does, that is what the map gives. Of a single session, parts of the
        units are left out.
        """
        groups = np.repeat(np.arange(len(features)) % MAX_FOLDS, [len(some) for some in features])
        x, y = np.concatenate(features).astype(np.float64), np.concatenate(rows).astype(np.float64)
        folds = groups if len(features) > 1 else np.arange(len(x)) % min(5, len(x))
        errors = [
            sum(_left_out_error(x, y, folds == fold, ridge) for fold in np.unique(folds))
            for ridge in RIDGES
        ]
        return cls._solve(x, y, RIDGES[int(np.argmin(errors))])

    @classmethod
    def _solve(cls, x: np.ndarray, y: np.ndarray, ridge: float) -> "TuningMap":
        mean, std, origin = x.mean(axis=0), x.std(axis=0) + 1e-6, y.mean(axis=0)
        scaled = (x - mean) / std
        penalty = ridge * len(x) * np.eye(x.shape[1])
        return cls(
            mean, std, np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (y - origin)), origin
        )

    def rows(self, features: Features) -> Float32[np.ndarray, "units dim"]:
        """Embeddings for units with these features. Raises DataError when the map is for a
        behaviour of other size.
        """
        if features.shape[1] != len(self.mean):
            raise DataError(
                f"the model's tuning map takes {len(self.mean)} features of a unit, but there are"
                f" {features.shape[1]}: it belongs to a behaviour with another number of channels."
                " Choose another readout."
            )
        return (self.origin + (features - self.mean) / self.std @ self.weights).astype(np.float32)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({name: array.tolist() for name, array in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "TuningMap":
        """The map that `to_json` wrote."""
        return cls(**{name: np.array(values) for name, values in json.loads(text).items()})


def _left_out_error(x: np.ndarray, y: np.ndarray, left_out: np.ndarray, ridge: float) -> float:
    """Squared error of the left-out units under the map of the others; infinite when there are no
    others.
    """
    if left_out.all():
        return np.inf
    found = TuningMap._solve(x[~left_out], y[~left_out], ridge)
    return float(np.sum((found.rows(x[left_out].astype(np.float32)) - y[left_out]) ** 2))


def map_path(path: epath.PathLike, step: int) -> epath.Path:
    """Where the folder of a run or of a saved model keeps the map of a step."""
    return epath.Path(path) / "tuning_maps" / f"{step}.json"


def save_map(path: epath.PathLike, step: int, tuning: TuningMap) -> None:
    """Write the map of a step. Raises PoyoError when the folder cannot be written."""
    write_text(map_path(path, step), tuning.to_json())


def load_map(path: epath.PathLike, step: int) -> TuningMap | None:
    """The map of a step, if there is one. Raises CheckpointError when its file is damaged."""
    file = map_path(path, step)
    try:
        return TuningMap.from_json(file.read_text()) if file.exists() else None
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not the tuning map that was saved ({error}). Copy it again; or delete it,"
            " and new units start at the mean of the trained ones."
        ) from error
