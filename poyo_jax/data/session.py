"""One continuous recording with one set of units: its spikes, behaviour, intervals and splits."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from poyo_jax.data.behaviour import Behaviour, behaviour_from_node, check_times, count_before
from poyo_jax.data.build import Pairs, tree_from_arrays
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.layout import Node, read_tree, write_tree
from poyo_jax.errors import DataError, SessionError, suggest

SPLITS = ("train", "valid", "test")
SERIES_KINDS = ("IrregularTimeSeries", "RegularTimeSeries")
# Data sets whose splits reach beyond what was recorded: their splits count only within the domains of the spikes and of
# this series (the data set classes of torch_brain for the same data).
SPLIT_WITHIN = {
    "churchland_shenoy_neural_2012": "cursor",
    "odoherty_sabes_nonhuman_2017": "cursor",
    "flint_slutzky_accurate_2012": "hand",
}


class Session:
    """A session in memory or mapped from a file; all times are float64 seconds of session time.

    Opening a file reads little of it and keeps no HDF5 handle. A session opened from a file pickles as its path.
    Make one with `Session.open(path)` or `Session.from_arrays(...)`.

    Attributes:
        id: "<brainset_id>/<session_id>", or the session_id alone when the data set has no name.
        unit_ids: ids of the units as in the file, [units].
        unit_names: "<id>/<unit_id>": names that differ between sessions, [units].
        spike_times: sorted times, [spikes]. spike_units: position in `unit_ids` of every spike's unit, [spikes].
        domain: where data exist.
    """

    def __init__(self, tree: Node, path: Path | None = None) -> None:
        self._tree = tree
        self._intervals: dict[str, Intervals] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self.path = path
        self.session_id: str = _attribute(tree, "session", "id") or (path.stem if path else "session")
        self.brainset_id: str | None = _attribute(tree, "brainset", "id")
        self.subject_id: str | None = _attribute(tree, "subject", "id")
        self.id = f"{self.brainset_id}/{self.session_id}" if self.brainset_id else self.session_id
        self.unit_ids: tuple[str, ...] = self._read_unit_ids()
        self.unit_names: tuple[str, ...] = tuple(f"{self.id}/{unit_id}" for unit_id in self.unit_ids)
        self.spike_times: Float64[np.ndarray, " spikes"] = np.asarray(self._column("spikes", "timestamps"), np.float64)
        self.spike_units: Int64[np.ndarray, " spikes"] = np.asarray(self._column("spikes", "unit_index"), np.int64)
        self._check_ends()
        self._column("domain", "start")
        self.domain = self.intervals("domain")

    @classmethod
    def open(cls, path: str | Path) -> "Session":
        """Open a session file. Raises SessionError when it is missing, damaged, or not a session."""
        return cls(read_tree(path), Path(path).absolute())

    @classmethod
    def from_arrays(
        cls,
        spike_times: ArrayLike,
        spike_units: ArrayLike,
        unit_ids: ArrayLike,
        target_times: ArrayLike,
        targets: ArrayLike,
        *,
        session_id: str,
        brainset_id: str | None = None,
        subject_id: str | None = None,
        target_key: str = "cursor.vel",
        train: Pairs | None = None,
        valid: Pairs | None = None,
        test: Pairs | None = None,
        intervals: dict[str, Pairs] | None = None,
        domain: Pairs | None = None,
    ) -> "Session":
        """Make a session from arrays.

        Args:
            spike_times: sorted times in seconds, [spikes].
            spike_units: position in `unit_ids` of every spike's unit, [spikes].
            unit_ids: names or numbers of the units, each once, [units].
            target_times: increasing times in seconds, [samples].
            targets: behaviour at those times, [samples] or [samples, channels]; NaN where it was not measured.
            session_id: name of the session, unlike that of any other session of the same data set.
            brainset_id: name of the data set.
            subject_id: name of the subject.
            target_key: "<series>.<column>" under which the targets are kept.
            train: (start, end) pairs of the train split. Without any split the domain is cut in ten equal blocks:
                5 is valid, 3 and 8 are test (counted from 0), the others are train.
            valid: (start, end) pairs of the valid split.
            test: (start, end) pairs of the test split.
            intervals: further named pairs, for example {"movement_phases.reach_period": [(0.5, 1.0)]}; they may
                overlap.
            domain: (start, end) pairs in which data exist; by default from the first to the last spike or target.

        Raises:
            SessionError: an array is not as described, or a time is not finite, or negative and outside `domain`.
        """
        tree = tree_from_arrays(
            spike_times,
            spike_units,
            unit_ids,
            target_times,
            targets,
            ids={"brainset": brainset_id, "subject": subject_id, "session": session_id},
            target_key=target_key,
            splits={"train": train, "valid": valid, "test": test},
            intervals=intervals or {},
            domain=domain,
        )
        return cls(tree)

    def save(self, path: str | Path) -> None:
        """Write a file that `open`, temporaldata and torch_brain read. Raises SessionError when that fails."""
        write_tree(path, self._tree)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Session.open, (self.path,)) if self.path else (Session, (self._tree,))

    def __repr__(self) -> str:
        counts = f"{len(self.unit_ids)} units, {len(self.spike_times)} spikes, {self.domain.duration:g} s"
        return f"Session({self.id}: {counts}; {', '.join(self.behaviour_keys) or 'no behaviour'})"

    # -------------------------------------------------------------------------------------------------- spikes

    def spikes_between(
        self, start: float, stop: float
    ) -> tuple[Float64[np.ndarray, " spikes"], Int64[np.ndarray, " spikes"]]:
        """Times, in seconds of session time, and units of the spikes with start <= time < stop."""
        first, end = count_before(self.spike_times, [start, stop])
        return np.array(self.spike_times[first:end]), np.array(self.spike_units[first:end])

    def count_spikes(self, start: float, stop: float) -> int:
        """Number of spikes with start <= time < stop; reads only a few spike times."""
        first, end = count_before(self.spike_times, [start, stop])
        return int(end - first)

    def max_spikes(self, window_length: float) -> int:
        """Upper bound of the spikes in any window [start, start + window_length), from few spike times.

        Such a window touches at most two neighbours in a row of cells that are a hair longer than it.
        """
        if not len(self.spike_times):
            return 0
        first, last = self.spike_times[0], self.spike_times[-1]
        cell = window_length * (1 + 1e-9) + 1e-9
        edges = first + cell * np.arange(int((last - first) / cell) + 3)
        before = count_before(self.spike_times, edges)
        return int(np.max(before[2:] - before[:-2]))

    # -------------------------------------------------------------------------------------------------- intervals

    def intervals(self, name: str) -> Intervals:
        """Intervals by dotted name, for example "movement_phases.reach_period", "trials" or "cursor.domain".

        Overlapping rows of the file are merged, and rows that hold no time are left out. Raises SessionError when
        there is no such group.
        """
        if name not in self._intervals:
            known = {path: node for path, node in self._tree.walk() if node.kind == "Interval"}
            if name not in known:
                listed = ", ".join(path for path in known if not path.endswith("domain")) or "none besides its domains"
                raise SessionError(
                    f"session {self.id} has no intervals {name!r}; it has {listed}.{suggest(name, known)}"
                )
            node = known[name]
            self._intervals[name] = Intervals.from_overlapping(node.column("start"), node.column("end"))
        return self._intervals[name]

    def split(self, name: str) -> Intervals:
        """Intervals of the split "train", "valid" or "test", or of the whole session, "all".

        Blocks that touch stay separate. Raises DataError when the session has no such split or nothing is in it.
        """
        if name not in (*SPLITS, "all"):
            raise DataError(f"there is no split {name!r}; choose train, valid, test or all.")
        split = self.domain if name == "all" else self._named_split(name)
        if not len(split):
            raise DataError(
                f"the {name} split of session {self.id} is empty; choose another split or drop the session."
            )
        return split

    def has_split(self, name: str) -> bool:
        """Whether the session has the split "train", "valid" or "test" and something is in it."""
        return f"{name}_domain" in self._tree.members and len(self._named_split(name)) > 0

    def _named_split(self, name: str) -> Intervals:
        if f"{name}_domain" not in self._tree.members:
            raise DataError(
                f"session {self.id} has no {name} split (no group {name}_domain); "
                "choose another split or drop the session."
            )
        split = self.intervals(f"{name}_domain")
        if self.brainset_id not in SPLIT_WITHIN:
            return split
        series_domain = self.intervals(f"{SPLIT_WITHIN[self.brainset_id]}.domain")
        return split.intersect(series_domain).intersect(self.intervals("spikes.domain"))

    # -------------------------------------------------------------------------------------------------- behaviour

    @property
    def behaviour_keys(self) -> tuple[str, ...]:
        """Every numeric "<series>.<column>" of the session, for example "cursor.vel"."""
        return tuple(
            f"{name}.{column}"
            for name, node in self._tree.walk()
            if node.kind in SERIES_KINDS and name != "spikes"
            for column, samples in node.members.items()
            if isinstance(samples, np.ndarray) and samples.dtype.kind in "iuf" and samples.ndim in (1, 2)
            if column != "timestamps"
        )

    def behaviour(self, key: str) -> Behaviour:
        """The behavioural variable `key`, for example "cursor.vel". Raises SessionError when there is none."""
        if key not in self._behaviours:
            if key not in (keys := self.behaviour_keys):
                listed = ", ".join(keys) or "none at all"
                raise SessionError(f"session {self.id} has no behaviour {key!r}; it has {listed}.{suggest(key, keys)}")
            name, column = key.rsplit(".", 1)
            series, domain = dict(self._tree.walk())[name], self.intervals(f"{name}.domain")
            self._behaviours[key] = behaviour_from_node(key, series, column, domain)
        return self._behaviours[key]

    # -------------------------------------------------------------------------------------------------- checks

    def check(self) -> None:
        """Read all spikes and time stamps.

        Raises SessionError when times are out of order or not finite, or when a spike's unit does not exist.
        """
        check_times(self.spike_times, f"{self.id}: spike_times")
        wrong = (self.spike_units < 0) | (self.spike_units >= len(self.unit_ids))
        if wrong.any():
            self._refuse_unit(int(np.argmax(wrong)))
        for key in self.behaviour_keys:
            timestamps = self.behaviour(key).timestamps
            if timestamps is not None:
                check_times(timestamps, f"{self.id}: {key.rsplit('.', 1)[0]}.timestamps")

    def _check_ends(self) -> None:
        """Refuse what the lengths and the first and last spike give away."""
        times, units = self.spike_times, self.spike_units
        if len(times) != len(units):
            raise SessionError(
                f"session {self.id} has {len(times)} spike times but {len(units)} spike units; every spike needs both. "
                "The file is damaged or was written wrongly."
            )
        ends = [0, -1] if len(times) else []
        check_times(times[ends], f"{self.id}: first and last spike_times")
        for spike in ends:
            if not 0 <= units[spike] < len(self.unit_ids):
                self._refuse_unit(spike % len(units))

    def _refuse_unit(self, spike: int) -> None:
        raise SessionError(
            f"session {self.id}: spike {spike} belongs to unit {self.spike_units[spike]}, but there are "
            f"{len(self.unit_ids)} units; it must be one of 0 ... {len(self.unit_ids) - 1}."
        )

    def _column(self, group: str, column: str) -> np.ndarray:
        node = self._tree.members.get(group)
        array = node.members.get(column) if isinstance(node, Node) else None
        if not isinstance(array, np.ndarray):
            raise SessionError(
                f"{self.path or 'this tree'} is not a session: it has no {group}.{column}. A session holds spikes "
                "(timestamps, unit_index), units (id) and domain (start, end)."
            )
        return array

    def _read_unit_ids(self) -> tuple[str, ...]:
        column = self._column("units", "id")
        unit_ids = tuple(item.decode() if isinstance(item, bytes) else str(item) for item in column.tolist())
        if not unit_ids:
            raise SessionError(f"session {self.id} has no units; it needs at least one.")
        if len(set(unit_ids)) < len(unit_ids):
            twice = next(unit_id for unit_id in unit_ids if unit_ids.count(unit_id) > 1)
            raise SessionError(f"session {self.id} has several units called {twice!r}; give each its own id.")
        return unit_ids


def _attribute(tree: Node, group: str, name: str) -> str | None:
    node = tree.members.get(group)
    value = node.attrs.get(name) if isinstance(node, Node) else None
    return None if value is None else str(value)
