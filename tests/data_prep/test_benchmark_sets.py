"""MC_Maze and MC_RTT of the Neural Latents Benchmark, and Flint et al.: series, trials and
splits.
"""

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from converters import column, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_fields import WithAttributes
from raw_files import flint, maze, rtt
from scipy.io import loadmat

from data_prep import flint_slutzky_accurate_2012, nlb_mc_maze, nlb_mc_rtt
from poyo_jax.data.derive import permutation_split

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
BEHAVIOUR = "processing/behavior"


# --- MC_Maze


@few
@given(seeds, st.integers(5, 12))
def test_samples_of_trials_lie_on_a_grid_with_nan_between(seed, num_trials):
    with tempfile.TemporaryDirectory() as folder:
        path = maze(Path(folder), seed=seed, num_trials=num_trials)
        session = nlb_mc_maze.convert(path)
        with h5py.File(path) as file:
            times = file[f"{BEHAVIOUR}/hand_pos/timestamps"][()]
            raw = {
                name: file[f"{BEHAVIOUR}/{name}/data"][()]
                for name in ("hand_pos", "hand_vel", "eye_pos")
            }
    count = round((times[-1] - times[0]) * 1000) + 1
    for name, (group, key) in zip(
        raw, [("hand", "pos"), ("hand", "vel"), ("eye", "pos")], strict=True
    ):
        expected = [[np.nan, np.nan]] * count
        for time, row in zip(times, raw[name], strict=True):
            expected[round((time - times[0]) * 1000)] = row
        np.testing.assert_array_equal(column(session, group, key), expected)
    hand = session.behaviour("hand.vel")
    assert hand.sampling_rate == 1000 and hand.grid_start == times[0]
    measured = np.flatnonzero(~np.isnan(hand.values(0, count)[:, 0]))
    np.testing.assert_allclose(hand.times_at(measured), times, rtol=0, atol=1e-9)
    assert set(session._tree.members) >= {"hand", "eye"} and "cursor" not in session._tree.members


@few
@given(seeds, st.integers(5, 12))
def test_benchmark_trials_and_splits(seed, num_trials):
    with tempfile.TemporaryDirectory() as folder:
        path = maze(Path(folder), seed=seed, num_trials=num_trials)
        session = nlb_mc_maze.convert(path)
        with h5py.File(path) as file:
            trials = {name: values[()] for name, values in file["intervals/trials"].items()}
    start, end = trials["start_time"], trials["stop_time"]
    is_train = trials["split"] == b"train"
    assert column(session, "trials", "train_mask_nwb").tolist() == is_train.tolist()
    assert column(session, "trials", "test_mask_nwb").tolist() == (~is_train).tolist()
    own = np.flatnonzero(is_train)
    num_train = len(own) - round(0.2 * len(own))
    shuffled = own[np.random.default_rng(42).permutation(len(own))]
    parts = {
        "train": shuffled[:num_train],
        "valid": shuffled[num_train:],
        "test": np.flatnonzero(~is_train),
    }
    for name, part in parts.items():
        part = np.sort(part)
        assert pairs(session, f"{name}_domain") == list(zip(start[part], end[part], strict=True))
    onset = trials["move_onset_time"]
    assert column(session, "nlb_eval_intervals", "start").tolist() == (onset - 0.05).tolist()
    assert column(session, "nlb_eval_intervals", "end").tolist() == (onset + 0.65).tolist()


def test_test_part_has_units_spikes_and_trials_only(tmp_path):
    session = nlb_mc_maze.convert(maze(tmp_path, "test"))
    assert session.session_id == "jenkins_maze_test" and session.behaviour_keys == ()
    assert not any(session.has_split(name) for name in ("train", "valid", "test"))
    groups = {"brainset", "session", "device", "domain", "spikes", "units", "trials"}
    assert set(session._tree.members) == groups


@pytest.mark.parametrize("size", ["full", "large", "medium"])
def test_larger_sets_carry_their_size_in_the_name(tmp_path, size):
    session = nlb_mc_maze.convert(maze(tmp_path, size=size))
    assert session.id == f"pei_pandarinath_nlb_2021/jenkins_maze_{size}_train"


# --- MC_RTT


