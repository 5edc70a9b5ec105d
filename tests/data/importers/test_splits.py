"""Default splits divide what was measured; given splits lie in the recording and share no time."""

import numpy as np
import pytest
from example_sessions import make_session
from nwb_files import VELOCITY, samples, trial_columns, write_nwb

from poyo_jax import Session
from poyo_jax.data.importers.splits import SPLITS, ten_blocks
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import RawDataError, SessionError

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def session_of(spikes, times, targets=None):
    targets = np.sin(times) if targets is None else targets
    units = np.zeros(len(spikes), int)
    return Session.from_arrays(spikes, units, ["a"], times, targets, session_id="s")


def spikes_in(*spans):
    rng = np.random.default_rng(0)
    pieces = [rng.uniform(start, end, 20 * int(end - start)) for start, end in spans]
    return np.sort(np.concatenate(pieces))


def times_in(*spans):
    return np.concatenate([np.arange(start, end, 0.02) for start, end in spans])


def missing_in(times, start, end):
    return np.where((times > start) & (times < end), np.nan, np.sin(times))


WHOLE = times_in((0, 300))


@pytest.mark.parametrize(
    ("session", "measured"),
    [
        (session_of(spikes_in((0, 300)), times_in((0, 90))), [(0, 90)]),
        (session_of(spikes_in((100, 200)), WHOLE), [(100, 200)]),
        (
            session_of(spikes_in((0, 60), (900, 960)), times_in((0, 60), (900, 960))),
            [(0, 60), (900, 960)],
        ),
        (session_of(spikes_in((0, 50), (250, 300)), WHOLE), [(0, 50), (250, 300)]),
        (session_of(spikes_in((0, 300)), WHOLE, missing_in(WHOLE, 20, 301)), [(0, 20)]),
        (
            session_of(spikes_in((0, 300)), WHOLE, missing_in(WHOLE, 60, 240)),
            [(0, 60), (240, 300)],
        ),
        (session_of(spikes_in((0, 300)), WHOLE, missing_in(WHOLE, 60, 60.5)), [(0, 300)]),
    ],
)
def test_default_splits_divide_the_measured_time(session, measured):
    measured = Intervals.from_pairs(measured)
    behaviour = session.behaviour("cursor.vel")
    for name, share in SHARES.items():
        split = session.split(name)
        assert split.duration == pytest.approx(share * measured.duration, rel=0.02)
        assert split.subtract(measured.dilate(0.2)).duration == 0
        values = [behaviour.values(*behaviour.range(*pair)) for pair in split]
        finite = np.isfinite(np.concatenate(values)).sum()
        assert finite == pytest.approx(share * measured.duration / 0.02, rel=0.02)


def test_what_was_never_measured_leaves_the_domain_to_be_divided():
    times = np.arange(100) / 10
    for session in (
        session_of(np.array([]), times),
        session_of(spikes_in((0, 10)), times, np.full(100, np.nan)),
        session_of(spikes_in((500, 600)), times),
    ):
        durations = [session.split(name).duration for name in SPLITS]
        assert sum(durations) == pytest.approx(session.domain.duration)


def test_ten_blocks_of_unbroken_time_are_those_of_the_clock():
    edges = np.linspace(0.3, 17.1, 11)
    valid = ten_blocks(Intervals.from_pairs([(0.3, 17.1)]))["valid"]
    assert list(valid) == [(edges[5], edges[6])]


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (
            {"train": [(0, 5)], "valid": [(6, 7)], "test": [(4, 5)]},
            r"(train and test|test and train) share Intervals\(\[4, 5\)",
        ),
        ({"test": [(500, 600)]}, r"test Intervals\(.*lies outside the domain"),
        ({"tset": [(3, 4)]}, "a session has no split 'tset'; pass .* Did you mean 'test'"),
        ({"all": [(3, 4)]}, "no split 'all'"),
        (
            {"train": [(0, 5)], "valid": [(5, 6)], "test": [(7, 8), (70, 80)]},
            r"test has the interval \[70, 80\), but the session lasts from 0 s to 10 s",
        ),
        (
            {"train": [(0, 5)], "valid": [(5, 6)], "test": [(7, 8000)]},
            r"7990 s of the 7993 s of test lie outside the session",
        ),
        ({"test": [(5, 5)]}, "test holds no time"),
    ],
)
def test_with_splits_refuses_what_cannot_be_meant(splits, told):
    session = make_session(domain=[(0, 10)])
    with pytest.raises(SessionError, match=told):
        session.with_splits(**splits)


def test_a_rounding_error_is_no_time_in_common():
    end = 0.1 * 3  # 0.30000000000000004
    session = make_session(domain=[(0, 10)]).with_splits(train=[(0, end)], test=[(0.3, 1)])
    assert not len(session.split("train").intersect(session.split("test")))
    assert session.split("train").duration + session.split("test").duration == 1.0


def test_other_splits_lose_the_time_that_a_split_takes():
    session = make_session(domain=[(0, 10)])  # train, valid and test are blocks of one second
    same = session.with_splits(test=session.split("test"))
    assert [same.split(name) for name in SPLITS] == [session.split(name) for name in SPLITS]
    changed = session.with_splits(test=[(0.5, 5.25)])
    assert list(changed.split("test")) == [(0.5, 5.25)]
    assert list(changed.split("train")) == [(0, 0.5), (6, 7), (7, 8), (9, 10)]
    assert list(changed.split("valid")) == [(5.25, 6)]
    moved = session.with_splits(train=[(0, 4)], valid=[(4, 5)], test=[(5, 10.5)])
    assert list(moved.split("test")) == [(5, 10.5)]
    assert not session.with_splits(test=[]).has_split("test")
    alone = make_session(train=[(0, 5)]).with_splits(test=[(6, 7)])
    assert list(alone.split("train")) == [(0, 5)] and not alone.has_split("valid")


@pytest.mark.parametrize("trials", [0, 10])
def test_invalid_times_are_in_no_split(tmp_path, trials):
    tables = {"invalid_times": {"start_time": [15.0, 16.0], "stop_time": [27.0, 20.0]}}
    if trials:
        tables["trials"] = trial_columns(trials)
    session = Session.from_nwb(write_nwb(tmp_path / "a.nwb", tables=tables), VELOCITY)
    bad = Intervals.from_pairs([(15, 27)])
    for name in (*SPLITS, "all"):
        assert session.split(name).intersect(bad).duration == 0
    assert session.split("train").duration > 5
    assert len(session.table("invalid_times")["start"]) == 2
    velocity = session.behaviour("cursor.vel")
    np.testing.assert_array_equal(velocity.values(0, velocity.count), samples())


def test_a_file_without_valid_time_is_refused(tmp_path):
    tables = {"invalid_times": {"start_time": [-1.0], "stop_time": [99.0]}}
    with pytest.raises(RawDataError, match="invalid_times is all of the time in which the target"):
        Session.from_nwb(write_nwb(tmp_path / "a.nwb", tables=tables), VELOCITY)
