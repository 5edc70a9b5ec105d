"""One continuous recording with one set of units: its spikes, behaviour, intervals and splits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from poyo_jax.data import datasets, session_tree
from poyo_jax.data.behaviour import Behaviour, behaviour_from_node, check_times, count_before
from poyo_jax.data.importers.arrays import Pairs, tree_from_arrays
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.io.nodes import interval_node
from poyo_jax.data.io.writing import write_tree
from poyo_jax.data.spikes import Spikes, check_first_and_last, max_spikes
from poyo_jax.errors import DataError

SPLITS = ("train", "valid", "test")


class Session:
    """One recording, in memory or mapped from a file; times are float64 seconds of session time.

    Opening a file reads little of it. A session that was opened from a file pickles without data.
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
        fallback_id = path.stem if path else "session"
        self.session_id: str = session_tree.read_attribute(tree, "session", "id") or fallback_id
        self.brainset_id = session_tree.read_attribute(tree, "brainset", "id")
        self.subject_id = session_tree.read_attribute(tree, "subject", "id")
        self.id = f"{self.brainset_id}/{self.session_id}" if self.brainset_id else self.session_id
        self.unit_ids = session_tree.read_unit_ids(tree, self.id, path)
        self.unit_names = tuple(f"{self.id}/{unit_id}" for unit_id in self.unit_ids)
        self.spike_times = session_tree.read_spikes(tree, "timestamps", np.float64, path)
        self.spike_units = session_tree.read_spikes(tree, "unit_index", np.int64, path)
        num_units = len(self.unit_ids)
        check_first_and_last(self.spike_times, self.spike_units, num_units, self.id)
        self._spikes = Spikes(self.spike_times, self.spike_units, num_units, self.id)
        session_tree.read_array(tree, "domain", "start", path)
        self.domain = self.intervals("domain")

    @classmethod
    def open(cls, path: str | Path, *, allow_links: bool = False) -> "Session":
        """Open a session file.

        With `allow_links` its arrays may lie in other files, which are read into memory. Allow this
        only for files that you trust: a link can lead to any file of the machine.

        Raises SessionError when the file is missing, damaged or not a session, or has such links
        without being allowed to.
        """
        tree = read_tree(path, eager_bytes=0, allow_links=allow_links)
        return cls(tree, Path(path).absolute())

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
            session_id: name of the session, unique within its data set.
            brainset_id: name of the data set.
            subject_id: name of the subject.
            target_key: "<series>.<column>", the name of the behaviour.
            train: (start, end) pairs of the train split. Without any split the domain is cut in ten
                equal blocks: block 5 is valid, blocks 3 and 8 are test (counted from 0), the
                others are train.
            valid: (start, end) pairs of the valid split.
            test: (start, end) pairs of the test split.
            intervals: further named pairs, for example {"movement_phases.reach_period": [(0.5,
                1.0)]}; they may overlap.
            domain: (start, end) pairs in which data exist; by default from the first to the last
                spike or target.

        Raises:
            SessionError: an array is not as described, a time is not finite, or a time is negative
                and outside `domain`.
        """
        tree = tree_from_arrays(
            *(spike_times, spike_units, unit_ids, target_times, targets),
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
        allow_links: bool = False,
    ) -> "Session":
        """Make a session from an NWB file with units and a behaviour series.

        `candidate_targets` lists the behaviour series of a file. Values are `data * conversion +
        offset`, in the unit that the file names. A series ".../cursor_vel" becomes "cursor.vel",
        "cursor_pos" becomes "cursor.pos", any other becomes "behavior.<name>". The domain is where
        samples exist: a step longer than five median steps is a gap. The default `session_id` is
        the name of the file. `poyo_jax.data.importers.nwb_session.NwbOptions` describes the other
        arguments.

        Raises:
            RawDataError: the file cannot be read, or lacks units, the target, or a trial column.
            DataError: the file has too few trials to split by trials.
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
        return cls(nwb_tree(path, options, session_id, allow_links=allow_links))

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
        """Make a session from pynapple objects.

        `spikes` is a TsGroup, `target` a Tsd or TsdFrame; splits and intervals are IntervalSets.
        Unit 7 is called "unit_7"; metadata are kept. The domain ends where an interval of the
        target's time support ends, and where a step is longer than five median steps. Without any
        split, six or more `intervals["trials"]` are split as in `from_nwb`; with fewer trials the
        domain is split as in `from_arrays`, which describes the other arguments.

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
        """Write a file that `open`, temporaldata and torch_brain read.

        With `compress` the file is about half as large, but a window takes milliseconds to read.
        Raises SessionError when writing fails.
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

    def spikes_between(
        self, start: float, stop: float
    ) -> tuple[Float64[np.ndarray, " spikes"], Int64[np.ndarray, " spikes"]]:
        """Return times (s of session time) and units of the spikes with start <= time < stop.

        Raises SessionError when spikes there or next to them are not sorted, are not finite, or
        belong to no unit.
        """
        first, end = self._spikes.between(start, stop)
        return np.array(self.spike_times[first:end]), np.array(self.spike_units[first:end])

    def count_spikes(self, start: float, stop: float) -> int:
        """Count the spikes with start <= time < stop; reads only a few spike times."""
        first, end = count_before(self.spike_times, [start, stop])
        return int(end - first)

    def max_spikes(self, window_length: float) -> int:
        """Bound the spikes in any window of this length; reads only a few spike times."""
        return max_spikes(self.spike_times, window_length)

    def intervals(self, name: str) -> Intervals:
        """Return intervals by dotted name, for example "trials" or "cursor.domain".

        Overlapping rows of the file are merged, and rows without duration are dropped. Raises
        SessionError when there are no such intervals.
        """
        if name not in self._intervals:
            bounds = session_tree.read_bounds(self._tree, name, self.id)
            self._intervals[name] = Intervals.from_overlapping(*bounds)
        return self._intervals[name]

    @property
    def interval_names(self) -> tuple[str, ...]:
        """Every name that `intervals` and `table` accept."""
        return tuple(session_tree.interval_nodes(self._tree))

    def table(self, name: str) -> dict[str, np.ndarray]:
        """Return the rows of intervals as in the file, with all columns, such as trial results.

        Raises SessionError as `intervals` does.
        """
        return session_tree.read_table(self._tree, name, self.id)

    def split(self, name: str) -> Intervals:
        """Return the intervals of the split "train", "valid" or "test", or the domain for "all".

        Intervals that touch stay separate. Raises DataError when the session has no such split or
        the split is empty.
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
        """Tell whether the session has this split and the split is not empty."""
        return f"{name}_domain" in self._tree.members and len(self._named_split(name)) > 0

    def with_splits(self, **splits: Pairs) -> "Session":
        """Return the session with these (start, end) pairs as "train", "valid" or "test"."""
        members = dict(self._tree.members)
        for name, pairs in splits.items():
            members[f"{name}_domain"] = interval_node(Intervals.from_pairs(pairs))
        return Session(replace(self._tree, members=members), self.path)

    def _named_split(self, name: str) -> Intervals:
        if f"{name}_domain" not in self._tree.members:
            raise DataError(
                f"session {self.id} has no {name} split (no group {name}_domain); "
                "choose another split or drop the session."
            )
        split = self.intervals(f"{name}_domain")
        data_set = datasets.find(self.brainset_id)
        if data_set is None or data_set.splits_within is None:
            return split
        recorded = self.intervals(f"{data_set.splits_within}.domain")
        return split.intersect(recorded).intersect(self.intervals("spikes.domain"))

    @property
    def unit_table(self) -> dict[str, np.ndarray]:
        """Columns of the units as in the file, such as `area_name`; rows as in `unit_ids`."""
        return session_tree.read_unit_table(self._tree, len(self.unit_ids), self.id)

    @property
    def behaviour_keys(self) -> tuple[str, ...]:
        """Every numeric "<series>.<column>" of the session, for example "cursor.vel"."""
        return session_tree.behaviour_keys(self._tree)

    def behaviour(self, key: str) -> Behaviour:
        """Return the behaviour `key`, for example "cursor.vel". Raises SessionError if missing."""
        if key not in self._behaviours:
            name, column, series = session_tree.find_series(self._tree, key, self.id)
            domain = self.intervals(f"{name}.domain")
            self._behaviours[key] = behaviour_from_node(key, series, column, domain, self.id)
        return self._behaviours[key]

    def check(self) -> None:
        """Read all spikes and time stamps.

        Raises SessionError when times are out of order or not finite, or when a spike's unit does
        not exist.
        """
        self._spikes.need(0, len(self.spike_times))
        for key in self.behaviour_keys:
            timestamps = self.behaviour(key).timestamps
            if timestamps is not None:
                series = key.rsplit(".", 1)[0]
                check_times(np.asarray(timestamps), f"{self.id}: {series}.timestamps")
