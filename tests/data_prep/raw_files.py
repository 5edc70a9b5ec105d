"""Small raw recordings with random content, in the layout of each archive: what `data_prep`
converts.

Every builder takes the path of a file, or a folder for a file named as in the archive, and returns
the file's path. Equal arguments give equal content. `changes` replaces fields of the file, or
leaves out those that are None.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from raw_fields import (
    Fields,
    WithAttributes,
    cell_array,
    characters,
    compact_date,
    nwb_fields,
    place,
    reference_column,
    structs,
    trial_fields,
    write_fields,
)
from scipy.io import savemat


def random_spikes(rng: np.random.Generator, count: int, end: float) -> list[np.ndarray]:
    """Times of `count` units, of which the last one is silent."""
    return [np.sort(rng.uniform(0, end, 30)) for _ in range(count - 1)] + [np.zeros(0)]


# --- Perich


def perich(
    path: Path,
    task: str = "CO",
    *,
    seed: int = 0,
    subject: str = "C",
    date: str = "2013-10-03",
    num_trials: int = 24,
    num_units: int = 4,
    nan_targets: Sequence[int] = (),
    changes: Fields | None = None,
) -> Path:
    """Centre-out (CO) or random-target (RT) reaches; in trials `nan_targets` of the former no
    target appeared.
    """
    rng = np.random.default_rng(seed)
    columns = (_center_out if task == "CO" else _random_target)(rng, num_trials)
    if task == "CO":
        columns["target_on_time"][list(nan_targets)] = columns["target_id"][list(nan_targets)] = (
            np.nan
        )
    times = np.arange(0, columns["stop_time"][-1] + 4, 0.01)
    position = 6 * np.stack([np.sin(0.7 * times), np.cos(0.9 * times)], axis=1)
    acceleration = rng.normal(0, 100, (len(times), 2))
    for row in rng.integers(0, len(times), 3):  # the cursor leaves the workspace, or jumps
        position[row : row + rng.integers(1, 300)] += 12.0
        acceleration[rng.integers(0, len(times))] *= 100
    series = {
        "Position/cursor_pos": position,
        "Velocity/cursor_vel": position[::-1],
        "Acceleration/cursor_acc": None,
    }
    fields = nwb_fields(
        subject,
        date,
        ["electrode_group_M1", "electrode_group_PMd"] * 2,
        random_spikes(rng, num_units, times[-1]),
    )
    for name, values in series.items():
        fields[f"processing/behavior/{name}/data"] = acceleration if values is None else values
        fields[f"processing/behavior/{name}/timestamps"] = times
    name = f"sub-{subject}_ses-{task}-{compact_date(date)}_behavior+ecephys.nwb"
    return write_fields(place(path, name), fields | trial_fields(columns), changes)


def _center_out(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Trials 1.4 to 7 s apart, of which about 3 in 4 are valid."""
    target_on = 1 + np.cumsum(rng.choice([1.4, 2.0, 2.5, 7.0], count, p=[0.3, 0.3, 0.3, 0.1]))
    go_cue = target_on + rng.uniform(0.2, 0.4, count)
    return {
        "start_time": target_on - 0.1,
        "stop_time": go_cue + rng.uniform(0.5, 0.9, count),
        "target_on_time": target_on,
        "go_cue_time": go_cue,
        "target_dir": rng.uniform(0, 6, count),
        "target_id": np.where(rng.random(count) < 0.05, np.nan, rng.integers(0, 8, count)),
        "target_corners": rng.normal(size=(count, 4)),
        "result": [
            str(result)
            for result in rng.choice(["R", "A", "F", "I"], count, p=[0.85, 0.05, 0.05, 0.05])
        ],
    }


