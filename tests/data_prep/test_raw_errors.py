"""Raw files that are damaged or unlike their description are refused with a sentence: file, field, found, expected."""

from functools import partial

import h5py
import numpy as np
import pytest
from raw_fields import WithAttributes, cell_array
from raw_files import churchland, flint, maze, odoherty, perich, rtt

from data_prep import (
    churchland_shenoy_neural_2012,
    flint_slutzky_accurate_2012,
    nlb_mc_maze,
    nlb_mc_rtt,
    odoherty_sabes_nonhuman_2017,
    perich_miller_population_2018,
)
from poyo_jax.data.raw import open_raw
from poyo_jax.errors import RawDataError

CONVERTERS = {
    perich: perich_miller_population_2018.convert,
    churchland: churchland_shenoy_neural_2012.convert,
    odoherty: odoherty_sabes_nonhuman_2017.convert,
    flint: flint_slutzky_accurate_2012.convert,
    maze: nlb_mc_maze.convert,
    rtt: nlb_mc_rtt.convert,
}
center_out, random_target = partial(perich, task="CO"), partial(perich, task="RT")
special = partial(churchland, subject="Nitschke", date="2009-09-10", overlap=True)
reset = partial(churchland, blocks=(8, 3))
TRIALS, POSITION = "intervals/trials", "processing/behavior/Position"
CURSOR, CURSOR_POS = f"{POSITION}/Cursor/timestamps", f"{POSITION}/cursor_pos"
GROUPS = "general/extracellular_ephys/electrodes/group_name"


def convert(path, build):
    return CONVERTERS[getattr(build, "func", build)](path)


def put(row, value):
    """A change of one row."""

    def change(values):
        values = np.array(values)
        values[row] = value
        return values

    return change


def scaled(factor):
    return lambda values: values * factor


def changed(folder, build, changes):
    """A raw file, some of whose fields are replaced, or made from the valid ones by a function."""
    with h5py.File(build(folder)) as file:
        new = {name: change(file[name][()]) if callable(change) else change for name, change in changes.items()}
    return build(folder, changes=new)


def assert_refused(path, build, message):
    """The sentence begins with the name of the file, and then says this."""
    with pytest.raises(RawDataError) as caught:
        convert(path, build)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert str(caught.value).removeprefix(f"{path.name}: ").startswith(message)


