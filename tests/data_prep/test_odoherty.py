"""Self-paced reaches of O'Doherty et al.: pauses, blocks, splits, and units in cells."""

import tempfile
from itertools import pairwise
from pathlib import Path

import h5py
import literal_intervals as literal
import numpy as np
import pytest
from converters import column, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import odoherty

from data_prep.odoherty_sabes_nonhuman_2017 import convert

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


@st.composite
def pauses(draw):
    """Five or fewer spans, (start, length) in seconds, some shorter than ten, some with less than
    ten between them.
    """
    numbers = draw(st.sets(st.integers(0, 13), max_size=5))
    return [
        (15.0 * number + 3, draw(st.sampled_from([3.0, 9.5, 12.0, 25.0])))
        for number in sorted(numbers)
    ]


def convert_and_read(**options):
    with tempfile.TemporaryDirectory() as folder:
        path = odoherty(Path(folder), **options)
        with h5py.File(path) as file:
            return convert(path), file["t"][0], file["cursor_pos"][()].T


def assert_close(found, expected):
    np.testing.assert_allclose(
        np.reshape(found, (-1, 2)), np.reshape(expected, (-1, 2)), rtol=0, atol=1e-9
    )


def slow_and_long(times, position):
    """The domain, and where the cursor rests for more than ten seconds."""
    rate = 1 / np.median(np.diff(times))
    domain = (times[0], times[0] + len(times) / rate)
    speed = np.hypot(*np.gradient(position, times, axis=0).T)
    grid = [times[0] + k / rate for k in range(len(times))]
    return domain, [
        (start, end) for start, end in literal.marked(grid, speed < 10) if end - start > 10
    ]


def literal_splits(domain, still):
    moving = [domain]
    if still:
        moving = [
            (start, end) for start, end in literal.subtract([domain], still) if end - start > 10
        ]
    edges = np.linspace(moving[0][0], moving[-1][1], 11)
    blocks = list(pairwise(edges.tolist()))
    if not still:
        return {
            "train": [blocks[k] for k in (0, 2, 3, 4, 5, 6, 7, 9)],
            "valid": [blocks[1]],
            "test": [blocks[8]],
        }
    table = np.zeros((10, 2))
    for k, (start, end) in enumerate(blocks):
        covered = sum(max(0.0, min(end, high) - max(start, low)) for low, high in moving)
        table[k] = k, covered / (end - start)
    np.random.default_rng(42).shuffle(table)
    order = table[table[:, 1].argsort(kind="stable"), 0].astype(int).tolist()
    rows = {"train": order[:8], "valid": order[8:9], "test": order[9:]}
    return {
        name: [
            (start, end)
            for start, end in literal.subtract([blocks[k] for k in sorted(part)], still)
            if end - start > 10
        ]
        for name, part in rows.items()
    }


@few
@given(seeds, pauses(), st.sampled_from([180.0, 240.0]))
def test_pauses_and_splits_follow_their_description(seed, spans, seconds):
    session, times, position = convert_and_read(seed=seed, pauses=spans, seconds=seconds)
    domain, still = slow_and_long(times, position)
    assert (
        pairs(session, "domain")
        == pairs(session, "cursor.domain")
        == [pytest.approx(domain, abs=1e-9)]
    )
    assert_close(pairs(session, "no_movement_segments"), still)
    for name, expected in literal_splits(domain, still).items():
        assert_close(pairs(session, f"{name}_domain"), expected)


@few
@given(seeds, pauses())
def test_splits_are_disjoint_and_without_pauses(seed, spans):
    session, *_ = convert_and_read(seed=seed, pauses=spans, seconds=240.0)
    still = session.intervals("no_movement_segments")
    splits = [session.intervals(f"{name}_domain") for name in ("train", "valid", "test")]
    for split in splits:
        assert not len(split.intersect(still)) and (split.ends - split.starts > 10).all()
        for other in splits:
            assert other is split or split.intersect(other).duration == pytest.approx(0, abs=1e-9)
    assert len(splits[2]) >= 1 and (not len(still) or (still.ends - still.starts > 10).all())


