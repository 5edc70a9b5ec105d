"""One continuous recording with one set of units: its spikes, behaviour, intervals and splits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from poyo_jax.data.behaviour import Behaviour, behaviour_from_node, check_times, count_before
from poyo_jax.data.importers.arrays import Pairs, tree_from_arrays
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.io.nodes import interval_node
from poyo_jax.data.io.stored import ChunkedArray, StoredArray
from poyo_jax.data.io.writing import write_tree
from poyo_jax.errors import DataError, SessionError, suggest

SPLITS = ("train", "valid", "test")
SERIES_KINDS = ("IrregularTimeSeries", "RegularTimeSeries")
# Data sets whose splits reach beyond what was recorded: their splits count only within the domains
# of the spikes and of this series (the data set classes of torch_brain for the same data).
SPLIT_WITHIN = {
    "churchland_shenoy_neural_2012": "cursor",
    "odoherty_sabes_nonhuman_2017": "cursor",
    "flint_slutzky_accurate_2012": "hand",
}


class Session:
    """A session in memory or mapped from a file; all times are float64 seconds of session time.

    Opening a file reads little of it, and a session opened from a file pickles without its data.
    Make one with `Session.open`, `Session.from_arrays`, `Session.from_nwb` or
    `Session.from_pynapple`.

    Attributes:
        id: "<brainset_id>/<session_id>", or the session_id alone when the data set has no name.
        unit_ids: ids of the units as in the file, [units].
        unit_names: "<id>/<unit_id>": names that differ between sessions, [units].
        spike_times: sorted times, [spikes].
        spike_units: position in `unit_ids` of every spike's unit, [spikes].
        domain: where data exist.
    """

    def __init__(self, tree: Node, path: Path | None = None) -> None:
        self._tree = tree
        self._intervals: dict[str, Intervals] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self.path = path
        self.session_id: str = _attribute(tree, "session", "id") or (
            path.stem if path else "session"
        )
        self.brainset_id: str | None = _attribute(tree, "brainset", "id")
        self.subject_id: str | None = _attribute(tree, "subject", "id")
        self.id = f"{self.brainset_id}/{self.session_id}" if self.brainset_id else self.session_id
        self.unit_ids: tuple[str, ...] = self._read_unit_ids()
        self.unit_names: tuple[str, ...] = tuple(
            f"{self.id}/{unit_id}" for unit_id in self.unit_ids
        )
        self.spike_times = self._spike_column("timestamps", np.float64)
        self.spike_units = self._spike_column("unit_index", np.int64)
        self._check_ends()
        self._column("domain", "start")
        self.domain = self.intervals("domain")

    @classmethod
    def open(cls, path: str | Path) -> "Session":
        """Open a session file. Raises SessionError when it is missing, damaged, or not a
        session.
        """
        return cls(read_tree(path, eager_bytes=0), Path(path).absolute())

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
            targets: behaviour at those times, [samples] or [samples, channels]; NaN where it was
            not measured.
            session_id: name of the session, unlike that of any other session of the same data set.
            brainset_id: name of the data set.
            subject_id: name of the subject.
            target_key: "<series>.<column>" under which the targets are kept.
            train: (start, end) pairs of the train split. Without any split the domain is cut in ten
                equal blocks: 5 is valid, 3 and 8 are test (counted from 0), the others are train.
            valid: (start, end) pairs of the valid split.
            test: (start, end) pairs of the test split.
            intervals: further named pairs, for example {"movement_phases.reach_period": [(0.5,
                1.0)]}; they may overlap.
            domain: (start, end) pairs in which data exist; by default from the first to the last
            spike or target.

        Raises:
            SessionError: an array is not as described, or a time is not finite, or negative and
            outside `domain`.
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

    @classmethod
    def from_nwb(
        cls,
        path: str | Path,
        target: str,
        *,
        session_id: str | None = None,
        brainset_id: str | None = None,
        split: str | None = None,
        phases: dict[str, tuple[str, str]] | None = None,
        max_speed: float | None = None,
        max_acceleration: float | None = None,
        derive_velocity: bool = False,
    ) -> "Session":
        """Make a session from an NWB file with units and a behaviour series; `candidate_targets`
        lists the latter.

        Values are `data * conversion + offset`, in the unit that the file names. A series
        ".../cursor_vel" becomes "cursor.vel", "cursor_pos" "cursor.pos", any other
        "behavior.<name>". The domain is where there are samples: a step above five median ones is a
        gap. The session is called `session_id`, or else as the file; the other arguments are
        described at `poyo_jax.data.importers.nwb_session.NwbOptions`.

        Raises:
            RawDataError: the file cannot be read, or lacks units, the target, or a trial column.
            DataError: there are too few trials to split by them.
            ConfigError: an option cannot be used.
        """
        from poyo_jax.data.importers.nwb_session import NwbOptions, nwb_tree

        options = NwbOptions(
            target=target,
            split=split,
            phases=phases or {},
            max_speed=max_speed,
            max_acceleration=max_acceleration,
            derive_velocity=derive_velocity,
            brainset_id=brainset_id,
        )
        return cls(nwb_tree(path, options, session_id))

    @classmethod
    def from_pynapple(
        cls,
        spikes: Any,
        target: Any,
        *,
        session_id: str,
        brainset_id: str | None = None,
        subject_id: str | None = None,
        target_key: str = "cursor.vel",
        train: Any = None,
        valid: Any = None,
        test: Any = None,
        intervals: dict[str, Any] | None = None,
    ) -> "Session":
        """Make a session from a TsGroup of units, a Tsd or TsdFrame of behaviour, and IntervalSets.

        Unit 7 is called "unit_7"; metadata are kept. The domain ends with an interval of the
        target's time support, and where a step is above five median ones. Without any split,
        `intervals["trials"]` are split as in `from_nwb`, if there are six or more, and else the
        domain as in `from_arrays`, which describes the other arguments.

        Raises:
            SessionError: an object is not as described.
        """
        from poyo_jax.data.importers.pynapple import pynapple_tree

        ids = {"brainset": brainset_id, "subject": subject_id, "session": session_id}
        splits = {"train": train, "valid": valid, "test": test}
        tree = pynapple_tree(
            spikes, target, ids=ids, target_key=target_key, splits=splits, intervals=intervals or {}
        )
        return cls(tree)

    def save(self, path: str | Path, *, compress: bool = False) -> None:
        """Write a file that `open`, temporaldata and torch_brain read. Raises SessionError when
        that fails.

        With `compress` it is about half as large, but a window takes milliseconds to read.
        """
        write_tree(path, self._tree, compress=compress)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Session, (self._tree, self.path))

    def __repr__(self) -> str:
        counts = (
            f"{len(self.unit_ids)} units, {len(self.spike_times)} spikes,"
            f" {self.domain.duration:g} s"
        )
        return f"Session({self.id}: {counts}; {', '.join(self.behaviour_keys) or 'no behaviour'})"

    # --- spikes

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
        """Upper bound of the spikes in any window [start, start + window_length), from few spike
        times.

        Such a window touches at most two neighbours in a row of cells that are a hair longer than
        it.
        """
        if not len(self.spike_times):
            return 0
        first, last = self.spike_times[0], self.spike_times[-1]
        cell = window_length * (1 + 1e-9) + 1e-9
        edges = first + cell * np.arange(int((last - first) / cell) + 3)
        before = count_before(self.spike_times, edges)
        return int(np.max(before[2:] - before[:-2]))

    # --- intervals

    def intervals(self, name: str) -> Intervals:
        """Intervals by dotted name, for example "movement_phases.reach_period", "trials" or
        "cursor.domain".

        Overlapping rows of the file are merged, and rows that hold no time are left out. Raises
        SessionError when there is no such group.
        """
        if name not in self._intervals:
            node = self._interval_node(name)
            self._intervals[name] = Intervals.from_overlapping(
                node.column("start"), node.column("end")
            )
        return self._intervals[name]

    @property
    def interval_names(self) -> tuple[str, ...]:
        """Every name that `intervals` and `table` know."""
        return tuple(path for path, node in self._tree.walk() if node.kind == "Interval")

    def table(self, name: str) -> dict[str, np.ndarray]:
        """The rows of intervals as they stand in the file, with all their columns: for "trials"
        results and targets.

        Raises SessionError as `intervals` does.
        """
        node = self._interval_node(name)
        return {column: node.column(column) for column in node.members}

    def _interval_node(self, name: str) -> Node:
        known = {path: node for path, node in self._tree.walk() if node.kind == "Interval"}
        if name not in known:
            listed = (
                ", ".join(path for path in known if not path.endswith("domain"))
                or "none besides its domains"
            )
            raise SessionError(
                f"session {self.id} has no intervals {name!r}; it has"
                f" {listed}.{suggest(name, known)}"
            )
        return known[name]

    def split(self, name: str) -> Intervals:
        """Intervals of the split "train", "valid" or "test", or of the whole session, "all".

        Blocks that touch stay separate. Raises DataError when the session has no such split or
        nothing is in it.
        """
        if name not in (*SPLITS, "all"):
            raise DataError(f"there is no split {name!r}; choose train, valid, test or all.")
        split = self.domain if name == "all" else self._named_split(name)
        if not len(split):
            raise DataError(
                f"the {name} split of session {self.id} is empty; choose another split or drop the"
                " session."
            )
        return split

    def has_split(self, name: str) -> bool:
        """Whether the session has the split "train", "valid" or "test" and something is in it."""
        return f"{name}_domain" in self._tree.members and len(self._named_split(name)) > 0

    def with_splits(self, **splits: Pairs) -> "Session":
        """The same session with these (start, end) pairs for its splits "train", "valid" and
        "test".
        """
        nodes = {
            f"{name}_domain": interval_node(Intervals.from_pairs(pairs))
            for name, pairs in splits.items()
        }
        return Session(replace(self._tree, members=self._tree.members | nodes), self.path)

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

    @property
    def unit_table(self) -> dict[str, np.ndarray]:
        """The columns of the units as they stand in the file, such as `area_name`; rows as in
        `unit_ids`.
        """
        node = self._tree.group("units")
        return {name: np.asarray(node.column(name)) for name in node.members if name != "id"}

    # --- behaviour

    @property
    def behaviour_keys(self) -> tuple[str, ...]:
        """Every numeric "<series>.<column>" of the session, for example "cursor.vel"."""
        return tuple(
            f"{name}.{column}"
            for name, node in self._tree.walk()
            if node.kind in SERIES_KINDS and name != "spikes"
            for column, samples in node.members.items()
            if isinstance(samples, np.ndarray | StoredArray)
            and samples.dtype.kind in "iuf"
            and samples.ndim in (1, 2)
            if column != "timestamps"
        )

    def behaviour(self, key: str) -> Behaviour:
        """The behavioural variable `key`, for example "cursor.vel". Raises SessionError when there
        is none.
        """
        if key not in self._behaviours:
            if key not in (keys := self.behaviour_keys):
                listed = ", ".join(keys) or "none at all"
                raise SessionError(
                    f"session {self.id} has no behaviour {key!r}; it has"
                    f" {listed}.{suggest(key, keys)}"
                )
            name, column = key.rsplit(".", 1)
            series, domain = dict(self._tree.walk())[name], self.intervals(f"{name}.domain")
            self._behaviours[key] = behaviour_from_node(key, series, column, domain)
        return self._behaviours[key]

    # --- checks

    def check(self) -> None:
        """Read all spikes and time stamps.

        Raises SessionError when times are out of order or not finite, or when a spike's unit does
        not exist.
        """
        times, units = np.asarray(self.spike_times), np.asarray(self.spike_units)
        check_times(times, f"{self.id}: spike_times")
        wrong = (units < 0) | (units >= len(self.unit_ids))
        if wrong.any():
            self._refuse_unit(int(np.argmax(wrong)))
        for key in self.behaviour_keys:
            timestamps = self.behaviour(key).timestamps
            if timestamps is not None:
                check_times(
                    np.asarray(timestamps), f"{self.id}: {key.rsplit('.', 1)[0]}.timestamps"
                )

    def _check_ends(self) -> None:
        """Refuse what the lengths and the first and last spike give away."""
        times, units = self.spike_times, self.spike_units
        if len(times) != len(units):
            raise SessionError(
                f"session {self.id} has {len(times)} spike times but {len(units)} spike units;"
                " every spike needs both. The file is damaged or was written wrongly."
            )
        ends = [0, -1] if len(times) else []
        check_times(np.asarray(times[ends]), f"{self.id}: first and last spike_times")
        for spike in ends:
            if not 0 <= units[spike] < len(self.unit_ids):
                self._refuse_unit(spike % len(units))

    def _refuse_unit(self, spike: int) -> None:
        raise SessionError(
            f"session {self.id}: spike {spike} belongs to unit {self.spike_units[spike]}, but there"
            f" are {len(self.unit_ids)} units; it must be one of 0 ... {len(self.unit_ids) - 1}."
        )

    def _spike_column(self, column: str, dtype: type) -> np.ndarray | ChunkedArray:
        array = self._column("spikes", column)
        return (
            np.asarray(array, dtype)
            if isinstance(array, np.ndarray) or array.dtype != dtype
            else array
        )

    def _column(self, group: str, column: str) -> np.ndarray | ChunkedArray:
        node = self._tree.members.get(group)
        if not isinstance(node, Node) or not isinstance(
            node.members.get(column), np.ndarray | StoredArray
        ):
            raise SessionError(
                f"{self.path or 'this tree'} is not a session: it has no {group}.{column}. A"
                " session holds spikes (timestamps, unit_index), units (id) and domain (start,"
                " end)."
            )
        return node.lazy_column(column)

    def _read_unit_ids(self) -> tuple[str, ...]:
        column = np.asarray(self._column("units", "id"))
        unit_ids = tuple(
            item.decode() if isinstance(item, bytes) else str(item) for item in column.tolist()
        )
        if not unit_ids:
            raise SessionError(f"session {self.id} has no units; it needs at least one.")
        if len(set(unit_ids)) < len(unit_ids):
            twice = next(unit_id for unit_id in unit_ids if unit_ids.count(unit_id) > 1)
            raise SessionError(
                f"session {self.id} has several units called {twice!r}; give each its own id."
            )
        return unit_ids


def _attribute(tree: Node, group: str, name: str) -> str | None:
    node = tree.members.get(group)
    value = node.attrs.get(name) if isinstance(node, Node) else None
    return None if value is None else str(value)