@few
@given(seeds, st.floats(0, 100), st.sampled_from([200.0, 250.0, 1000.0]))
def test_series_with_a_rate_get_time_stamps(seed, start, rate):
    names = ("cursor_pos", "finger_pos", "finger_vel", "target_pos")
    starting = {
        f"{BEHAVIOUR}/{name}/starting_time": WithAttributes(start, {"rate": rate}) for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        path = rtt(Path(folder), seed=seed, changes=starting)
        session = nlb_mc_rtt.convert(path)
        with h5py.File(path) as file:
            raw = {name: file[f"{BEHAVIOUR}/{name}/data"][()] for name in names}
    times = np.array([start + k / rate for k in range(len(raw["cursor_pos"]))])
    for series, keys in {"cursor": ["pos"], "finger": ["pos", "vel"], "target": ["pos"]}.items():
        np.testing.assert_allclose(column(session, series, "timestamps"), times, rtol=1e-12)
        assert pairs(session, f"{series}.domain") == [pytest.approx((times[0], times[-1]))]
        for key in keys:
            np.testing.assert_array_equal(column(session, series, key), raw[f"{series}_{key}"])


def test_series_with_time_stamps_are_read_too(tmp_path):
    changes, times = {}, np.arange(7200) / 1000 + 5
    for name in ("cursor_pos", "finger_pos", "finger_vel", "target_pos"):
        changes |= {
            f"{BEHAVIOUR}/{name}/starting_time": None,
            f"{BEHAVIOUR}/{name}/timestamps": times,
        }
    session = nlb_mc_rtt.convert(rtt(tmp_path, changes=changes))
    np.testing.assert_array_equal(column(session, "finger", "timestamps"), times)


@few
@given(st.integers(4, 40), st.sampled_from([-1e-3, -1e-9, 0.0, 1e-9, 1e-3]))
def test_trials_are_rounded_only_when_noise_makes_them_overlap(num_trials, noise):
    with tempfile.TemporaryDirectory() as folder:
        path = rtt(Path(folder), "test", num_trials=num_trials, noise=noise)
        session = nlb_mc_rtt.convert(path)
        with h5py.File(path) as file:
            start, end = (
                file[f"intervals/trials/{name}"][()] for name in ("start_time", "stop_time")
            )
    if any(later < before for later, before in zip(start[1:], end[:-1], strict=True)):
        start, end = np.round(start, 1), np.round(end, 1)
    assert column(session, "trials", "start").tolist() == start.tolist()
    assert column(session, "trials", "end").tolist() == end.tolist()


# --- Flint


@few
@given(seeds, st.integers(6, 14), st.sets(st.integers(0, 5), max_size=3).map(sorted))
def test_first_recording_of_flint(seed, num_trials, silent):
    with tempfile.TemporaryDirectory() as folder:
        path = flint(Path(folder), seed=seed, num_trials=num_trials, silent=silent)
        session = flint_slutzky_accurate_2012.convert(path)
        trials = loadmat(path)["Subject"][0, 0]["Trial"][:, 0]
    times = [trial["Time"].ravel() for trial in trials]
    spans = [(time.min(), time.max()) for time in times]
    spikes = [[neuron["Spike"].ravel() for neuron in trial["Neuron"][:, 0]] for trial in trials]
    assert (
        pairs(session, "domain")
        == pairs(session, "hand.domain")
        == pairs(session, "trials")
        == spans
    )
    np.testing.assert_array_equal(column(session, "hand", "timestamps"), np.concatenate(times))
    velocity = np.concatenate([trial["HandVel"][:, :2] for trial in trials])
    np.testing.assert_array_equal(column(session, "hand", "vel"), velocity)
    for unit in range(4):
        own = np.concatenate([trial[unit] for trial in spikes])
        np.testing.assert_array_equal(session.spike_times[session.spike_units == unit], own)
    fired = [np.concatenate(trial) for trial in spikes if any(len(unit) for unit in trial)]
    assert pairs(session, "spikes.domain") == [(times.min(), times.max()) for times in fired]
    for name, part in zip(
        ("train", "valid", "test"), permutation_split(num_trials, (0.7, 0.1, 0.2)), strict=True
    ):
        assert pairs(session, f"{name}_domain") == [spans[row] for row in part]
    assert session.unit_ids == ("unit_0", "unit_1", "unit_2", "unit_3")
    assert set(session._tree.group("units").members) == {"id", "unit_number"}
