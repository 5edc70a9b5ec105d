"""Churchland, Shenoy et al.: monkeys Jenkins and Nitschke reach around barriers.

Source: DANDI 000070; the rules are those of brainsets 0.2.1 and 0.2.2. Data exist only inside of
trials. In several recordings the clock was reset, and in two of them two trials overlap (see
`data_prep.clock`).
"""

from pathlib import Path

import numpy as np

from data_prep import rules
from data_prep.catalogue import CatalogueEntry, Dandiset
from data_prep.clock import Clock, falls, outside, pieces_between, read_clock
from poyo_jax import Session
from poyo_jax.data.derive import gradient_of_runs
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import (
    data_node,
    domain_of,
    interval_node,
    irregular_node,
    table_node,
    units_node,
)

NAME = "churchland_shenoy_neural_2012"
WITH_OVERLAP = ("nitschke_20090910", "nitschke_20090920")
POSITION = "processing/behavior/Position"
TIMEKEYS = ("start", "end", "target_on_time", "go_cue_time", "move_begins_time", "move_ends_time")
RENAMED = {"start_time": "start", "stop_time": "end", "target_presentation_time": "target_on_time"}
SAMPLE, TOLERANCE = 0.001, 1e-4  # seconds between samples of one run
MAX_ACCELERATION = 80_000.0  # mm/s²
SHARES = (0.7, 0.1, 0.2)


