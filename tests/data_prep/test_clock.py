"""Recordings whose clock was reset: trials, samples and spikes are moved together, or the file or
unit is refused.
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from converters import column
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_clock import PAUSE, Repaired
from raw_files import churchland

from data_prep.churchland_shenoy_neural_2012 import convert
from data_prep.clock import falls, outside, pieces_between, read_clock
from poyo_jax.errors import RawDataError

SPECIAL = {"subject": "Nitschke", "date": "2009-09-10"}
few = settings(max_examples=20, deadline=None)
TIMES = ("start", "end", "target_on_time", "go_cue_time", "move_begins_time", "move_ends_time")


@st.composite
def recordings(draw, min_resets=0, overlap=(0, 7)):
    """Arguments of `churchland`: 0 to 4 resets, perhaps a pair that overlaps, and units that are
    hard to repair.
    """
    overlap = draw(st.integers(*overlap))
    resets = draw(st.integers(min_resets, 4))
    units = st.sets(st.integers(1, 4), max_size=3).map(sorted)
    special = draw(st.booleans()) if not overlap else True
    return {
        "seed": draw(st.integers(0, 2**31)),
        "blocks": (draw(st.integers(8, 10)), *(draw(st.integers(2, 4)) for _ in range(resets))),
        "overlap": overlap,
        "early": draw(units),
        "stray": draw(units),
        **(SPECIAL if special and (overlap or not resets) else {}),
    }


def convert_and_repair(options):
    """The converted session, and what it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = churchland(Path(folder), **options)
        return convert(path), Repaired(path, special="subject" in options)


def spikes_of(session, unit):
    return session.spike_times[session.spike_units == unit]


@few
@given(recordings())
def test_repair_follows_its_description(options):
    session, expected = convert_and_repair(options)
    for name in TIMES:
        np.testing.assert_allclose(
            column(session, "trials", name), expected.columns[name], rtol=0, atol=1e-9
        )
    for series in ("cursor", "hand", "eye"):
        np.testing.assert_allclose(
            column(session, series, "timestamps"), expected.samples, rtol=0, atol=1e-9
        )
    kept = [unit for unit, times in enumerate(expected.units) if times is not None]
    assert session.unit_ids == tuple(f"group_{1 + unit % 2}/elec{unit}" for unit in kept)
    assert column(session, "units", "unit_number").tolist() == list(range(len(kept)))
    for row, unit in enumerate(kept):
        np.testing.assert_allclose(
            spikes_of(session, row), np.sort(expected.units[unit]), rtol=0, atol=1e-9
        )


@few
@given(recordings(min_resets=1))
def test_blocks_follow_each_other_a_minute_apart(options):
    session, expected = convert_and_repair(options)
    start, end = (column(session, "trials", name) for name in ("start", "end"))
    assert (start[1:] >= end[:-1]).all()
    pauses = start[1:] - end[:-1]
    later = np.flatnonzero(np.diff(expected.block_of))
    np.testing.assert_allclose(pauses[later], PAUSE, atol=1e-9)
    assert (np.delete(pauses, later) < 2).all() and len(later) == len(options["blocks"]) - 1


@few
@given(recordings())
def test_trials_keep_their_lengths_and_inner_times(options):
    session, _ = convert_and_repair(options)
    start = column(session, "trials", "start")
    for name, offset in (("target_on_time", 0.02), ("go_cue_time", 0.08), ("move_ends_time", 0.2)):
        np.testing.assert_allclose(column(session, "trials", name) - start, offset, atol=1e-9)
    assert len(start) == sum(options["blocks"])
    lengths = column(session, "trials", "end") - start
    assert (lengths > 0.249).all() and (lengths < 0.4).all()


@few
@given(recordings(overlap=(0, 0)))
def test_samples_and_spikes_stay_in_their_trials(options):
    session, _ = convert_and_repair(options)
    samples, domain = column(session, "cursor", "timestamps"), session.intervals("cursor.domain")
    assert len(domain) == len(session.intervals("trials")) and domain.contains(samples).all()
    assert (np.diff(samples) > 0).all() and len(samples) == np.sum(
        1 + np.round(1000 * (domain.ends - domain.starts))
    )
    inside = session.intervals("trials").dilate(1e-9).contains(session.spike_times)
    assert inside.all() or (len(options["blocks"]) == 1 and options["stray"])


@few
@given(recordings(min_resets=1, overlap=(0, 0)))
def test_units_with_a_spike_outside_are_dropped_and_late_blocks_may_lack(options):
    session, _ = convert_and_repair(options)
    stray = set(options["stray"])
    assert set(session.unit_ids) == {
        f"group_{1 + unit % 2}/elec{unit}" for unit in set(range(5)) - stray
    }
    last = column(session, "trials", "start")[-options["blocks"][-1]]
    for row, unit_id in enumerate(session.unit_ids):
        assert (spikes_of(session, row) >= last).any() == (
            int(unit_id.split("elec")[1]) not in options["early"]
        )


@few
@given(recordings(overlap=(1, 7)))
def test_overlapping_trials_leave_nothing_but_their_neighbours(options):
    session, expected = convert_and_repair(options)
    assert len(session.intervals("trials")) == sum(options["blocks"])
    low, high = expected.skip
    first_block = column(session, "cursor", "timestamps")[
        : sum(time <= expected.new[0][1] for time in expected.samples)
    ]
    assert not ((low <= first_block) & (first_block <= high)).any()


