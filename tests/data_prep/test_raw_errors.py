"""Raw files unlike their description are refused with a sentence: file, field, what was found and
expected.
"""

from functools import partial

import h5py
import numpy as np
import pytest
from converters import center_out, convert, random_target, reset, special
from raw_fields import ELECTRODES, TRIALS, WithAttributes, cell_array
from raw_files import churchland, flint, maze, odoherty, perich, rtt
from scipy.io import savemat

from poyo_jax.errors import RawDataError

BEHAVIOUR = "processing/behavior"
CURSOR, CURSOR_POS = f"{BEHAVIOUR}/Position/Cursor/timestamps", f"{BEHAVIOUR}/Position/cursor_pos"
GROUPS = f"{ELECTRODES}/group_name"


def put(row, value):
    """A change of one row."""

    def change(values):
        values = np.array(values)
        values[row] = value
        return values

    return change


def changed(folder, build, changes):
    """A raw file, some of whose fields are replaced, or made from the valid ones by a function."""
    with h5py.File(build(folder)) as file:
        new = {
            name: change(file[name][()]) if callable(change) else change
            for name, change in changes.items()
        }
    return build(folder, changes=new)


def assert_refused(path, build, message):
    """The error's text begins with the name of the file, and then says this."""
    with pytest.raises(RawDataError) as caught:
        convert(path, build)
    assert str(caught.value).startswith(f"{path.name}: {message}")