# What is changed, and the beginning of the sentence after the name of the file.
REFUSED = [
    # missing fields
    (center_out, {"session_start_time": None}, "session_start_time is missing; expected a data set (the file holds"),
    (center_out, {"units/spike_times": None}, "units/spike_times is missing; expected a data set (units holds"),
    (center_out, {f"{TRIALS}/result": None}, f"{TRIALS}/result is missing (there are go_cue_time, start_time,"),
    (random_target, {f"{TRIALS}/go_cue_time_array": None}, f"{TRIALS}/go_cue_time_array is missing"),
    (random_target, {"general/subject/subject_id": None}, "general/subject/subject_id is missing"),
    (center_out, {f"{CURSOR_POS}/timestamps": None}, f"{CURSOR_POS}/timestamps is missing"),
    (reset, {"units/obs_intervals": None}, "units/obs_intervals is missing"),
    (churchland, {f"{POSITION}/Hand/data": None}, f"{POSITION}/Hand/data is missing; expected a data set ({POSITION}"),
    (odoherty, {"wf": None}, "wf is missing; expected a data set (the file holds #refs#, chan_names, cursor_pos"),
    (maze, {f"{TRIALS}/move_onset_time": None}, f"{TRIALS}/move_onset_time is missing, or no numbers; expected a time"),
    (maze, {f"{TRIALS}/split": None}, f"{TRIALS}/split is missing"),
    (rtt, {"processing/behavior/finger_pos/starting_time": None}, "processing/behavior/finger_pos/starting_time is mi"),
    # shapes and types
    (center_out, {f"{CURSOR_POS}/data": lambda x: x[:-1]}, f"{CURSOR_POS}/data is an array of shape (6468, 2); expec"),
    (center_out, {f"{CURSOR_POS}/data": lambda x: x[:, :1]}, f"{CURSOR_POS}/data is an array of shape (6469, 1); exp"),
    (center_out, {f"{TRIALS}/stop_time": lambda x: x[:-1]}, f"{TRIALS} is columns of different lengths ("),
    (center_out, {f"{TRIALS}/stop_time": lambda x: x[:, None]}, f"{TRIALS}/stop_time is of type float64 and shape (24, "),
    (center_out, {f"{TRIALS}/go_cue_time": ["soon"] * 24}, f"{TRIALS}/go_cue_time is of type object and shape (24,)"),
    (center_out, {f"{TRIALS}/result": np.zeros(24)}, f"{TRIALS}/result is of type float64 and shape (24,); expected one"),
    (random_target, {f"{TRIALS}/go_cue_time_array": lambda x: x[:, 0]}, f"{TRIALS}/go_cue_time_array is of type float"),
    (center_out, {"units/spike_times": ["a"]}, "units/spike_times is of type object; expected numbers"),
    (center_out, {"session_start_time": "3 Oct 2013"}, "session_start_time is '3 Oct 2013'; expected a date such as"),
    (center_out, {"general/subject/subject_id": 3}, "general/subject/subject_id is a int64; expected a text"),
    (odoherty, {"cursor_pos": lambda x: x.T}, "cursor_pos is an array of shape (7500, 2); expected shape (2, 7500)"),
    (odoherty, {"finger_pos": lambda x: x[:2]}, "finger_pos is of 2 columns; expected 3 or 6 columns"),
    (odoherty, {"spikes": np.zeros((3, 3))}, "spikes is of type float64 and shape (3, 3); expected a cell array"),
    (rtt, {"processing/behavior/target_pos/data": 1.0}, "processing/behavior/target_pos/data is a single number; expe"),
    (rtt, {"processing/behavior/target_pos/data": np.zeros((0, 2))}, "processing/behavior/target_pos/data is empty"),
    # electrodes and units
    (center_out, {"units/electrodes": put(2, 4)}, f"{GROUPS} is a table of 4 electrodes, but units refer to row 4; ex"),
    (center_out, {"units/electrodes": put(2, -1)}, f"{GROUPS} is a table of 4 electrodes, but units refer to row -1"),
    (center_out, {"units/electrodes_index": put(0, 0)}, "units/electrodes of unit 0 is empty; expected one electrode"),
    (center_out, {"units/electrodes_index": None}, "units/electrodes is given for 5 units; expected one row for each o"),
    (center_out, {"units/spike_times_index": put(-1, 99)}, "units/spike_times_index is 4 ends between 30 and 99; expe"),
    (center_out, {"units/spike_times_index": put(0, 70)}, "units/spike_times_index is 4 ends between 60 and 90; expe"),
    (churchland, {GROUPS: ["1"] * 4}, f"{GROUPS} is a table of 4 electrodes, but units refer to row 4; expected a row"),
    (
        maze,
        {name: np.zeros(0, int) for name in ("units/spike_times", "units/spike_times_index", "units/electrodes_index")},
        "units is an empty table; expected at least one unit",
    ),
    # times
    (center_out, {"units/spike_times": put(5, np.nan)}, "units/spike_times[5] is nan; expected finite numbers"),
    (center_out, {f"{CURSOR_POS}/timestamps": put(7, 0.0)}, f"{CURSOR_POS}/timestamps[7] is 0.0 s after 0.06 s; expec"),
    (center_out, {f"{CURSOR_POS}/timestamps": put(7, np.inf)}, f"{CURSOR_POS}/timestamps[7] is inf; expected finite"),
    (
        center_out,
        {f"{POSITION.replace('Position', kind)}/cursor_{kind[:3].lower()}/data": np.zeros((0, 2)) for kind in
         ("Velocity", "Acceleration")} | {f"{CURSOR_POS}/{name}": lambda x: x[:0] for name in ("data", "timestamps")},
        f"{CURSOR_POS}/timestamps is empty; expected one sample at least",
    ),
    (churchland, {CURSOR: put(7, np.nan)}, f"{CURSOR}[7] is nan; expected finite numbers"),
    (churchland, {CURSOR: lambda x: put(7, x[6])(x)}, f"{CURSOR} is 0.695 s twice; expected increasing times"),
    (churchland, {CURSOR: scaled(1.2)}, f"{CURSOR} is samples in 2403 runs without a gap; expected one run for each of"),
    (odoherty, {"t": lambda x: put((0, 9), x[0, 8] + 0.006)(x)}, "t[9] - t[8] is 0.006 s; expected 0.004 s, to 0.0001"),
    (odoherty, {"t": scaled(1.1)}, "t[1] - t[0] is 0.0044 s; expected 0.004 s, to 0.0001 s"),
    (odoherty, {"t": lambda x: x + 1e-5 * (np.arange(7500) % 2)}, "t is spaced unevenly, by 0.50%; expected even sam"),
    (odoherty, {"t": lambda x: x[:, :1]}, "t is of 1 samples; expected two samples at least"),
    (odoherty, {"t": put((0, 9), np.nan)}, "t[0] is"),
    (
        rtt,
        {"processing/behavior/finger_vel/starting_time": WithAttributes(0.002, {"rate": 1000.0})},
        "processing/behavior/finger_vel is sampled at other times; expected the times of the position",
    ),
    (
        rtt,
        {"processing/behavior/finger_pos/starting_time": WithAttributes(0.001, {"rate": -1.0})},
        "processing/behavior/finger_pos/starting_time is 0.001 s with a rate of -1.0 Hz; expected a time in seconds",
    ),
    # trials
    (center_out, {f"{TRIALS}/start_time": put(3, np.nan)}, f"{TRIALS}/start_time[3] is NaN; expected the time of every"),
    (random_target, {f"{TRIALS}/stop_time": put(3, np.nan)}, f"{TRIALS}/stop_time[3] is NaN; expected the time of eve"),
    (churchland, {f"{TRIALS}/stop_time": put(3, np.nan)}, f"{TRIALS}/stop_time[3] is NaN; expected the time of every"),
    (maze, {f"{TRIALS}/start_time": put(0, np.nan)}, f"{TRIALS}/start_time[0] is NaN; expected the time of every trial"),
    (center_out, {f"{TRIALS}/go_cue_time": scaled(np.nan)}, "hold_period: interval 0 ["),
    (center_out, {f"{TRIALS}/result": ["F"] * 24}, f"{TRIALS} is a table with 0 valid of 24 trials; expected 3 valid"),
    (random_target, {f"{TRIALS}/num_attempted": scaled(0)}, f"{TRIALS} is a table with 0 valid of 24 trials; expected"),
    (churchland, {f"{TRIALS}/task_success": scaled(0)}, f"{TRIALS} is a table with 0 valid of 8 trials; expected 1"),
    (maze, {f"{TRIALS}/split": ["val"] * 10}, f"{TRIALS}/split is 'train' for none of 10 trials; expected one at least"),
    (center_out, {f"{TRIALS}/target_on_time": lambda x: x[::-1]}, "trials: interval 0 ["),
    (random_target, {f"{TRIALS}/stop_time": lambda x: x + 9}, "trials: interval 0 [1.0, 13.0) overlaps the next one; cut"),
    (maze, {f"{TRIALS}/stop_time": lambda x: x + 1}, "trials: interval 0 ["),
    (rtt, {f"{TRIALS}/stop_time": lambda x: x + 0.3}, "trials: interval 0 [0.0, 0.9) overlaps the next one; cut"),
    # clocks
    (churchland, {CURSOR: lambda x: np.sort(x)[::-1]}, f"{CURSOR} is in 2403 blocks between resets of the clock; expec"),
    (reset, {CURSOR: np.sort}, f"{CURSOR} is in 1 blocks between resets of the clock; expected 2, as in the trial table"),
    (reset, {CURSOR: lambda x: x - 0.5}, f"{CURSOR} of block 0 is from 0.189 to"),
    (reset, {"units/obs_intervals": scaled(2)}, "units/obs_intervals is unlike the trial table; expected the trials,"),
    (special, {"units/obs_intervals": lambda x: x[:-1]}, "units/obs_intervals is unlike the trial table; expected the"),
    (special, {CURSOR: lambda x: x + 10}, f"{CURSOR} of block 0 is from"),
    (reset, {"units/spike_times": lambda x: x + 99}, "units/spike_times is out of order in all 5 units; expected spi"),
    # cells
    (odoherty, {"chan_names": cell_array((1, 2), {})}, "spikes is given for 3 channels; expected one column for each of"),
    (odoherty, {"spikes": cell_array((3, 3), {})}, "spikes is empty in every cell; expected one unit with spikes at l"),
    (odoherty, {"wf": cell_array((2, 3), {})}, "spikes is cells of shape (3, 3), and wf of (2, 3); expected the same sh"),
    (partial(odoherty, num_sorts=12), {}, "spikes is cells of shape (12, 3), and wf of (12, 3); expected the same shape"),
    (odoherty, {"wf": cell_array((3, 3), {})}, "wf of M1 001/unsorted is of shape (2,) with"),
    (
        partial(odoherty, num_sorts=1, channels=["M1 001"]),
        {"spikes": cell_array((1, 1), {(0, 0): np.array([[1.0, np.nan]])}),
         "wf": cell_array((1, 1), {(0, 0): np.zeros((48, 2))})},
        "spikes is NaN somewhere; expected finite times",
    ),
    (odoherty, {"cursor_pos": scaled(0)}, "cursor_pos is at rest but for pieces of 10 s or less; expected longer move"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "changes", "message"), REFUSED)
