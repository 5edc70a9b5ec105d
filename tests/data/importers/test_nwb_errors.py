"""NWB files and options that cannot become a session are refused with what is wrong and what to
do.
"""

import h5py
import numpy as np
import pytest
from nwb_files import PHASES, TIMES, VELOCITY, samples, trial_columns, trial_table, write_nwb

from poyo_jax import Session
from poyo_jax.data.importers.nwb_series import candidate_targets
from poyo_jax.errors import ConfigError, DataError, RawDataError


def one(data, timestamps=None, **fields):
    """The contents of a file whose velocity has these fields."""
    return {"series": {VELOCITY: {"data": data, "timestamps": timestamps, **fields}}}


FIELDS = {"data": samples(), "timestamps": TIMES}
TWICE = {"series": {"acquisition/a/x": FIELDS, "acquisition/b/x": FIELDS}}


@pytest.mark.parametrize(
    ("message", "contents"),
    [
        ("units is missing; expected a table of units with spike_times; sort", {"units": []}),
        ("there is no behaviour series under processing or acquisition; .* Add it", {"series": {}}),
        (
            (
                r"data is an array of shape \(2, 4, 5\); expected shape \(samples,\) or \(samples,"
                r" channels\); choose"
            ),
            one(np.zeros((2, 4, 5)), [0.0, 1.0]),
        ),
        (r"data is an array of shape \(2, 0\); expected", one(np.zeros((2, 0)), [0.0, 1.0])),
        ("data is 1 sample long; expected two samples at least; choose", one([[1.0, 2.0]], [0.0])),
        ("data is of type object; expected numbers", one(["a", "b"], [0.0, 1.0])),
        (
            "timestamps is 3 times; expected one for each of the 2 samples",
            one(samples(2), [0.0, 1.0, 2.0]),
        ),
        (
            (
                r"timestamps\[3\] is 0.3 s after 0.3 s \(the first of 2 such rows\); expected times"
                r" that increase; write"
            ),
            one(samples(5), [0.0, 0.1, 0.3, 0.3, 0.2]),
        ),
        (r"timestamps\[1\] is nan; expected finite numbers", one(samples(2), [0.0, np.nan])),
        (
            "timestamps is missing, as is starting_time; expected one of them; choose",
            one(samples(2)),
        ),
        (
            "starting_time is 0.0 s with a rate of 0 Hz; expected a time and a positive rate",
            one(samples(2), start=0.0),
        ),
        (
            "attribute conversion is nan; expected a finite number",
            one(samples(2), [0.0, 1.0], conversion=np.nan),
        ),
        ("intervals/trials/start_time is missing", {"tables": {"trials": {"stop_time": [1.0]}}}),
        (
            "intervals/trials/stop_time is of type object; expected numbers",
            {"tables": trial_table(stop_time=["1"] * 10)},
        ),
    ],
)
def test_bad_files_are_refused_in_a_sentence(nwb_session, message, contents):
    with pytest.raises(RawDataError, match=rf"^monday\.nwb: .*{message}"):
        nwb_session(**contents)


@pytest.mark.parametrize(
    ("message", "target", "contents"),
    [
        (
            (
                r"cursor_vell is missing; pass one of .*cursor_vel \(3000, 2\)\. Did you mean"
                r" 'cursor_vel'"
            ),
            "cursor_vell",
            {},
        ),
        (f"is missing; pass one of .* Did you mean '{VELOCITY}'", "processing/cursor_vel", {}),
        (
            "target processing/behavior is no behaviour series; pass one of",
            "processing/behavior",
            {},
        ),
        ("target  is missing; pass one of", "/", {}),
        (
            r"x is the name of 2 series; pass one of acquisition/a/x \(3000, 2\); acquisition/b/x",
            "x",
            TWICE,
        ),
    ],
)
def test_targets_that_are_not_one_series_are_refused_with_a_list(
    nwb_session, message, target, contents
):
    with pytest.raises(RawDataError, match=rf"^monday\.nwb: .*{message}"):
        nwb_session(target, **contents)


