"""One continuous recording with one set of units: its spikes, behaviour, intervals and splits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from poyo_jax.data import datasets, session_tree
from poyo_jax.data.behaviour import Behaviour, behaviour_from_node, check_times, count_before
from poyo_jax.data.importers.raw_file import other_format
from poyo_jax.data.importers.sources import Sources
from poyo_jax.data.importers.splits import SPLITS, Pairs, replace_splits
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.io.nodes import interval_node
from poyo_jax.data.io.writing import write_tree
from poyo_jax.data.more_behaviour import with_behaviour
from poyo_jax.data.plausible import find_doubts, tell_doubts
from poyo_jax.data.spikes import Spikes, check_first_and_last, max_spikes
from poyo_jax.data.unit_choice import chosen_units, rows_of
from poyo_jax.errors import DataError, SessionError
from poyo_jax.files import local_path
from poyo_jax.words import counted

__all__ = ["SPLITS", "Session"]


class Session(Sources):
    """One recording, in memory or mapped from a file; times are float64 seconds of session time.

    Opening a file reads little of it. A session that was opened from a file pickles without data.
    Make one with `Session.open`, or with one of the methods `from_...`.

    Attributes:
        id: "<brainset_id>/<session_id>", or the session_id alone when the data set has no name.
        unit_ids: ids of the units as in the file, [units].
        unit_names: "<id>/<unit_id>": names that differ between sessions, [units].
        spike_times: sorted times, [spikes].
        spike_units: position in `unit_ids` of every spike's unit, [spikes].
        domain: where data exist.
    """

    def __init__(self, tree: Node, path: Path | None = None) -> None:
        # A name that is no UTF-8 could not be saved.
        fallback_id = path.stem.encode(errors="replace").decode() if path else "session"
        self.session_id: str = session_tree.read_attribute(tree, "session", "id") or fallback_id
        self._tree = tree = session_tree.with_id(tree, self.session_id)
        self._intervals: dict[str, Intervals] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self.path = path
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
        path = local_path(path)
        if told := other_format(path):
            raise SessionError(f"{told} Expected a session file.")
        tree = read_tree(path, eager_bytes=0, allow_links=allow_links)
        return cls(tree, path.absolute())

    def save(self, path: str | Path, *, compress: bool = False) -> None:
        """Write a file that `open`, temporaldata and torch_brain read.

        With `compress` the file is about half as large, but a window takes milliseconds to read.
        Raises SessionError when writing fails.
        """
        write_tree(local_path(path), self._tree, compress=compress)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Session, (self._tree, self.path))

    def __repr__(self) -> str:
        counts = (
            f"{counted(len(self.unit_ids), 'unit')}, {counted(len(self.spike_times), 'spike')},"
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
        return max(0, int(end - first))

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
        """Return the session with these (start, end) pairs (s) as "train", "valid" or "test".

        The other splits lose the time that these take; without pairs a split is empty. Raises
        SessionError for another name, intervals outside the recording, or time in two of these.
        """
        kept = {}
        for name in SPLITS:
            if f"{name}_domain" in self._tree.members:
                kept[name] = self.intervals(f"{name}_domain")
        members = dict(self._tree.members)
        for name, split in replace_splits(kept, splits, self.domain).items():
            members[f"{name}_domain"] = interval_node(split)
        return Session(replace(self._tree, members=members), self.path)

    def with_behaviour(
        self, key: str, times: ArrayLike, values: Any, *, unit: str = ""
    ) -> "Session":
        """Return the session with one more behaviour.

        Args:
            key: its name, "<series>.<column>", such as "emg.envelope".
            times: of the samples, increasing, s of session time, [samples].
            values: [samples] or [samples, channels], NaN where nothing was measured; or names of
                classes [samples], None where there is none.
            unit: of the values, such as "mV".

        Raises:
            SessionError: the arrays do not fit each other, hold other than numbers or names, or the
            name is taken.
        """
        tree = with_behaviour(self._tree, key, times, values, self.domain, unit)
        session = Session(tree, self.path)
        tell_doubts(session, find_doubts(self))
        return session

    def select_units(self, units: ArrayLike) -> "Session":
        """Return the session with some of its units, in their order here, and their spikes.

        `units` is a mask [units], or the ids of the units that stay. Raises DataError for an
        unknown id, a mask of another length, or no unit.
        """
        kept = chosen_units(units, self.unit_ids, self.id)
        places = np.cumsum(kept) - 1
        of_kept = kept[np.asarray(self.spike_units)]
        chosen = {
            "units": rows_of(self._tree.group("units"), kept),
            "spikes": rows_of(self._tree.group("spikes"), of_kept),
        }
        unit_index = np.asarray(self.spike_units)[of_kept]
        chosen["spikes"].members["unit_index"] = places[unit_index].astype(np.int64)
        members = self._tree.members | chosen
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
            behaviour = behaviour_from_node(key, series, column, domain, self.id)
            classes = session_tree.behaviour_classes(self._tree, key)
            unit = self._unit(key)
            self._behaviours[key] = replace(behaviour, unit=unit, classes=classes)
        return self._behaviours[key]

    def _unit(self, key: str) -> str:
        """The unit of a behaviour, as the session or its data set names it."""
        data_set = datasets.find(self.brainset_id)
        known = {} if data_set is None else dict(data_set.units)
        return session_tree.behaviour_unit(self._tree, key) or known.get(key, "")

    def check(self) -> None:
        """Read all spikes and time stamps.

        Logs a warning for what is implausible, such as times in milliseconds. Raises SessionError
        when times are out of order or not finite, or when a spike's unit does not exist.
        """
        self._spikes.need(0, len(self.spike_times))
        for key in self.behaviour_keys:
            timestamps = self.behaviour(key).timestamps
            if timestamps is not None:
                series = key.rsplit(".", 1)[0]
                check_times(np.asarray(timestamps), f"{self.id}: {series}.timestamps")
        tell_doubts(self)