# Builder, field, what becomes of it, and what is said of this field.
FIELDS = [
    (
        center_out,
        "session_start_time",
        None,
        " is missing; expected a data set (the file holds general, interv",
    ),
    (
        center_out,
        "units/spike_times",
        None,
        " is missing; expected a data set (units holds electrodes,",
    ),
    (
        center_out,
        f"{TRIALS}/result",
        None,
        " is missing (there are go_cue_time, start_time, stop_time, targ",
    ),
    (random_target, f"{TRIALS}/go_cue_time_array", None, " is missing (there are num_attempted"),
    (
        random_target,
        "general/subject/subject_id",
        None,
        " is missing; expected a data set (general/subject h",
    ),
    (center_out, f"{CURSOR_POS}/timestamps", None, " is missing; expected a data set ("),
    (
        reset,
        "units/obs_intervals",
        None,
        " is missing; expected a data set (units holds electrodes",
    ),
    (
        odoherty,
        "wf",
        None,
        " is missing; expected a data set (the file holds #refs#, chan_names, cursor_pos",
    ),
    (
        maze,
        f"{TRIALS}/move_onset_time",
        None,
        " is missing, or no numbers; expected a time for every trial.",
    ),
    (maze, f"{TRIALS}/split", None, " is missing (there are "),
    (rtt, f"{BEHAVIOUR}/finger_pos/starting_time", None, " is missing; expected a data set ("),
    # shapes and types
    (
        center_out,
        f"{CURSOR_POS}/data",
        lambda x: x[:-1],
        " is an array of shape (6379, 2); expected shape (6380, 2).",
    ),
    (
        center_out,
        f"{CURSOR_POS}/data",
        lambda x: x[:, :1],
        " is an array of shape (6380, 1); expected shape (6380, 2)",
    ),
    (
        center_out,
        f"{TRIALS}/stop_time",
        lambda x: x[:, None],
        " is of type float64 and shape (24, 1); expected one num",
    ),
    (
        center_out,
        f"{TRIALS}/go_cue_time",
        ["soon"] * 24,
        " is of type object and shape (24,); expected one number per",
    ),
    (
        center_out,
        f"{TRIALS}/result",
        np.zeros(24),
        " is of type float64 and shape (24,); expected one text per trial.",
    ),
    (
        random_target,
        f"{TRIALS}/go_cue_time_array",
        lambda x: x[:, 0],
        " is of type float64 and shape (24,); expected on",
    ),
    (center_out, "units/spike_times", ["a"], " is of type object; expected numbers."),
    (
        center_out,
        "session_start_time",
        "3 Oct 2013",
        " is '3 Oct 2013'; expected a date such as 2013-10-03T00:00:00",
    ),
    (center_out, "general/subject/subject_id", 3, " is a int64; expected a text."),
    (
        odoherty,
        "cursor_pos",
        lambda x: x.T,
        " is an array of shape (7500, 2); expected shape (2, 7500).",
    ),
    (odoherty, "finger_pos", lambda x: x[:2], " is of 2 columns; expected 3 or 6 columns."),
    (
        odoherty,
        "spikes",
        np.zeros((3, 3)),
        " is of type float64 and shape (3, 3); expected a cell array.",
    ),
    (rtt, f"{BEHAVIOUR}/target_pos/data", 1.0, " is a single number; expected one row per sample."),
    (
        rtt,
        f"{BEHAVIOUR}/target_pos/data",
        np.zeros((0, 2)),
        " is empty; expected one sample at least.",
    ),
    # electrodes and units
    (
        center_out,
        "units/electrodes_index",
        put(-1, 4),
        " is 4 ends between 2 and 4; expected ends that never",
    ),
    (
        center_out,
        "units/spike_times_index",
        put(-1, 99),
        " is 4 ends between 30 and 99; expected ends that never dec",
    ),
    (
        center_out,
        "units/spike_times_index",
        put(0, 70),
        " is 4 ends between 60 and 90; expected ends that never decr",
    ),
    (
        churchland,
        GROUPS,
        ["1"] * 4,
        " is a table of 4 electrodes, but units refer to row 4; expected a row for every",
    ),
    (
        reset,
        "units/obs_intervals",
        lambda x: 2 * x,
        " is unlike the trial table; expected the trials, for every unit.",
    ),
    (
        special,
        "units/obs_intervals",
        lambda x: x[:-1],
        " is unlike the trial table; expected the trials, for every",
    ),
    (
        reset,
        "units/spike_times",
        lambda x: x + 99,
        " is out of order, or outside of the trials, in all 5 units; exp",
    ),
    # times
    (center_out, "units/spike_times", put(5, np.nan), "[5] is nan; expected finite numbers."),
    (
        center_out,
        f"{CURSOR_POS}/timestamps",
        put(7, 0.0),
        "[7] is 0.0 s after 0.06 s; expected times",
    ),
    (
        center_out,
        f"{CURSOR_POS}/timestamps",
        put(7, np.inf),
        "[7] is inf; expected finite numbers.",
    ),
    (churchland, CURSOR, put(7, np.nan), "[7] is nan; expected finite numbers."),
    (
        churchland,
        CURSOR,
        lambda x: put(7, x[6])(x),
        " is 0.695 s twice; expected increasing times.",
    ),
    (
        churchland,
        CURSOR,
        lambda x: 1.2 * x,
        " is samples in 2403 runs without a gap; expected one run for each of 8",
    ),
    (
        odoherty,
        "t",
        lambda x: put((0, 9), x[0, 8] + 0.006)(x),
        "[10] - t[9] is 0.002 s; expected 0.004 s, to 0.0001",
    ),
    (
        odoherty,
        "t",
        put((0, -1), 99),
        "[7499] - t[7498] is 59.008 s; expected 0.004 s, to 0.0001 s.",
    ),
    (
        odoherty,
        "t",
        lambda x: x + 1e-5 * (np.arange(7500) % 2),
        " is spaced unevenly, by 0.50%; expected even samples",
    ),
    (odoherty, "t", lambda x: x[:, :1], " is of 1 samples; expected two samples at least."),
    (odoherty, "t", put((0, 9), np.nan), "[0, 9] is nan; expected finite numbers."),
    # trials
    (
        center_out,
        f"{TRIALS}/start_time",
        put(3, np.nan),
        "[3] is NaN; expected the time of every trial.",
    ),
    (
        random_target,
        f"{TRIALS}/stop_time",
        put(3, np.nan),
        "[3] is NaN; expected the time of every trial.",
    ),
    (
        churchland,
        f"{TRIALS}/stop_time",
        put(3, np.nan),
        "[3] is NaN; expected the time of every trial.",
    ),
    (maze, f"{TRIALS}/start_time", put(0, np.nan), "[0] is NaN; expected the time of every trial."),
    (
        maze,
        f"{TRIALS}/split",
        ["val"] * 10,
        " is 'train' for none of 10 trials; expected one at least.",
    ),
    # clocks
    (
        churchland,
        CURSOR,
        lambda x: x[::-1],
        " is in 2403 blocks between resets of the clock; expected 1, as in the",
    ),
    (
        reset,
        CURSOR,
        np.sort,
        (
            " is in 1 blocks between resets of the clock; expected 2, as in the trial table; this"
            " clock"
        ),
    ),
    (
        reset,
        CURSOR,
        lambda x: x - 0.5,
        " of block 0 is from 0.189 to 3.806 s; expected times within its trials, 0.68",
    ),
    (special, CURSOR, lambda x: x + 10, " of block 0 is from 10.689 to "),
    # cells
    (
        odoherty,
        "spikes",
        cell_array((3, 3), {}),
        " is empty in every cell; expected one unit with spikes at least.",
    ),
    (
        odoherty,
        "cursor_pos",
        np.zeros((2, 7500)),
        " is at rest but for pieces of 10 s or less; expected longer move",
    ),
]
# Builder, changes, and a sentence about something else.
OTHERS = [
    (
        center_out,
        {f"{TRIALS}/stop_time": lambda x: x[:-1]},
        f"{TRIALS} is columns of different lengths ({{'go_cue_time",
    ),
    (
        center_out,
        {"units/electrodes": put(2, 4)},
        f"{GROUPS} is a table of 4 electrodes, but units refer to row 4; ",
    ),
    (
        center_out,
        {"units/electrodes": put(2, -1)},
        f"{GROUPS} is a table of 4 electrodes, but units refer to row -1",
    ),
    (
        center_out,
        {"units/electrodes_index": put(0, 0)},
        "units/electrodes of unit 0 is empty; expected one electrode",
    ),
    (
        center_out,
        {"units/electrodes_index": None},
        "units/electrodes is given for 5 units; expected one row for each",
    ),
    (center_out, {f"{TRIALS}/go_cue_time": lambda x: x * np.nan}, "hold_period: interval 0 ["),
    (
        center_out,
        {f"{TRIALS}/result": ["F"] * 24},
        f"{TRIALS} is a table with 0 valid of 24 trials; expected 3 valid",
    ),
    (
        random_target,
        {f"{TRIALS}/num_attempted": np.zeros(24)},
        f"{TRIALS} is a table with 0 valid of 24 trials; expe",
    ),
    (
        churchland,
        {f"{TRIALS}/task_success": np.zeros(8)},
        f"{TRIALS} is a table with 0 valid of 8 trials; expected 1",
    ),
    (center_out, {f"{TRIALS}/target_on_time": lambda x: x[::-1]}, "trials: interval 0 ["),
    (
        random_target,
        {f"{TRIALS}/stop_time": lambda x: x + 9},
        "trials: interval 0 [1.0, 14.0) overlaps the next one;",
    ),
    (maze, {f"{TRIALS}/stop_time": lambda x: x + 1}, "trials: interval 0 ["),
    (
        rtt,
        {f"{TRIALS}/stop_time": lambda x: x + 0.3},
        "trials: interval 0 [0.0, 0.9) overlaps the next one; cut",
    ),
    (
        odoherty,
        {"chan_names": cell_array((1, 2), {})},
        "spikes is given for 3 channels; expected one column for each",
    ),
    (
        odoherty,
        {"wf": cell_array((2, 3), {})},
        "spikes is cells of shape (3, 3), and wf of (2, 3); expected the same",
    ),
    (odoherty, {"wf": cell_array((3, 3), {})}, "wf of M1 001/unsorted is of shape (2,) with"),
    (
        partial(odoherty, num_sorts=12),
        {},
        "spikes is cells of shape (12, 3), and wf of (12, 3); expected the same sha",
    ),
    (
        partial(odoherty, num_sorts=1, channels=["M1 001"]),
        {
            "spikes": cell_array((1, 1), {(0, 0): np.array([[1.0, np.nan]])}),
            "wf": cell_array((1, 1), {(0, 0): np.zeros((48, 2))}),
        },
        "spikes is NaN somewhere; expected finite times",
    ),
    (
        center_out,
        {
            f"{BEHAVIOUR}/{name}/data": np.zeros((0, 2))
            for name in ("Velocity/cursor_vel", "Acceleration/cursor_acc")
        }
        | {f"{CURSOR_POS}/data": np.zeros((0, 2)), f"{CURSOR_POS}/timestamps": np.zeros(0)},
        f"{CURSOR_POS}/timestamps is empty; expected one sample at least.",
    ),
    (
        maze,
        {
            name: np.zeros(0, int)
            for name in ("units/spike_times", "units/spike_times_index", "units/electrodes_index")
        },
        "units is an empty table; expected at least one unit",
    ),
    (
        rtt,
        {f"{BEHAVIOUR}/finger_vel/starting_time": WithAttributes(0.002, {"rate": 1000.0})},
        f"{BEHAVIOUR}/finger_vel is sampled at other times; expected the times of the position.",
    ),
    (
        rtt,
        {f"{BEHAVIOUR}/finger_pos/starting_time": WithAttributes(0.001, {"rate": -1.0})},
        (
            f"{BEHAVIOUR}/finger_pos/starting_time is 0.001 s with a rate of -1.0 Hz; expected a"
            " time in seconds and"
        ),
    ),
]