@few
@given(recordings(min_resets=1), st.integers(-10, 10))
def test_repair_does_not_depend_on_where_the_clock_began(options, seconds):
    """All times of the raw file moved by whole seconds (exactly) move all repaired ones by as
    many.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = churchland(Path(folder), **options)
        before = convert(path)
        with h5py.File(path, "a") as file:
            names = [
                f"intervals/trials/{name}" for name in file["intervals/trials"] if "time" in name
            ]
            names += [
                f"processing/behavior/Position/{name}/timestamps"
                for name in ("Cursor", "Hand", "Eye")
            ]
            for name in (*names, "units/spike_times", "units/obs_intervals"):
                if file[name].dtype == np.float64:
                    file[name][...] += seconds
        after = convert(path)
    assert after.unit_ids == before.unit_ids
    np.testing.assert_allclose(after.spike_times, before.spike_times + seconds, atol=1e-9)
    np.testing.assert_allclose(after.domain.starts, before.domain.starts + seconds, atol=1e-9)


# --- single rules


def test_blocks_of_a_clock():
    starts, ends = np.array([1.0, 3.0, 0.5, 2.0, 1.5]), np.array([2.0, 4.0, 1.0, 3.0, 2.5])
    clock, kept, blocks = read_clock(starts, ends, overlapping=False)
    assert clock.starts.tolist() == [1, 0.5, 1.5] and clock.ends.tolist() == [4, 3, 2.5]
    assert (starts + clock.shifts[blocks]).tolist() == [1, 3, 64, 65.5, 126.5]
    assert kept.all() and blocks.tolist() == [0, 0, 1, 1, 2] and clock.skipped is None


def test_first_break_of_a_special_recording_is_no_reset():
    starts, ends = np.array([0.0, 2.0, 2.5, 4.0, 1.0]), np.array([1.0, 3.0, 3.5, 5.0, 2.0])
    clock, kept, blocks = read_clock(starts, ends, overlapping=True)
    assert clock.skipped == (2.0, 3.5) and kept.tolist() == [True, False, False, True, True]
    assert clock.shifts.tolist() == [0, 64] and blocks.tolist() == [0, 0, 1]
    clock, kept, _ = read_clock(starts[:2], ends[:2], overlapping=True)
    assert clock.num_blocks == 1 and clock.skipped is None and kept.all()


@few
@given(st.lists(st.integers(0, 5), max_size=20))
def test_pieces_never_go_back_and_join_again(times):
    times = np.array(times, float)
    pieces = pieces_between(times, falls(times))
    assert all((np.diff(piece) >= 0).all() for piece in pieces)
    assert all(before[-1] > after[0] for before, after in pairwise(pieces))
    np.testing.assert_array_equal(np.concatenate(pieces), times)


@few
@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 20),
)
def test_skipped_span_includes_both_ends_before_the_stop(times, low, high, stop):
    expected = [not (k < stop and low <= time <= high) for k, time in enumerate(times)]
    assert outside(np.array(times, float), (low, high), stop).tolist() == expected
    assert outside(np.array(times, float), None, stop).all()


def test_unit_out_of_order_is_dropped_though_there_is_nothing_to_repair(tmp_path):
    path = churchland(tmp_path)
    with h5py.File(path, "a") as file:
        file["units/spike_times"][:12] = file["units/spike_times"][:12][::-1]
    assert convert(path).unit_ids == tuple(
        f"group_{1 + unit % 2}/elec{unit}" for unit in range(1, 5)
    )


def test_unit_with_more_pieces_than_blocks_is_dropped(tmp_path):
    path = churchland(tmp_path, blocks=(8, 3))
    with h5py.File(path, "a") as file:
        file["units/spike_times"][:6] = file["units/spike_times"][:6][::-1]
    assert convert(path).unit_ids == tuple(
        f"group_{1 + unit % 2}/elec{unit}" for unit in range(1, 5)
    )


def test_pieces_fit_as_many_blocks_in_their_order():
    clock, *_ = read_clock(np.array([1.0, 0.5]), np.array([4.0, 3.0]), overlapping=False)
    early, late = np.array([1.0, 3.0]), np.array([2.0, 4.0])
    assert clock.encloses([]) and clock.encloses([late]) and clock.encloses([late, early])
    assert not clock.encloses([early, late]) and not clock.encloses([early, early, early])
    assert clock.encloses([np.zeros(0), early]) and not clock.encloses([np.array([0.9, 3.0])])


def test_overlapping_trials_at_a_reset_cannot_be_repaired(tmp_path):
    """The last two samples before the reset stay, as in the reference, and lie outside of the
    trials that remain.
    """
    path = churchland(tmp_path, blocks=(8, 3), overlap=8, **SPECIAL)
    with pytest.raises(
        RawDataError, match=r"timestamps of block 0 is from .*; this clock cannot be repaired"
    ):
        convert(path)


def shorter_trials(folder, **options):
    """A recording whose trials end before their last samples."""
    with h5py.File(churchland(folder, **options)) as file:
        ends = file["intervals/trials/stop_time"][()] - 0.002
    return (
        churchland(
            folder,
            **options,
            changes={"intervals/trials/stop_time": ends, "units/obs_intervals": None},
        ),
        ends,
    )


def test_samples_may_leave_the_trials_when_there_is_nothing_to_repair(tmp_path):
    """The bounds of blocks, and where units were observed, matter only in recordings that are
    repaired.
    """
    path, ends = shorter_trials(tmp_path)
    assert convert(path).domain.ends[-1] == pytest.approx(ends[-1] + 0.001 + 1e-4, abs=1e-9)