def _random_target(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Trials of 1 to 5 s, some of which have no go cue or fewer than four targets attempted."""
    start = 1 + 6.0 * np.arange(count)
    cues = start[:, None] + 0.3 + 0.1 * np.arange(4)
    cues[rng.random(count) < 0.2] = np.nan
    return {
        "start_time": start,
        "stop_time": start + rng.choice([1.0, 3.0, 4.0, 5.0], count, p=[0.1, 0.3, 0.3, 0.3]),
        "go_cue_time_array": cues,
        "num_attempted": rng.choice([3.0, 4.0], count, p=[0.1, 0.9]),
        "num_targets": np.full(count, 4, np.uint8),
        "target_id": rng.integers(0, 8, (count, 4)).astype(float),
        "target_size": np.full(count, 2.0),
        "result": [str(result) for result in rng.choice(["R", "F"], count, p=[0.9, 0.1])],
    }


# --- Churchland


def churchland(
    path: Path,
    *,
    seed: int = 0,
    subject: str = "Jenkins",
    date: str = "2009-09-12",
    blocks: Sequence[int] = (8,),
    overlap: int = 0,
    early: Sequence[int] = (),
    stray: Sequence[int] = (),
    num_units: int = 5,
    equal_barriers: bool = False,
    changes: Fields | None = None,
) -> Path:
    """Maze reaches, whose clock goes back after each of `blocks`, the numbers of trials (two or
    more each).

    After the first `overlap` trials come two further ones that overlap, unless it is 0. Units
    `early` lack spikes in the last block, units `stray` have a spike after the last trial of a
    block.
    """
    rng = np.random.default_rng(seed)
    tables = [_maze_trials(rng, count) for count in blocks]
    if overlap:
        tables[0] = _with_overlap(rng, tables[0], overlap)
    starts, ends = np.concatenate(tables).T / 1000
    samples = np.concatenate([_samples_within(table) for table in tables]) / 1000
    spikes = [
        _maze_spikes(rng, tables[: len(tables) - (unit in early)], unit in stray)
        for unit in range(num_units)
    ]
    count = len(starts)
    lengths = np.full(count, 2) if equal_barriers else 1 + rng.permutation(count)
    columns = {
        "start_time": starts,
        "stop_time": ends,
        "target_presentation_time": starts + 0.02,
        "go_cue_time": starts + 0.08,
        "move_begins_time": starts + 0.12,
        "move_ends_time": starts + 0.2,
        "reaction_time": rng.uniform(0.1, 0.3, count),
        "discard_trial": (np.arange(count) % 7 == 6).astype(np.uint8),
        "task_success": (np.arange(count) % 9 != 8).astype(np.uint8),
        "hit_target_position": rng.normal(size=(count, 2)),
        "barrier_info": rng.normal(size=(lengths.sum(), 4)),
        "barrier_info_index": np.cumsum(lengths).astype(np.uint16),
        "timeseries": reference_column(count),
    }
    fields = nwb_fields(subject, date, ["1", "2"] * num_units, spikes)
    fields["units/obs_intervals"] = np.tile(np.stack([starts, ends], axis=1), (num_units, 1))
    for name in ("Cursor", "Hand", "Eye"):
        position = np.cumsum(rng.normal(0, 0.1, (len(samples), 2)), axis=0)
        position[rng.integers(0, len(samples), 2)] += 5.0  # an outlier of acceleration
        fields[f"processing/behavior/Position/{name}/data"] = position
        fields[f"processing/behavior/Position/{name}/timestamps"] = samples
    name = f"sub-{subject}_ses-{compact_date(date)}_behavior+ecephys.nwb"
    return write_fields(place(path, name), fields | trial_fields(columns), changes)


def _maze_trials(rng: np.random.Generator, count: int) -> np.ndarray:
    """Starts and ends in ms, [trials, 2]; the first trial begins before a block of two could
    end.
    """
    lengths, pauses = rng.integers(250, 400, count), rng.integers(100, 200, count)
    ends = 500 + rng.integers(0, 300) + np.cumsum(lengths + pauses)
    return np.stack([ends - lengths, ends], axis=1) - pauses[0]


def _with_overlap(rng: np.random.Generator, table: np.ndarray, after: int) -> np.ndarray:
    """The table with two more trials, the second of which begins within the first."""
    begin = table[after - 1, 1] + 100
    pair = begin + np.array([[0, 300], [300 - rng.integers(1, 200), 500]])
    return np.concatenate([table[:after], pair, table[after:] + 700])


def _samples_within(table: np.ndarray) -> np.ndarray:
    """Every ms of the trials, once."""
    return np.unique(np.concatenate([np.arange(start, end) for start, end in table]))


def _maze_spikes(rng: np.random.Generator, tables: Sequence[np.ndarray], stray: bool) -> np.ndarray:
    """Spike times of a unit in seconds, block by block."""
    pieces = [np.zeros(0)]
    for table in tables:
        rows = table[rng.integers(0, len(table), 12)]
        pieces.append(np.sort(rng.uniform(rows[:, 0], rows[:, 1])) / 1000)
    if stray and tables:
        pieces.append([tables[-1][-1, 1] / 1000 + 0.5])
    return np.concatenate(pieces)


# --- O'Doherty


def odoherty(
    path: Path,
    *,
    seed: int = 0,
    name: str = "indy_20160407_02",
    seconds: float = 30.0,
    pauses: Sequence[tuple[float, float]] = (),
    channels: Sequence[str] = ("M1 001", "M1 002", "S1 001"),
    num_sorts: int = 3,
    finger_rows: int = 3,
    empty: Sequence[tuple[int, int]] = ((1, 1), (2, 0), (2, 1), (2, 2)),
    changes: Fields | None = None,
) -> Path:
    """Self-paced reaches; during `pauses`, (start, length) in seconds, nothing moves. Cells `empty`
    have no unit.
    """
    rng = np.random.default_rng(seed)
    count = round(seconds * 250)
    times = 10 + 0.004 * np.arange(count)
    speed = 40 + 20 * np.sin(times)  # mm/s
    for start, length in pauses:
        speed[(start <= times - 10) & (times - 10 < start + length)] = 0
    angle = np.cumsum(speed) * 0.004 / 50
    cursor = 50 * np.stack([np.cos(angle), np.sin(angle)])
    cells = {
        (sort, channel): np.sort(rng.uniform(9, 10 + seconds, rng.integers(1, 20)))
        for sort in range(num_sorts)
        for channel in range(len(channels))
        if (sort, channel) not in empty
    }
    shape = num_sorts, len(channels)
    waves = {cell: rng.normal(size=(48, len(spikes))) for cell, spikes in cells.items()}
    fields = {
        "t": times[None],
        "cursor_pos": cursor,
        "target_pos": np.round(cursor),
        "finger_pos": rng.normal(size=(finger_rows, count)),
        "chan_names": cell_array(
            (1, len(channels)), {(0, k): characters(text) for k, text in enumerate(channels)}
        ),
        "spikes": cell_array(shape, {cell: spikes[None] for cell, spikes in cells.items()}),
        "wf": cell_array(shape, waves),
    }
    return write_fields(place(path, f"{name}.mat"), fields, changes)


# --- Flint


def flint(
    path: Path,
    *,
    seed: int = 0,
    recording: int = 2,
    num_trials: int = 10,
    num_units: int = 4,
    silent: Sequence[int] = (),
    trials: dict[int, Fields] | None = None,
) -> Path:
    """Two recordings of one day; in trials `silent` no unit fires. `trials` replaces fields of
    trials of the first.
    """
    rng = np.random.default_rng(seed)
    days = [_flint_trials(rng, count, num_units, silent) for count in (num_trials, 2)]
    for trial, fields in (trials or {}).items():
        days[0][trial].update(fields)
    subjects = np.array([[(structs(day),)] for day in days], [("Trial", object)])
    path = place(path, f"Flint_2012_e{recording}.mat")
    savemat(path, {"Subject": subjects}, oned_as="column")
    return path


def _flint_trials(
    rng: np.random.Generator, count: int, num_units: int, silent: Sequence[int]
) -> list[dict]:
    rows = []
    for trial in range(count):
        times = (1 + 3 * trial) + np.arange(rng.integers(50, 200)) / 100
        counts = rng.integers(0, 8, num_units) * (trial not in silent)
        spikes = [np.sort(rng.uniform(times[0], times[-1], number)) for number in counts]
        velocity = np.pad(rng.normal(size=(len(times), 2)), ((0, 0), (0, 1)))
        neurons = structs(
            [{"Spike": train[:, None] if len(train) else np.zeros((0, 0))} for train in spikes]
        )
        rows.append(
            {
                "Time": times[:, None],
                "HandPos": velocity / 10,
                "HandVel": velocity,
                "Neuron": neurons,
            }
        )
    return rows


# --- benchmark


def maze(
    path: Path,
    part: str = "train",
    *,
    size: str = "small",
    seed: int = 0,
    num_trials: int = 10,
    changes: Fields | None = None,
) -> Path:
    """MC_Maze of the Neural Latents Benchmark: behaviour within trials only, and none in the part
    "test".
    """
    rng = np.random.default_rng(seed)
    lengths, pauses = rng.integers(800, 1000, num_trials), rng.integers(50, 300, num_trials)
    ends = np.cumsum(lengths + pauses)
    starts = ends - lengths
    times = (
        2 + np.concatenate([np.arange(*bounds) for bounds in zip(starts, ends, strict=True)])
    ) / 1000
    columns = {
        "start_time": starts / 1000,
        "stop_time": ends / 1000,
        "move_onset_time": starts / 1000 + 0.3,
    }
    if part == "train":
        columns |= {"rt": rng.integers(200, 400, num_trials), "success": np.ones(num_trials, bool)}
    fields = nwb_fields(
        "Jenkins", "2009-09-18", ["electrode_group_M1"] * 3, random_spikes(rng, 3, ends[-1] / 1000)
    )
    fields |= trial_fields(columns | {"split": benchmark_split(num_trials)})
    for name in ("hand_pos", "hand_vel", "eye_pos", "cursor_pos") if part == "train" else ():
        values = WithAttributes(rng.normal(size=(len(times), 2)), {"conversion": 0.001})
        fields |= {
            f"processing/behavior/{name}/data": values,
            f"processing/behavior/{name}/timestamps": times,
        }
    kind = "behavior+ecephys" if part == "train" else "ecephys"
    return write_fields(
        place(path, f"sub-Jenkins_ses-{size}_desc-{part}_{kind}.nwb"), fields, changes
    )


def rtt(
    path: Path,
    part: str = "train",
    *,
    seed: int = 0,
    num_trials: int = 12,
    noise: float = 0.0,
    changes: Fields | None = None,
) -> Path:
    """MC_RTT of the benchmark: trials of 0.6 s without pauses, whose ends are late by `noise`
    seconds.
    """
    rng = np.random.default_rng(seed)
    starts = 0.6 * np.arange(num_trials)
    count = 600 * num_trials
    fields = nwb_fields(
        "Indy", "2017-02-02", ["electrode_group_M1"] * 3, random_spikes(rng, 3, count / 1000)
    )
    fields |= trial_fields(
        {
            "start_time": starts,
            "stop_time": starts + 0.6 + noise,
            "split": benchmark_split(num_trials),
        }
    )
    series = (
        {"cursor_pos": 2, "finger_pos": 3, "finger_vel": 2, "target_pos": 2}
        if part == "train"
        else {}
    )
    for name, channels in series.items():
        fields[f"processing/behavior/{name}/data"] = rng.normal(size=(count, channels))
        fields[f"processing/behavior/{name}/starting_time"] = WithAttributes(
            0.001, {"rate": 1000.0}
        )
    kind = "behavior+ecephys" if part == "train" else "ecephys"
    return write_fields(place(path, f"sub-Indy_desc-{part}_{kind}.nwb"), fields, changes)


def benchmark_split(count: int) -> list[str]:
    return ["val" if trial % 4 == 3 else "train" for trial in range(count)]