def is_cells(change):
    return callable(change) and change.__qualname__.startswith("cell_array")


@pytest.mark.parametrize(("build", "field", "change", "said"), FIELDS)
def test_unsound_field_is_named(tmp_path, build, field, change, said):
    changes = {field: change}
    path = (
        build(tmp_path, changes=changes) if is_cells(change) else changed(tmp_path, build, changes)
    )
    assert_refused(path, build, field + said)


@pytest.mark.parametrize(("build", "changes", "message"), OTHERS)
def test_contradiction_is_named(tmp_path, build, changes, message):
    cells = any(map(is_cells, changes.values()))
    path = build(tmp_path, changes=changes) if cells else changed(tmp_path, build, changes)
    assert_refused(path, build, message)


# Replaced fields of Trial(3), and what is said of them.
STRUCTS = [
    (
        {"Time": np.zeros((0, 0))},
        "Time is of 0 values, 0 of them NaN; expected two finite times at least.",
    ),
    (
        {"Time": np.full((9, 1), np.nan)},
        "Time is of 9 values, 9 of them NaN; expected two finite times at least.",
    ),
    ({"Time": np.ones((9, 1))}, "Time(2) is 1.0 s after 1.0 s; expected increasing times."),
    ({"Time": "noon"}, "Time is of type <U4; expected numbers."),
    ({"HandVel": np.zeros((5, 3))}, "HandVel is of shape (5, 3); expected "),
    (
        {"Neuron": np.ones((4, 1))},
        "Neuron is of type float64; expected a struct array, one element per unit.",
    ),
]