def test_unsound_recording_is_refused(tmp_path, build, changes, message):
    constant = all(not callable(change) or change.__qualname__.startswith("cell_array") for change in changes.values())
    path = build(tmp_path, changes=changes) if constant else changed(tmp_path, build, changes)
    assert_refused(path, build, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trials": {k: {"Time": None} for k in range(10)}},
            "Subject(1).Trial(1).Time is missing; expected a field (the",
        ),
        (
            {"trials": {2: {"Time": np.zeros((0, 0))}}},
            "Subject(1).Trial(3).Time is of 0 values, 0 of them NaN; expected",
        ),
        ({"trials": {2: {"Time": np.full((9, 1), np.nan)}}}, "Subject(1).Trial(3).Time is of 9 values, 9 of them NaN"),
        (
            {"trials": {2: {"Time": np.ones((9, 1))}}},
            "Subject(1).Trial(3).Time(2) is 1.0 s after 1.0 s; expected increa",
        ),
        ({"trials": {2: {"Time": "noon"}}}, "Subject(1).Trial(3).Time is of type <U4; expected numbers"),
        ({"trials": {2: {"HandVel": np.zeros((5, 3))}}}, "Subject(1).Trial(3).HandVel is of shape (5, 3); expected"),
        (
            {"trials": {2: {"Neuron": np.ones((4, 1))}}},
            "Subject(1).Trial(3).Neuron is of type float64; expected a struc",
        ),
        (
            {"trials": {2: {"Neuron": np.zeros((0, 0))}}},
            "Trial.Neuron has [0, 4] units in different trials; expected as",
        ),
        ({"num_units": 0}, "Trial.Neuron has [0] units in different trials; expected as many as in Trial(1), at least"),
        (
            {"trials": {0: {"Time": np.arange(5)[:, None], "HandVel": np.zeros((5, 3))}}},
            "Trial.Time: interval 0 [0.0, 4",
        ),
        ({"num_trials": 0}, "Subject(1) has no trials; expected one at least"),
    ],
)
def test_unsound_matlab_structs_are_refused(tmp_path, options, message):
    assert_refused(flint(tmp_path, **options), flint, message)