def test_short_pauses_do_not_count(tmp_path):
    session = convert(odoherty(tmp_path, seconds=120, pauses=[(20, 9.5), (60, 9.0)]))
    assert pairs(session, "no_movement_segments") == []
    lengths = [len(pairs(session, f"{name}_domain")) for name in ("train", "valid", "test")]
    assert lengths == [8, 1, 1] and pairs(session, "valid_domain")[0] == pytest.approx((22, 34))


def test_block_of_most_movement_is_the_test():
    """The cursor rests for 12 s at the beginning of every 30 s but the last."""
    session, *_ = convert_and_read(seconds=300.0, pauses=[(30.0 * k, 12.0) for k in range(9)])
    first, last = 10 + 12, 10 + 300
    assert pairs(session, "test_domain") == [
        pytest.approx((last - (last - first) / 10, last), abs=0.1)
    ]
    assert len(pairs(session, "no_movement_segments")) == 9


@few
@given(
    seeds,
    st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=8).map(sorted),
    st.booleans(),
)
def test_units_are_the_cells_that_are_not_empty(seed, empty, waveforms):
    channels = ("M1 001", "S1 033", "solo")
    with tempfile.TemporaryDirectory() as folder:
        path = odoherty(Path(folder), seed=seed, empty=empty, channels=channels, seconds=3.0)
        session = convert(path, waveforms=waveforms)
        with h5py.File(path) as file:
            cells = [(j, i) for j in range(3) for i in range(3) if (j, i) not in empty]
            spikes = [file[file["spikes"][cell]][0] for cell in cells]
            waves = [file[file["wf"][cell]][()].T for cell in cells]
    names = [f"{channels[i]}/{'unsorted' if j == 0 else f'sorted_0{j}'}" for j, i in cells]
    assert session.unit_ids == tuple(names)
    assert column(session, "units", "area_name").tolist() == [
        channels[i].split()[0] for _, i in cells
    ]
    assert column(session, "units", "channel_number").tolist() == [
        channels[i].split()[-1] for _, i in cells
    ]
    assert column(session, "units", "channel_name").tolist() == [channels[i] for _, i in cells]
    assert column(session, "units", "unit_number").tolist() == [j for j, _ in cells]
    assert column(session, "units", "count").tolist() == [len(times) for times in spikes]
    np.testing.assert_allclose(
        column(session, "units", "average_waveform"), [wave.mean(axis=0) for wave in waves]
    )
    assert ("waveforms" in session._tree.group("spikes").members) == waveforms
    for unit, (times, wave) in enumerate(zip(spikes, waves, strict=True)):
        own = session.spike_units == unit
        np.testing.assert_array_equal(session.spike_times[own], times)
        if waveforms:
            np.testing.assert_array_equal(column(session, "spikes", "waveforms")[own], wave)
    assert (np.diff(session.spike_times) >= 0).all()
    assert pairs(session, "spikes.domain") == [(session.spike_times[0], session.spike_times[-1])]


@pytest.mark.parametrize("rows", [3, 6])
def test_finger_has_an_orientation_where_it_was_recorded(tmp_path, rows):
    path = odoherty(tmp_path, name="loco_20170302_02", finger_rows=rows)
    session = convert(path)
    with h5py.File(path) as file:
        finger, times = file["finger_pos"][()].T, file["t"][0]
    expected = {"pos_3d": finger[:, :3], "vel_3d": np.gradient(finger[:, :3], times, axis=0)}
    if rows == 6:
        expected |= {
            "orientation": finger[:, 3:],
            "angular_vel": np.gradient(finger[:, 3:], times, axis=0),
        }
    found = session._tree.group("finger")
    assert set(found.members) == {"domain", *expected}
    for name, values in expected.items():
        np.testing.assert_array_equal(found.column(name), values)
    assert (session.subject_id, session.id) == (
        "loco",
        "odoherty_sabes_nonhuman_2017/loco_20170302_02",
    )


def test_velocity_and_acceleration_follow_from_the_raw_times():
    session, times, position = convert_and_read()
    velocity = np.gradient(position, times, axis=0)
    np.testing.assert_array_equal(column(session, "cursor", "vel"), velocity)
    np.testing.assert_array_equal(
        column(session, "cursor", "acc"), np.gradient(velocity, times, axis=0)
    )
    assert session.behaviour("cursor.vel").sampling_rate == pytest.approx(250)