@pytest.mark.parametrize(("fields", "said"), STRUCTS)
def test_unsound_matlab_struct_is_named(tmp_path, fields, said):
    assert_refused(flint(tmp_path, trials={2: fields}), flint, f"Subject(1).Trial(3).{said}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trials": {trial: {"Time": None} for trial in range(10)}},
            "Subject(1).Trial(1).Time is missing; expected a",
        ),
        (
            {"trials": {2: {"Neuron": np.zeros((0, 0))}}},
            "Trial.Neuron has [0, 4] units in different trials; expected",
        ),
        (
            {"num_units": 0},
            (
                "Trial.Neuron has [0] units in different trials; expected as many as in Trial(1),"
                " at least"
            ),
        ),
        (
            {"trials": {0: {"Time": np.array([[0], [5]]), "HandVel": np.zeros((2, 3))}}},
            "Trial.Time: interval 0 [0.0, 5",
        ),
        ({"num_trials": 0}, "Subject(1) has no trials; expected one at least."),
    ],
)
def test_unsound_matlab_file_is_refused(tmp_path, options, message):
    assert_refused(flint(tmp_path, **options), flint, message)


@pytest.mark.parametrize(
    "content", [{"Patient": 1.0}, {"Subject": np.zeros((2, 2))}, {"Subject": np.zeros((0, 0))}]
)
def test_matlab_file_without_subject_or_trials_is_refused(tmp_path, content):
    savemat(tmp_path / "Flint_2012_e1.mat", content)
    message = "is cut off or has no struct array Subject with trials ("
    assert_refused(tmp_path / "Flint_2012_e1.mat", flint, message)


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (
            perich,
            "sub-C_ses-20131003_behavior+ecephys.nwb",
            "the task cannot be told from this name; expected sub-<C|J",
        ),
        (perich, "c_CO.nwb", "the task cannot be told from this name"),
        (
            odoherty,
            "indy_2016.mat",
            "subject and date cannot be told from this name; expected indy_YYYYMMDD_NN.mat or",
        ),
        (flint, "Flint_2012.mat", "not a name of this data set; expected Flint_2012_e<1-5>.mat."),
        (
            maze,
            "sub-Jenkins_ses-tiny_desc-train_ecephys.nwb",
            "size and part cannot be told from this name; expected",
        ),
        (
            rtt,
            "sub-Indy_ecephys.nwb",
            "the part cannot be told from this name; expected sub-Indy_desc-<train|test>_",
        ),
    ],
)
def test_file_of_another_name_is_refused(tmp_path, build, name, message):
    assert_refused(build(tmp_path / name), build, message)