@pytest.mark.parametrize(
    ("message", "bounds"),
    [
        (
            "trials/go_cue, .*, is missing; choose among .*start, end. Did you mean 'go_cue_time'",
            ("go_cue", "stop_time"),
        ),
        (
            "trials/result, a bound of phase reach, is not one number per trial",
            ("result", "stop_time"),
        ),
        (
            "phase reach between stop_time and go_cue_time holds no time in any trial; swap",
            ("stop_time", "go_cue_time"),
        ),
    ],
)
def test_phases_that_the_trials_do_not_have_are_refused(nwb_session, message, bounds):
    with pytest.raises(RawDataError, match=rf"^monday\.nwb: .*{message}"):
        nwb_session(tables=trial_table(), options={"phases": {"reach": bounds}})


def test_phases_need_trials(nwb_session):
    message = (
        r"monday\.nwb: .*go_cue_time, a bound of phase reach_period, is missing; .* a trial table,"
        r" which the file lacks"
    )
    with pytest.raises(RawDataError, match=message):
        nwb_session(options={"phases": PHASES})


@pytest.mark.parametrize(
    ("message", "tables"),
    [
        (
            (
                "intervals/trials has 0 trials with behaviour; splitting by trials needs 6 at"
                " least.*pass split='blocks'"
            ),
            {},
        ),
        ("has 5 trials with behaviour", {"trials": trial_columns(5)}),
        (
            "split is 'train' for 9 trials with behaviour and 'val' for 0",
            trial_table(split=["train"] * 9 + ["val"]),
        ),
        ("leave no time to train on; pass split='blocks'", {"trials": trial_columns(6, 0.1, 0.2)}),
    ],
)
def test_splits_that_cannot_be_made_are_refused(nwb_session, message, tables):
    count = 120 if "no time" in message else 2700  # the last of ten trials begins where these end
    with pytest.raises(DataError, match=rf"^monday\.nwb: .*{message}"):
        nwb_session(
            options={"split": "trials"}, tables=tables, **one(samples(count), TIMES[:count])
        )


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("split is 'trial'; choose 'trials' or 'blocks'", {"split": "trial"}),
        ("max_speed is 0.0; pass a positive number", {"max_speed": 0.0}),
        ("max_acceleration is nan; pass a positive", {"max_acceleration": float("nan")}),
        (
            "a phase is called 'reach.period'; choose a name such as",
            {"phases": {"reach.period": ("a", "b")}},
        ),
        (f"target {VELOCITY} is a velocity already", {"derive_velocity": True}),
    ],
)
def test_options_are_checked_before_the_file_is_read(message, options):
    with pytest.raises(ConfigError, match=message):
        Session.from_nwb("absent.nwb", VELOCITY, **options)


def test_limits_need_a_movement(nwb_session):
    series = {"acquisition/force": {"data": samples(), "timestamps": TIMES}}
    with pytest.raises(
        ConfigError, match="need a position or a velocity, but acquisition/force is not called so"
    ):
        nwb_session("force", {"max_speed": 1.0}, series=series)


def test_units_need_spikes(tmp_path):
    path = write_nwb(tmp_path / "monday.nwb")
    with h5py.File(path, "a") as file:
        del file["units/spike_times"]
    with pytest.raises(
        RawDataError, match=r"^monday\.nwb: units is without spike_times; expected a table of units"
    ):
        Session.from_nwb(path, VELOCITY)


def test_a_series_that_cannot_be_used_is_not_called_missing(nwb_session):
    contents = one(samples(2), np.zeros((2, 2)))
    for target in (VELOCITY, "cursor_vel"):
        with pytest.raises(
            RawDataError, match=r"cursor_vel/timestamps is an array of shape \(2, 2"
        ):
            nwb_session(target, **contents)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = write_nwb(tmp_path / "monday.nwb")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RawDataError, match=r"monday\.nwb is cut off .*copy or download it again"):
        Session.from_nwb(path, VELOCITY)
    path.write_text("no HDF5")
    with pytest.raises(RawDataError, match=r"monday\.nwb is not an HDF5 file"):
        Session.from_nwb(path, VELOCITY)
    with pytest.raises(RawDataError, match=r"absent\.nwb does not exist; pass"):
        candidate_targets(tmp_path / "absent.nwb")
