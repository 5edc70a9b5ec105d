"""A lab's NWB files are converted with chosen options, also in other processes."""

import pickle
from dataclasses import asdict

import numpy as np
import pytest
from nwb_files import PHASES, VELOCITY, trial_table, write_nwb

from data_prep.nwb import NwbOptions, converter
from poyo_jax import Session
from poyo_jax.errors import ConfigError, RawDataError

OPTIONS = NwbOptions(
    target="cursor_vel", split="blocks", phases=PHASES, max_speed=3.0, brainset_id="lab"
)


def test_converter_is_sent_to_other_processes_with_its_options(tmp_path):
    path = write_nwb(tmp_path / "monday.nwb", tables=trial_table())
    session = pickle.loads(pickle.dumps(converter(OPTIONS)))(path)
    expected = Session.from_nwb(
        path, VELOCITY, split="blocks", phases=PHASES, max_speed=3.0, brainset_id="lab"
    )
    assert session.id == expected.id == "lab/monday"
    np.testing.assert_array_equal(session.spike_times, expected.spike_times)
    for name in ("trials", "movement_phases.reach_period", "cursor_outlier_segments"):
        assert session.intervals(name) == expected.intervals(name)
    for name in ("train", "valid", "test", "all"):
        assert session.split(name) == expected.split(name)


def test_options_are_checked_when_they_are_made():
    assert NwbOptions(**asdict(OPTIONS)) == OPTIONS
    with pytest.raises(ConfigError, match="split is 'days'; choose 'trials' or 'blocks'"):
        NwbOptions(target="cursor_vel", split="days")


def test_converter_refuses_bad_files(tmp_path):
    with pytest.raises(RawDataError, match=r"^monday\.nwb: target hand_vel is missing"):
        converter(NwbOptions(target="hand_vel"))(write_nwb(tmp_path / "monday.nwb"))
