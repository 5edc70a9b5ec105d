"""Recordings whose electrodes stand in another order are found by their rates."""

import json

import numpy as np
import pytest

from experiments.studies.electrodes import NUM_ELECTRODES, in_one_order, main, turned, turned_round
from poyo_jax import Session

IDS = [f"ch{electrode:03d}/rank0" for electrode in range(1, NUM_ELECTRODES + 1)]
SECONDS = 20.0


def recording(name: str, unit_ids=IDS) -> Session:
    """A session in which the neurons of electrodes 1 to 96 have rates and tuning of their own."""
    rng = np.random.default_rng(0)
    rates, tuning = rng.uniform(1, 60, len(unit_ids)), rng.standard_normal((2, len(unit_ids)))
    rng = np.random.default_rng(int(name[-2:]))
    times = np.arange(0, SECONDS, 0.05)
    velocity = np.stack([np.sin(times), np.cos(1.7 * times)], axis=1)
    counts = rng.poisson(rates * np.exp(0.5 * velocity @ tuning) * 0.05)
    rows, units = np.nonzero(counts)
    repeats = counts[rows, units]
    spike_times = np.repeat(times[rows], repeats) + rng.uniform(0, 0.05, repeats.sum())
    order = np.argsort(spike_times)
    return Session.from_arrays(
        spike_times[order],
        np.repeat(units, repeats)[order],
        list(unit_ids),
        target_times=times + 0.025,
        targets=velocity,
        session_id=name,
        brainset_id="monkey",
    )


@pytest.fixture
def days():
    """Three days, on the second of which the connector was turned round; in any order of names."""
    behind_turned = [IDS[turned(electrode + 1) - 1] for electrode in range(NUM_ELECTRODES)]
    ids = {"indy_20161001_01": IDS, "indy_20161002_02": behind_turned, "indy_20161003_03": IDS}
    return {name: recording(name, ids[name]) for name in sorted(ids, reverse=True)}


def test_a_turned_connector_swaps_electrodes_in_pairs():
    assert [turned(electrode) for electrode in (1, 2, 3, 95, 96)] == [95, 96, 93, 1, 2]
    assert [turned(turned(electrode)) for electrode in range(1, 97)] == list(range(1, 97))


def test_the_recording_of_another_order_alone_is_turned(days):
    ordered = in_one_order(days)
    assert list(ordered) == list(days)
    for name, session in days.items():
        assert (ordered[name] is session) == (name != "indy_20161002_02")
    mended, file = ordered["indy_20161002_02"], days["indy_20161002_02"]
    assert mended.id == file.id and list(mended.unit_ids) == IDS
    np.testing.assert_array_equal(mended.spike_times[:], file.spike_times[:])
    np.testing.assert_array_equal(mended.spike_units[:], file.spike_units[:])
    for name in ("train", "valid", "test"):
        assert mended.split(name) == file.split(name)


def test_names_of_the_original_files_are_turned_too():
    """So `data_prep` names units: array, electrode, and unit of the sorting."""
    names = [f"M1 {electrode:03d}/sorted_02" for electrode in range(1, NUM_ELECTRODES + 1)]
    other = turned_round(recording("indy_20161001_01", names))
    assert other.unit_ids[0] == "M1 095/sorted_02" and other.unit_ids[95] == "M1 002/sorted_02"
    assert turned_round(other).unit_ids == tuple(names)


def test_units_that_do_not_name_electrodes_stay():
    session = recording("indy_20161001_01", [str(place) for place in range(NUM_ELECTRODES)])
    assert turned_round(session) is session
    assert in_one_order({"a": session, "b": session}) == {"a": session, "b": session}


def test_the_table_shows_the_turned_day(days, tmp_path, capsys):
    for name, session in days.items():
        session.save(tmp_path / f"{name}.h5")
    mended = tmp_path / "mended"
    main([str(tmp_path), "--workdir", str(tmp_path / "work"), "--mended", str(mended)])
    files = [mended / f"{name}.h5" for name in sorted(days)]
    assert [Session.open(file).unit_ids == tuple(IDS) for file in files] == [True] * 3
    cells = json.loads((tmp_path / "work" / "electrodes.json").read_text())
    assert [cell["session"] for cell in cells] == ["indy_20161002_02", "indy_20161003_03"]
    for cell, turned_day in zip(cells, (True, False), strict=True):
        for as_it_is, other_way in (cell["rates"], cell["tuning"]):
            assert (other_way > as_it_is + 0.3) == turned_day
            assert (as_it_is > other_way + 0.3) != turned_day
    assert "| indy_20161003_03 |" in capsys.readouterr().out
