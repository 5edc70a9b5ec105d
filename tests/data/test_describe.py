"""A page says what an NWB file or a session holds, and whether a file is either."""

import sys

import h5py
import numpy as np
import pytest
from nwb_files import PHASES, VELOCITY, samples, trial_table, write_nwb

from poyo_jax.data.describe import describe, validate
from poyo_jax.errors import MissingDependencyError, RawDataError, SessionError


def test_page_of_an_nwb_file(tmp_path):
    path = write_nwb(tmp_path / "monday.nwb", tables=trial_table())
    with h5py.File(path, "a") as file:
        file["general/subject/species"] = "Macaca mulatta"
    assert (
        describe(path)
        == """monday.nwb: NWB file

subject
  Ada  Macaca mulatta

date
  2024-05-06

units
  3 units  120 spikes  from 0.174738 s to 29.8842 s

candidate targets (pass the path of one, or its name)
  processing/behavior/Velocity/cursor_vel  velocity  3000 x 2  100 Hz  29.99 s  cm/s

intervals and their columns
  trials  10 rows  go_cue_time, result, start_time, stop_time"""
    )


def test_page_tells_what_an_nwb_file_lacks(tmp_path):
    path = tmp_path / "monday.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["intervals/epochs/label"] = ["a"]
    page = describe(path)
    assert "subject\n  not given\n\ndate\n  not given\n\nunits\n  none\n\ncandidate targets" in page
    assert page.endswith(
        "name)\n  none\n\nintervals and their columns\n  epochs  no start_time  label"
    )


def test_page_of_a_session(tmp_path, nwb_session):
    session = nwb_session(tables=trial_table(), options={"phases": PHASES, "brainset_id": "lab"})
    session.save(tmp_path / "a.h5")
    page = describe(tmp_path / "a.h5")
    assert page.startswith(
        "a.h5: session lab/monday\n\nsubject\n  ada\n\nunits\n  3 units  120 spikes  from"
        " 0.174738 s"
    )
    assert "domain\n  30 s  1 interval\n\nbehaviour\n  cursor.vel  3000 x 2  100 Hz\n" in page
    assert "  movement_phases.reach_period  10 rows  15 s\n" in page and "  trials" in page
    assert page.endswith("  valid  2 s   1 interval\n  test   4 s   2 intervals")


def test_page_of_reference_sessions(shared):
    for path in sorted((shared / "examples").glob("brainsets_0.2.2/*/*.h5")):
        page = describe(path)
        assert f"/{path.stem}\n" in page and "behaviour\n" in page


def test_rates_are_regular_or_irregular(tmp_path):
    times = np.cumsum(np.arange(400) % 3 + 1.0)
    series = {VELOCITY: {"data": samples(400), "timestamps": times}}
    assert "400 x 2  irregular" in describe(write_nwb(tmp_path / "a.nwb", series=series))


def test_other_files_are_neither(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cursor_pos"] = [1.0]
    message = (
        r"a\.mat is an HDF5 file, but neither NWB .* nor a session .*; it holds cursor_pos\. Use"
        r" Session\.from_arr"
    )
    with pytest.raises(RawDataError, match=message):
        describe(tmp_path / "a.mat")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(RawDataError, match=r"a\.txt is not an HDF5 file"):
        describe(tmp_path / "a.txt")
    with pytest.raises(RawDataError, match="does not exist"):
        describe(tmp_path / "absent.nwb")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["object"] = "Data"
    with pytest.raises(SessionError, match="is not a session: it has no"):
        describe(tmp_path / "a.h5")


def test_validator_lists_what_is_wrong(tmp_path, shared):
    pytest.importorskip("pynwb", reason="validates with pynwb, which is not installed")
    assert validate(next((shared / "examples/raw/sub-C").glob("*CO*.nwb"))) == []
    assert validate(write_nwb(tmp_path / "a.nwb"))
    with pytest.raises(RawDataError, match="does not exist"):
        validate(tmp_path / "absent.nwb")


def test_validator_needs_pynwb(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs pynwb, .*; run: pip install poyo_jax\[data\]"
    ):
        validate(tmp_path / "a.nwb")