def test_flint_file_without_subject_or_trials_is_refused(tmp_path):
    from scipy.io import savemat

    for content in ({"Patient": 1.0}, {"Subject": np.zeros((2, 2))}, {"Subject": np.zeros((0, 0))}):
        savemat(tmp_path / "Flint_2012_e1.mat", content)
        message = "is cut off or has no struct array Subject with trials ("
        assert_refused(tmp_path / "Flint_2012_e1.mat", flint, message)


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (
            perich,
            "sub-C_ses-20131003_behavior+ecephys.nwb",
            "the task cannot be told from this name; expected sub-<C|J|M",
        ),
        (perich, "c_CO.nwb", "the task cannot be told from this name"),
        (odoherty, "indy_2016.mat", "subject and date cannot be told from this name; expected indy_YYYYMMDD_NN.mat or"),
        (flint, "Flint_2012.mat", "not a name of this data set; expected Flint_2012_e<1-5>.mat"),
        (
            maze,
            "sub-Jenkins_ses-tiny_desc-train_ecephys.nwb",
            "size and part cannot be told from this name; expected sub-",
        ),
        (rtt, "sub-Indy_ecephys.nwb", "the part cannot be told from this name; expected sub-Indy_desc-<train|test>_"),
    ],
)
def test_file_of_another_name_is_refused(tmp_path, build, name, message):
    assert_refused(build(tmp_path / name), build, message)