def convert(path: Path) -> Session:
    """Convert a raw file to a session.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    with open_raw(path) as raw:
        return Session(_tree(raw))


def _tree(raw: RawFile) -> Node:
    subject, date = nwb.subject_id(raw), nwb.recording_date(raw)
    recording = f"{subject}_{date.replace('-', '')}"
    trials, clock = _trials(raw, overlapping=recording in WITH_OVERLAP)
    trial_domain = rules.trial_intervals(raw, trials["start"], trials["end"], "trials")
    spikes, units = _spikes_and_units(raw, clock, trial_domain)
    series, acceleration = _behaviour(raw, clock, len(trial_domain))
    cursor_times = series["cursor"].column("timestamps")
    outliers = rules.mask_intervals(
        cursor_times, rules.outlier_mask(acceleration, MAX_ACCELERATION, grow=50)
    )
    return data_node(
        {
            "brainset": _brainset(),
            "subject": nwb.subject_node(raw),
            **rules.session_nodes(
                f"{recording}_maze", date, recording, "UTAH_ARRAY_THRESHOLD_CROSSINGS"
            ),
            "domain": interval_node(domain_of(series["cursor"]).union(trial_domain)),
            "spikes": spikes,
            "units": units,
            **series,
            "cursor_outlier_segments": interval_node(outliers),
            "trials": table_node(trials, TIMEKEYS),
            "movement_phases": _phases(raw, trials, outliers),
            **_splits(raw, trials),
        }
    )


def _brainset() -> Node:
    return rules.brainset_node(
        NAME,
        origin="dandi/000070/draft",
        derived="2.0.0",
        source="https://dandiarchive.org/dandiset/000070",
        description=(
            "Monkeys recordings of Motor Cortex (M1) and dorsal Premotor Cortex (PMd) using two 96"
            " channel high density Utah Arrays (Blackrock Microsystems) while performing reaching"
            " tasks with right hand."
        ),
    )


# --- trials


def _trials(raw: RawFile, *, overlapping: bool) -> tuple[rules.Table, Clock]:
    """Return the trials on the repaired clock, and the clock."""
    needed = (
        *RENAMED,
        "go_cue_time",
        "move_begins_time",
        "move_ends_time",
        "discard_trial",
        "task_success",
    )
    columns = rules.trial_columns(raw, needed)
    rules.refuse_nan(raw, columns, ("start_time", "stop_time"))
    trials = {RENAMED.get(name, name): column for name, column in columns.items()}
    clock, kept, blocks = read_clock(trials["start"], trials["end"], overlapping=overlapping)
    trials = rules.rows_of(trials, np.flatnonzero(kept))
    trials |= {name: trials[name] + clock.shifts[blocks] for name in TIMEKEYS}
    trials["is_valid"] = (trials["discard_trial"] == 0) & (trials["task_success"] == 1)
    return trials, clock


def _phases(raw: RawFile, trials: rules.Table, outliers: Intervals) -> Node:
    rows = rules.rows_of(trials, np.flatnonzero(trials["is_valid"]))
    bounds_of = {
        "hold_period": ("target_on_time", "go_cue_time"),
        "reach_period": ("move_begins_time", "move_ends_time"),
        "return_period": ("move_ends_time", "end"),
    }
    phases = {
        name: rules.trial_intervals(raw, rows[start], rows[end], name)
        for name, (start, end) in bounds_of.items()
    }
    covered = phases["hold_period"].union(phases["reach_period"]).union(phases["return_period"])
    return rules.phases_node(covered, outliers, phases)


def _splits(raw: RawFile, trials: rules.Table) -> dict[str, Node]:
    valid = trials["is_valid"]
    rules.need_trials(raw, valid, 1)
    kept, others = (rules.rows_of(trials, np.flatnonzero(mask)) for mask in (valid, ~valid))
    train, valid_rows, test = rules.permutation_split(len(kept["start"]), SHARES)
    training = Intervals(kept["start"][train], kept["end"][train])
    return {
        "train_domain": interval_node(training.union(Intervals(others["start"], others["end"]))),
        "valid_domain": table_node(rules.rows_of(kept, valid_rows), TIMEKEYS),
        "test_domain": table_node(rules.rows_of(kept, test), TIMEKEYS),
    }


# --- behaviour


def _behaviour(raw: RawFile, clock: Clock, num_trials: int) -> tuple[dict[str, Node], np.ndarray]:
    """Return the series cursor, hand and eye on the repaired clock.

    The cursor has its acceleration, [samples, 2], too.
    """
    raw_times = raw.times(f"{POSITION}/Cursor/timestamps", in_order=False)
    times, kept = _repaired(raw, clock, raw_times)
    if (still := np.diff(times) <= 0).any():
        stuck = times[int(np.argmax(still))]
        raise raw.wrong(f"{POSITION}/Cursor/timestamps", f"{stuck} s twice", "increasing times")
    runs = np.flatnonzero(np.diff(times) - SAMPLE > TOLERANCE) + 1
    edges = np.concatenate([[0], runs, [len(times)]])
    if len(edges) - 1 != num_trials:
        found = f"samples in {len(edges) - 1} runs without a gap"
        raise raw.wrong(
            f"{POSITION}/Cursor/timestamps", found, f"one run for each of {num_trials} trials"
        )
    if (short := np.diff(edges) < 2).any():
        raise raw.wrong(
            f"{POSITION}/Cursor",
            f"a single sample in trial {int(np.argmax(short))}",
            "two at least",
        )
    domain = Intervals(times[edges[:-1]], times[edges[1:] - 1] + TOLERANCE)
    cursor, hand, eye = (
        raw.array(f"{POSITION}/{name}/data", (len(raw_times), 2))
        for name in ("Cursor", "Hand", "Eye")
    )
    if kept is not None:
        cursor, hand, eye = cursor[kept], hand[kept], eye[kept]
    cursor_vel, hand_vel = (
        gradient_of_runs(position, times, edges[:-1]) for position in (cursor, hand)
    )
    cursor_acc, hand_acc = (
        gradient_of_runs(velocity, times, edges[:-1]) for velocity in (cursor_vel, hand_vel)
    )
    return {
        "cursor": irregular_node(times, domain, pos=cursor, vel=cursor_vel, acc=cursor_acc),
        "hand": irregular_node(times, domain, pos_2d=hand, vel_2d=hand_vel, acc_2d=hand_acc),
        "eye": irregular_node(times, domain, pos=eye),
    }, cursor_acc


def _repaired(
    raw: RawFile, clock: Clock, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray | slice]:
    """Return time stamps on the repaired clock, and a mask of the samples to keep."""
    first_fall = falls(times)[:1]
    stop = (
        int(first_fall[0]) - 1 if len(first_fall) else len(times)
    )  # of the first block; the reference keeps the last
    kept = outside(times, clock.skipped, stop)
    times = times[kept]
    pieces = pieces_between(times, falls(times))
    field = f"{POSITION}/Cursor/timestamps"
    if len(pieces) != clock.num_blocks:
        found = f"in {len(pieces)} blocks between resets of the clock"
        raise raw.wrong(
            field,
            found,
            f"{clock.num_blocks}, as in the trial table; this clock cannot be repaired",
        )
    for block, (piece, start, end) in enumerate(zip(pieces, clock.starts, clock.ends, strict=True)):
        if clock.was_reset and not start <= piece[0] <= piece[-1] <= end:
            found = f"from {piece[0]:.9g} to {piece[-1]:.9g} s"
            expected = (
                f"times within its trials, {start:.9g} to {end:.9g} s; this clock cannot be"
                " repaired"
            )
            raise raw.wrong(f"{field} of block {block}", found, expected)
    return clock.join(pieces), slice(None) if kept.all() else kept


# --- units


def _spikes_and_units(raw: RawFile, clock: Clock, domain: Intervals) -> tuple[Node, Node]:
    """Return the spikes on the repaired clock, and the units whose spikes fit this clock."""
    times, counts = nwb.spikes_by_unit(raw)
    if clock.was_reset:
        _check_observed(raw, len(counts))
    groups = nwb.group_names(raw, np.arange(len(counts)))
    repaired = [_unit_times(clock, piece) for piece in np.split(times, np.cumsum(counts)[:-1])]
    kept = [unit for unit, spikes in enumerate(repaired) if spikes is not None]
    if not kept:
        found = f"out of order, or outside of the trials, in all {len(counts)} units"
        raise raw.wrong("units/spike_times", found, "one unit at least whose spikes fit the trials")
    spikes = [spikes for spikes in repaired if spikes is not None]
    counts = np.array([len(piece) for piece in spikes])
    units = units_node(
        [f"group_{groups[unit]}/elec{unit}" for unit in kept],
        unit_number=np.arange(len(kept)),
        count=counts,
    )
    return nwb.spikes_node(*nwb.sort_spikes(np.concatenate(spikes), counts), domain), units


def _check_observed(raw: RawFile, num_units: int) -> None:
    """Refuse a recording to repair if a unit was observed outside of the trials or not in all."""
    trials = np.stack(
        [raw.array(f"{nwb.TRIALS}/{name}", (None,)) for name in ("start_time", "stop_time")], axis=1
    )
    observed = raw.array("units/obs_intervals", (None, 2))
    if observed.shape != (num_units * len(trials), 2) or not np.allclose(
        observed, np.tile(trials, (num_units, 1))
    ):
        raise raw.wrong(
            "units/obs_intervals", "unlike the trial table", "the trials, for every unit"
        )


def _unit_times(clock: Clock, times: np.ndarray) -> np.ndarray | None:
    """Spike times of a unit on the repaired clock; None when they do not fit its blocks."""
    first_fall = falls(times)[:1]
    if len(first_fall):
        times = times[outside(times, clock.skipped, int(first_fall[0]) + 1)]
    cuts = falls(times)
    if not clock.was_reset:
        return None if len(cuts) else times
    pieces = pieces_between(times, cuts)
    return clock.join(pieces) if clock.encloses(pieces) else None


CATALOGUE = (
    CatalogueEntry(
        name=NAME,
        title="Churchland, Shenoy et al.: monkeys Jenkins and Nitschke, maze reaches",
        archive=Dandiset("000070", "0.251218.1714"),
        licence="CC-BY-4.0",
        convert=convert,
        raw_files=("sub-Jenkins_ses-2*.nwb", "sub-Nitschke_ses-2*.nwb"),
        num_files=10,
        raw_gigabytes=46.0,
        processed_gigabytes=25.0,
    ),
)
