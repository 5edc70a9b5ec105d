"""Tuning of a run's units: rows that they can start from, and the map saved with the model.

With random embeddings every unit has to be learned by itself before anything is decoded. The
more units there are, the longer nothing is decoded. Rows that start from tuning let the model
apply to all units of like tuning what it learns of one.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float32

from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.distributed.processes import gather, problem_anywhere
from poyo_jax.errors import DataError
from poyo_jax.tuning import (
    Features,
    TuningMap,
    TuningSums,
    folds_of,
    tuning_features,
    untrained_rows,
)

logger = logging.getLogger(__name__)


class _Overlap(NamedTuple):
    """Units of a session whose rows lie in a range of the table."""

    number: int  # of the session
    inside: Bool[np.ndarray, " units"]
    rows: np.ndarray  # in the range, of the units inside


class UnitTuning:
    """Tuning features of the units of a run, each computed once, when it is first needed.

    Units are tuned to the first output of the model; sessions that lack it are left out. For this
    work the table of units is divided evenly among all devices. A process reads only the
    sessions whose rows its devices get.
    """

    def __init__(self, sources: Sequence[ModelSession], mesh: Mesh):
        self._sources, self._mesh = sources, mesh
        self._divided = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._divide = jax.jit(self._pad, out_shardings=self._divided)
        self._features: dict[int, Features] = {}
        self._untuned: set[int] = set()

    def start(self, params: dict) -> dict:
        """Fresh parameters with `untrained_rows` added to the scatter of the units' embeddings.

        All processes must call this. Raises DataError on each of them for a session with fewer than
        two measured samples in its train split.
        """
        table = params["unit_embedding"]
        *_, num_rows, dim = table.shape  # [rows, dim], or [members, rows, dim]
        shape = (self._padded(num_rows), dim)
        self._read_own(shape)

        def rows_of(index: Any) -> Float32[np.ndarray, "_rows dim"]:
            first, last, _ = index[0].indices(self._padded(num_rows))
            rows = np.zeros((last - first, dim), np.float32)
            for overlap in self._overlaps(first, last):
                of_session = untrained_rows(self._features_of(overlap.number), dim)
                rows[overlap.rows] = of_session[overlap.inside]
            return rows

        def add(table: Array, added: Array) -> Array:
            return table + added[:num_rows]

        added = jax.make_array_from_callback(shape, self._divided, rows_of)
        table = jax.jit(add, out_shardings=table.sharding)(table, added)
        return params | {"unit_embedding": table}

    def _read_own(self, shape: tuple[int, int]) -> None:
        """Compute the features that this process needs, and let all fail if one fails."""
        problem = ""
        try:
            for index in self._divided.addressable_devices_indices_map(shape).values():
                assert index is not None
                first, last, _ = index[0].indices(shape[0])
                for overlap in self._overlaps(first, last):
                    self._features_of(overlap.number)
        except DataError as error:
            problem = str(error)
        if problem := problem_anywhere(problem, "process {} cannot tune the units of a session"):
            raise DataError(problem)

    def fit(self, table: Float32[Array, "*members rows dim"]) -> TuningMap | None:
        """Fit the map from tuning to the rows of a table.

        None if no session has tuning, and for the tables of an ensemble. Sessions with fewer than
        two measured samples in their train split are left out. All processes must call this.
        """
        if table.ndim == 3:
            return None
        sums = None
        for shard in self._divide(table).addressable_shards:
            values = np.asarray(shard.data)
            first = shard.index[0].start or 0
            for overlap in self._overlaps(first, first + len(values)):
                features = self._known_features(overlap.number)
                if features is None:
                    continue
                if sums is None:
                    sums = TuningSums.zeros(features.shape[1], values.shape[1])
                folds = folds_of(overlap.number, len(self._sources), len(features))
                inside = overlap.inside
                sums.add(features[inside], values[overlap.rows], folds[inside])
        total = self._total(sums, table.shape[1])
        has_units = total.features[:, 0, 0].any()
        return TuningMap.fit_sums(total) if has_units else None

    def _total(self, sums: TuningSums | None, dim: int) -> TuningSums:
        """Sums over the units of all processes, of which this one may have none."""
        num_features = 0 if sums is None else sums.features.shape[1] - 1
        num_features = int(gather(np.array([num_features])).max())
        sums = sums or TuningSums.zeros(num_features, dim)
        totals = [gather(each).sum(axis=0) for each in sums]
        return TuningSums(*totals)

    def _padded(self, num_rows: int) -> int:
        """Rows that a table needs so that all devices get equally many."""
        return -(-num_rows // self._mesh.size) * self._mesh.size

    def _pad(self, table: Float32[Array, "rows dim"]) -> Float32[Array, "_padded dim"]:
        missing = self._padded(len(table)) - len(table)
        return jnp.pad(table, ((0, missing), (0, 0)))

    def _overlaps(self, first: int, last: int) -> Iterator[_Overlap]:
        """The tuned sessions that have units with rows from `first` to before `last`."""
        for number, source in enumerate(self._sources):
            if source.tuned is None:
                continue
            inside = (source.unit_rows >= first) & (source.unit_rows < last)
            if inside.any():
                yield _Overlap(number, inside, source.unit_rows[inside] - first)

    def _features_of(self, number: int) -> Features:
        if number not in self._features:
            source = self._sources[number]
            assert source.tuned is not None
            features = tuning_features(source.session, source.tuned, source.intervals)
            self._features[number] = features
        return self._features[number]

    def _known_features(self, number: int) -> Features | None:
        """Features of a session's units; None, and a line in the log, if it has too few samples."""
        if number in self._untuned:
            return None
        try:
            return self._features_of(number)
        except DataError as error:
            logger.info("left out of the tuning map: %s", error)
            self._untuned.add(number)
            return None