# ------------------------------------------------------------------------------------------------------ damage

BUILDERS = list(CONVERTERS)
names = [build.__name__ for build in BUILDERS]


@pytest.mark.parametrize("share", [0.0003, 0.3, 0.999])
@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_file_that_is_cut_off_is_refused(tmp_path, build, share):
    path = build(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RawDataError, match=r"is cut off|cannot be read \(.*; fetch it again") as caught:
        convert(path, build)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>404 not found</html>" * 9, b"MATLAB 5.0 MAT-file" + bytes(500)])
@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_file_of_another_kind_is_refused(tmp_path, build, content):
    path = build(tmp_path)
    path.write_bytes(content)
    with pytest.raises(RawDataError, match=r"is not an HDF5 file|is cut off or has no struct|cannot be read") as caught:
        convert(path, build)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_missing_file_and_folder_are_named(tmp_path, build):
    path = build(tmp_path)
    path.unlink()
    with pytest.raises(
        RawDataError, match=r"does not exist; pass the path of a raw file|cannot be read \(.*No such file"
    ):
        convert(path, build)
    path.mkdir()
    with pytest.raises(RawDataError, match=r"is a folder; pass the path of a raw file|cannot be read"):
        convert(path, build)


def fields_of(path):
    """Every field of an HDF5 file with its first dimension."""
    fields = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: fields.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
        )
    return {name: shape for name, shape in fields.items() if not name.startswith("#refs#")}


@pytest.mark.parametrize(
    "build", [center_out, random_target, special, odoherty, maze, rtt],
    ids=["center_out", "random_target", "churchland", "odoherty", "maze", "rtt"],
)  # fmt: skip
def test_any_field_may_lack_or_hold_text(tmp_path, build):
    """Then the file is refused with its name and the field's, unless the field is of no use."""
    for name, shape in fields_of(build(tmp_path)).items():
        for value in (None, ["text"] * shape[0] if shape else "text", 1.0):
            path = build(tmp_path, changes={name: value})
            try:
                convert(path, build)
            except RawDataError as error:
                assert str(error).startswith(f"{path.name}: ") and name.rpartition("/")[0] in str(error)


def test_reference_to_a_group_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_group("cell")
        file["spikes"] = np.array([[file["cell"].ref]], h5py.ref_dtype)
    with (
        open_raw(tmp_path / "a.mat") as raw,
        pytest.raises(RawDataError, match=r"^a\.mat: spikes is a reference to no"),
    ):
        raw.at(raw.file["spikes"][0, 0], "spikes")
