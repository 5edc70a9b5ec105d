"""Perich, Miller et al.: monkeys C, J, M and T reach with a manipulandum.

The task is centre-out or random-target reaching.

Source: DANDI 000688; the rules are those of brainsets 0.1.2 to 0.2.2.
"""

import re
from pathlib import Path

import numpy as np

from data_prep import rules
from data_prep.catalogue import CatalogueEntry, Dandiset
from poyo_jax import Session
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, irregular_node, table_node, units_node
from poyo_jax.errors import RawDataError

NAME = "perich_miller_population_2018"
FILE_NAME = re.compile(r"sub-\w+_ses-(CO|RT)-\d{8}_behavior\+ecephys\.nwb")
TASKS = {"CO": "center_out_reaching", "RT": "random_target_reaching"}
MAX_ACCELERATION = 1500.0  # cm/s²
WORKSPACE = 10.0  # cm to each side of the centre
GUARD = 1.0  # seconds between training and the other splits
CENTER_OUT_NUMBERS = ("start_time", "stop_time", "target_on_time", "go_cue_time", "target_id")
RANDOM_TARGET_NUMBERS = ("start_time", "stop_time", "num_attempted")
POSITION = "processing/behavior/Position/cursor_pos"


def convert(path: Path) -> Session:
    """Convert a raw file to a session.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    if not (match := FILE_NAME.fullmatch(path.name)):
        raise RawDataError(
            f"{path.name}: the task cannot be told from this name; expected"
            " sub-<C|J|M|T>_ses-<CO|RT>-<YYYYMMDD>_behavior+ecephys.nwb, as the archive calls it."
        )
    with open_raw(path) as raw:
        return Session(_tree(raw, match[1]))


def _tree(raw: RawFile, task: str) -> Node:
    subject, date = nwb.subject_id(raw), nwb.recording_date(raw)
    recording = f"{subject}_{date.replace('-', '')}"
    spike_times, counts = nwb.spikes_by_unit(raw)
    times = raw.times(f"{POSITION}/timestamps")
    rules.need_samples(raw, f"{POSITION}/timestamps", times)
    position, velocity, acceleration = (
        raw.array(f"processing/behavior/{name}/data", (len(times), 2))
        for name in ("Position/cursor_pos", "Velocity/cursor_vel", "Acceleration/cursor_acc")
    )
    domain = Intervals.from_pairs([(times[0], times[-1])])
    outliers = _outliers(times, position, acceleration)
    trials, domain_of_phases, phases = (_center_out if task == "CO" else _random_target)(
        raw, domain
    )

    rules.need_trials(raw, trials["is_valid"], 3)
    kept = rules.rows_of(trials, np.flatnonzero(trials["is_valid"]))
    _, valid, test = rules.nested_split(len(kept["start"]))
    held_out = np.sort(np.concatenate([valid, test]))
    guarded = Intervals(kept["start"][held_out], kept["end"][held_out]).dilate(GUARD)
    return data_node(
        {
            "brainset": _brainset(),
            "subject": nwb.subject_node(raw),
            **rules.session_nodes(
                f"{recording}_{TASKS[task]}", date, recording, "UTAH_ARRAY_SPIKES"
            ),
            "domain": interval_node(domain),
            "spikes": nwb.spikes_node(*nwb.sort_spikes(spike_times, counts)),
            "units": units_node(
                nwb.unit_ids(raw, len(counts)), unit_number=np.arange(len(counts)), count=counts
            ),
            "cursor": irregular_node(times, domain, pos=position, vel=velocity, acc=acceleration),
            "cursor_outlier_segments": interval_node(outliers),
            "trials": table_node(trials),
            "movement_phases": rules.phases_node(domain_of_phases, outliers, phases),
            "train_domain": interval_node(domain.subtract(guarded)),
            "valid_domain": table_node(rules.rows_of(kept, valid)),
            "test_domain": table_node(rules.rows_of(kept, test)),
        }
    )


def _brainset() -> Node:
    return rules.brainset_node(
        NAME,
        origin="dandi/000688/draft",
        derived="1.0.0",
        source="https://dandiarchive.org/dandiset/000688",
        description=(
            "This dataset contains electrophysiology and behavioral data from three macaques"
            " performing either a center-out task or a continuous random target acquisition task."
            " Neural activity was recorded from chronically-implanted electrode arrays in the"
            " primary motor cortex (M1) or dorsal premotor cortex (PMd) of four rhesus macaque"
            " monkeys. A subset of sessions includes recordings from both regions simultaneously."
            " The data contains spiking activity—manually spike sorted in three subjects, and"
            " threshold crossings in the fourth subject—obtained from up to 192 electrodes per"
            " session, cursor position and velocity, and other task related metadata."
        ),
    )


def _outliers(times: np.ndarray, position: np.ndarray, acceleration: np.ndarray) -> Intervals:
    """Find intervals in which the cursor jumps or stays outside of the workspace."""
    jumps = rules.outlier_mask(acceleration, MAX_ACCELERATION, grow=2)
    outside = np.max(np.abs(position), axis=1) > WORKSPACE
    outside = rules.eroded(rules.dilated(outside, 400), 100)
    return rules.mask_intervals(times, jumps | outside)


Trials = tuple[rules.Table, Intervals, dict[str, Intervals]]


def _center_out(raw: RawFile, domain: Intervals) -> Trials:
    """Trials with `start` and `end`, the domain of the phases, and the phases.

    Trials tile the session: each ends where the next one's target appears.
    """
    trials = rules.trial_columns(raw, CENTER_OUT_NUMBERS, ("result",))
    began, stopped = trials["start_time"], trials["stop_time"]
    rules.refuse_nan(raw, trials, ("start_time", "stop_time"))
    bounds = np.append(trials["target_on_time"], min(stopped[-1] + 1, domain.ends[-1]))
    missing = np.isnan(bounds)
    bounds[1:-1] = np.where(missing[1:-1], np.minimum(stopped[:-1] + 1, stopped[1:]), bounds[1:-1])
    bounds[0] = began[0] if missing[0] else bounds[0]
    start, end = bounds[:-1], bounds[1:]
    rules.trial_intervals(raw, start, end, "trials")
    length = end - start
    valid = (
        (trials["result"] == "R") & ~np.isnan(trials["target_id"]) & (length > 0.5) & (length < 6.0)
    )
    trials |= {"start": start, "end": end, "is_valid": valid.astype(bool)}

    rows = rules.rows_of(trials, np.flatnonzero(valid))
    bounds_of = {
        "hold_period": (rows["target_on_time"], rows["go_cue_time"]),
        "reach_period": (rows["go_cue_time"], rows["stop_time"]),
        "return_period": (rows["stop_time"], rows["end"]),
        "invalid": (start[~valid], end[~valid]),
    }
    phases = {name: rules.trial_intervals(raw, *bounds, name) for name, bounds in bounds_of.items()}
    covered = Intervals.from_pairs([])
    for phase in phases.values():
        covered = covered.union(phase)
    return trials, covered, phases | {"random_period": domain.subtract(covered)}


def _random_target(raw: RawFile, domain: Intervals) -> Trials:
    """Trials, the domain of the phases (which is the hold period), and the phases."""
    trials = rules.trial_columns(raw, RANDOM_TARGET_NUMBERS, ("result",), ("go_cue_time_array",))
    rules.refuse_nan(raw, trials, ("start_time", "stop_time"))
    trials["start"], trials["end"] = trials.pop("start_time"), trials.pop("stop_time")
    rules.trial_intervals(raw, trials["start"], trials["end"], "trials")
    length = trials["end"] - trials["start"]
    valid = (
        (trials["result"] == "R")
        & (trials["num_attempted"] == 4)
        & (length > 2.0)
        & (length < 10.0)
    )
    trials["is_valid"] = valid.astype(bool)

    first_cue = trials["go_cue_time_array"][:, 0]
    cued = ~np.isnan(first_cue)
    hold = rules.trial_intervals(raw, trials["start"][cued], first_cue[cued], "hold_period")
    covered = hold.union(Intervals.from_pairs([]))
    return trials, covered, {"hold_period": hold, "random_period": domain.subtract(covered)}


CATALOGUE = (
    CatalogueEntry(
        name=NAME,
        title="Perich, Miller et al.: monkeys C, J, M, T, centre-out and random targets",
        archive=Dandiset("000688", "0.250122.1735"),
        licence="CC-BY-4.0",
        convert=convert,
        raw_files=("sub-*_ses-CO-*.nwb", "sub-*_ses-RT-*.nwb"),
        num_files=111,
        raw_gigabytes=13.0,
        processed_gigabytes=2.9,
    ),
)
