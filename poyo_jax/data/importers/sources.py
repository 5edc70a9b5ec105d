"""Ways to make a session: from arrays, trials, counts, and files of other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike

from poyo_jax.data.importers.arrays import Clocks, tree_from_arrays
from poyo_jax.data.importers.splits import Pairs
from poyo_jax.data.io.layout import Node
from poyo_jax.data.plausible import tell_doubts
from poyo_jax.errors import ConfigError, SessionError

# One array, a list with one array per unit, or a mapping of unit ids to arrays.
SpikeTimes = ArrayLike | list | tuple | Mapping
Made = TypeVar("Made", bound="Sources")


class Sources:
    """The constructors of `Session`. Each logs a warning for what is implausible in its result."""

    if TYPE_CHECKING:
        _tree: Node

        def __init__(self, tree: Node, path: Path | None = None) -> None: ...

    @classmethod
    def from_arrays(
        cls: type[Made],
        spike_times: SpikeTimes,
        spike_units: ArrayLike | None = None,
        unit_ids: ArrayLike | None = None,
        target_times: ArrayLike | None = None,
        targets: ArrayLike | Mapping[str, Any] | None = None,
        *,
        session_id: str,
        brainset_id: str | None = None,
        subject_id: str | None = None,
        target_key: str = "cursor.vel",
        target_unit: str | Mapping[str, str] | None = None,
        train: Pairs | None = None,
        valid: Pairs | None = None,
        test: Pairs | None = None,
        intervals: dict[str, Pairs] | None = None,
        domain: Pairs | None = None,
        time_unit: str = "s",
        target_time_unit: str | None = None,
        sampling_rate: float | None = None,
        derive_velocity: bool = False,
    ) -> Made:
        """Make a session from arrays.

        Args:
            spike_times: sorted times in seconds, [spikes]. Without `spike_units`: a list with the
                times of each unit, or a mapping of unit ids to times.
            spike_units: position in `unit_ids` of every spike's unit, [spikes].
            unit_ids: names or numbers of the units, each once, [units].
            target_times: increasing times in seconds, [samples].
            targets: behaviour at those times, [samples] or [samples, channels]; NaN or masked
                where it was not measured. For several behaviours, a mapping of their names
                ("wheel" or "cursor.vel") to arrays at `target_times` or pairs (times, values); they
                may be labels of classes, as texts (None for none) or truth values.
            session_id: name of the session, unique within its data set.
            brainset_id: name of the data set.
            subject_id: name of the subject.
            target_key: "<series>.<column>", the name of the behaviour.
            target_unit: unit of the decoded behaviour, such as "cm/s", for the axes of figures; a
                mapping by name where there are several.
            train: (start, end) pairs of the train split. Without any split the time in which
                behaviour and spikes were measured is cut in ten equal blocks: block 5 is valid,
                blocks 3 and 8 are test (counted from 0), the others are train.
            valid: (start, end) pairs of the valid split.
            test: (start, end) pairs of the test split.
            intervals: further named pairs, for example {"movement_phases.reach_period": [(0.5,
                1.0)]}; they may overlap.
            domain: (start, end) pairs in which data exist; by default from the first to the last
                spike or target.
            time_unit: unit of all given times: "s", "ms", "us", or "samples".
            target_time_unit: unit of `target_times`, where it differs.
            sampling_rate: rate of the recording in Hz, for times in samples.
            derive_velocity: decode the derivative of `targets`, which then are positions.

        Raises:
            SessionError: an array is not as described, a time is not finite, a time is negative and
                outside `domain`, or one of several behaviours was never measured.
            ConfigError: a time unit or a sampling rate cannot be used.
        """
        tree = tree_from_arrays(
            *(spike_times, spike_units, unit_ids, target_times, targets),
            ids={"brainset": brainset_id, "subject": subject_id, "session": session_id},
            target_key=target_key,
            target_unit=target_unit,
            splits={"train": train, "valid": valid, "test": test},
            intervals=intervals or {},
            domain=domain,
            clocks=Clocks.of(time_unit, target_time_unit, sampling_rate),
            derive_velocity=derive_velocity,
        )
        return cls._told(tree)

    @classmethod
    def from_trials(
        cls: type[Made],
        spike_times: list | tuple,
        target_times: ArrayLike | list | tuple,
        targets: ArrayLike | list | tuple,
        *,
        session_id: str,
        unit_ids: ArrayLike | None = None,
        time_unit: str = "s",
        sampling_rate: float | None = None,
        **options: Any,
    ) -> Made:
        """Make a session from trials that each have a zero of their own.

        The trials are laid one after the other, two seconds apart. The session's table "trials" has
        their `start`, `end` and `zero` (s); subtract `zero` from session times for the times in a
        trial. Six trials or more are split as in `from_nwb`.

        Args:
            spike_times: for every trial a list with the times of each unit (or a mapping of unit
                ids to times), in s from the trial's zero.
            target_times: for every trial its increasing times, [samples], in s from the trial's
                zero; or one array for all trials.
            targets: for every trial the behaviour at those times, [samples, channels].
            session_id: name of the session.
            unit_ids: names of the units, [units].
            time_unit: unit of all times: "s", "ms", "us", or "samples".
            sampling_rate: rate of the recording in Hz, for times in samples.
            options: other arguments of `from_arrays` by name, such as `target_key`; splits and
                intervals are in session time, s.

        Raises:
            SessionError: an array is not as described.
            ConfigError: a time unit or a sampling rate cannot be used.
        """
        from poyo_jax.data.importers.trials import lay_trials, splits_of_trials

        if "domain" in options:
            raise SessionError(
                "domain is not for from_trials, where the trials are the domain; leave it out."
            )
        clocks = Clocks.of(time_unit, None, sampling_rate)
        laid = lay_trials(spike_times, target_times, targets, unit_ids, clocks.spikes)
        given = {"domain": laid.trials} | splits_of_trials(laid.trials)
        if {"train", "valid", "test"} & options.keys():
            given = {"domain": laid.trials}
        intervals = {"trials": laid.trials} | options.pop("intervals", {})
        session = cls.from_arrays(
            laid.spikes,
            target_times=laid.target_times,
            targets=laid.targets,
            session_id=session_id,
            intervals=intervals,
            **given,
            **options,
        )
        session._tree.group("trials").members["zero"] = laid.zeros
        return session

    @classmethod
    def from_counts(
        cls: type[Made],
        counts: ArrayLike,
        bin_size: float,
        targets: ArrayLike,
        *,
        session_id: str,
        unit_ids: ArrayLike | None = None,
        target_times: ArrayLike | None = None,
        time_unit: str = "s",
        **options: Any,
    ) -> Made:
        """Make a session from spikes that were counted in bins.

        The spikes of a bin are spread evenly over it, so decoding loses what the bins have lost:
        pass spike times where you have them.

        Args:
            counts: spikes of every unit in every bin, [bins, units]; bin 0 begins at 0 s.
            bin_size: length of a bin in seconds.
            targets: behaviour in the middle of every bin, [bins, channels], or at `target_times`.
            session_id: name of the session.
            unit_ids: names of the units, [units].
            target_times: increasing times, [samples], in seconds.
            time_unit: unit of `bin_size` and all times: "s", "ms" or "us".
            options: other arguments of `from_arrays` by name, such as `derive_velocity`.

        Raises:
            SessionError: an array is not as described.
            ConfigError: the time unit cannot be used.
        """
        from poyo_jax.data.importers.counts import spikes_of_counts

        spikes, units, names, middles = spikes_of_counts(counts, bin_size, unit_ids, time_unit)
        ticks = Clocks.of(time_unit, None, None).spikes
        return cls.from_arrays(
            spikes * ticks,
            units,
            names,
            middles * ticks if target_times is None else target_times,
            targets,
            session_id=session_id,
            time_unit=time_unit,
            **options,
        )

    @classmethod
    def from_matlab(
        cls: type[Made],
        path: str | Path,
        spike_times: str,
        target_times: str | ArrayLike,
        targets: str,
        *,
        spike_units: str | None = None,
        unit_ids: str | None = None,
        session_id: str | None = None,
        **options: Any,
    ) -> Made:
        """Make a session from fields of a MATLAB file, of any version up to 7.3.

        Fields are named by path, such as "data.units.spikes". Without `spike_units`, the spikes are
        a cell array or a field of a struct array, with the times of each unit.

        Args:
            path: the file.
            spike_times: the field of the spike times, in seconds.
            target_times: the field of the sample times in seconds, or these times, [samples].
            targets: the field of the behaviour, [samples, channels] or [channels, samples].
            spike_units: the field with the number of every spike's unit.
            unit_ids: the field with the names or numbers of the units; unit 1 is the first one.
            session_id: name of the session; by default that of the file.
            options: other arguments of `from_arrays` by name, such as `time_unit`.

        Raises:
            RawDataError: the file cannot be read, or lacks a field.
            SessionError: a field is not as described.
            MissingDependencyError: scipy is missing, for files before version 7.3.
        """
        from poyo_jax.data.importers.matlab import read_arrays

        fields = (spike_times, target_times, targets, spike_units, unit_ids)
        arrays = read_arrays(path, *fields)
        return cls.from_arrays(**arrays, session_id=session_id or Path(path).stem, **options)

    @classmethod
    def from_kilosort(
        cls: type[Made],
        folder: str | Path,
        target_times: ArrayLike,
        targets: ArrayLike,
        *,
        session_id: str | None = None,
        sampling_rate: float | None = None,
        **options: Any,
    ) -> Made:
        """Make a session from a folder of Kilosort or Phy, and behaviour.

        Times count from the first sample of the recording. All clusters become units;
        `unit_table` has the columns of cluster_info.tsv or cluster_group.tsv, so that
        `session.select_units(session.unit_table["group"] == "good")` keeps the good ones.

        Args:
            folder: with spike_times.npy, spike_clusters.npy and params.py.
            target_times: increasing times in seconds, [samples].
            targets: behaviour at those times, [samples, channels].
            session_id: name of the session; by default that of the folder.
            sampling_rate: rate of the recording in Hz; by default `sample_rate` in params.py, which
                is read as text.
            options: other arguments of `from_arrays` by name, such as `target_key`.

        Raises:
            RawDataError: a file is missing or cannot be read.
            SessionError: an array is not as described.
            ConfigError: `sampling_rate` is no rate.
        """
        from poyo_jax.data.importers.kilosort import read_kilosort

        spikes = read_kilosort(folder, sampling_rate)
        session = cls.from_arrays(
            spikes.times,
            spikes.units,
            [f"cluster_{cluster}" for cluster in spikes.clusters],
            target_times,
            targets,
            session_id=session_id or Path(folder).resolve().name,
            **options,
        )
        session._tree.group("units").members |= spikes.columns
        return session

    @classmethod
    def from_nwb(
        cls: type[Made],
        path: str | Path,
        target: str | Sequence[str],
        *,
        session_id: str | None = None,
        brainset_id: str | None = None,
        split: str | None = None,
        phases: dict[str, tuple[str, str]] | None = None,
        max_speed: float | None = None,
        max_acceleration: float | None = None,
        derive_velocity: bool = False,
        time_unit: str = "s",
        sampling_rate: float | None = None,
        allow_links: bool = False,
    ) -> Made:
        """Make a session from an NWB file with units and one behaviour series, or several.

        `candidate_targets` lists the behaviour series of a file. Values are `data * conversion +
        offset`, in the unit that the file names. A series ".../cursor_vel" becomes "cursor.vel",
        "cursor_pos" becomes "cursor.pos", any other becomes "behavior.<name>". The domain is where
        samples exist: a step longer than five median steps is a gap, and the file's invalid_times
        are cut out. Columns of the units stay in `unit_table`. The default `session_id` is the name
        of the file. With `allow_links` its arrays may lie in other files; allow this only for files
        that you trust. `poyo_jax.data.importers.nwb_session.NwbOptions` describes the other
        arguments.

        Raises:
            RawDataError: the file cannot be read, or lacks units, the target, or a trial column.
            DataError: the file has too few trials to split by trials.
            ConfigError: an option cannot be used.
        """
        from poyo_jax.data.importers.nwb_session import NwbOptions, nwb_tree

        targets = (target,) if isinstance(target, str) else tuple(target)
        if not targets:
            raise ConfigError("target is empty; pass the name of a behaviour series, or several.")
        options = NwbOptions(
            target=targets[0],
            more_targets=targets[1:],
            split=split,
            phases=phases or {},
            max_speed=max_speed,
            max_acceleration=max_acceleration,
            derive_velocity=derive_velocity,
            brainset_id=brainset_id,
            time_unit=time_unit,
            sampling_rate=sampling_rate,
        )
        return cls._told(nwb_tree(path, options, session_id, allow_links=allow_links))

    @classmethod
    def from_pynapple(
        cls: type[Made],
        spikes: Any,
        target: Any,
        *,
        session_id: str,
        brainset_id: str | None = None,
        subject_id: str | None = None,
        target_key: str = "cursor.vel",
        derive_velocity: bool = False,
        train: Any = None,
        valid: Any = None,
        test: Any = None,
        intervals: dict[str, Any] | None = None,
    ) -> Made:
        """Make a session from pynapple objects.

        `spikes` is a TsGroup, `target` a Tsd or TsdFrame, or a mapping of names ("wheel" or
        "cursor.vel") to these; splits and intervals are IntervalSets.
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
            spikes,
            target,
            ids=ids,
            target_key=target_key,
            derive_velocity=derive_velocity,
            splits=splits,
            intervals=intervals or {},
        )
        return cls._told(tree)

    @classmethod
    def _told(cls: type[Made], tree: Node) -> Made:
        """Make the session of a tree, and log what is implausible."""
        session = cls(tree)
        tell_doubts(session)
        return session
