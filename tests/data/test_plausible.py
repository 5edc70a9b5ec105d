"""Times in another unit, clocks without a common zero, and labels are told at every door."""

import logging
import re

import numpy as np
import pytest
from nwb_files import VELOCITY, samples, write_nwb

from data_prep.check import check_session
from poyo_jax import Session
from poyo_jax.data.plausible import find_doubts
from poyo_jax.errors import ConfigError

RNG = np.random.default_rng(0)
SPIKES = np.sort(RNG.uniform(0, 60, 2400))
UNITS = RNG.integers(0, 6, 2400)
TIMES = np.arange(6000) / 100
TARGETS = np.stack([np.sin(TIMES), np.cos(TIMES)], axis=1)


def made(spikes=SPIKES, times=TIMES, targets=TARGETS, **options):
    ids = list("abcdef")
    return Session.from_arrays(spikes, UNITS, ids, times, targets, session_id="s", **options)


def sentence(session):
    (doubt,) = find_doubts(session)
    return doubt


def test_a_sound_session_raises_no_doubt():
    assert find_doubts(made()) == []
    few = Session.from_arrays([2.0, 9000.0], [0, 0], ["a"], [1.0], [0.0], session_id="s")
    assert find_doubts(few) == []  # too little to judge
    assert find_doubts(made(targets=np.zeros((6000, 2)))) == []
    late = made(SPIKES + 30, TIMES)  # half of it overlaps
    assert find_doubts(late) == []


@pytest.mark.parametrize(
    ("spikes", "times", "told"),
    [
        (1e3, 1e3, "are these milliseconds.*time_unit='ms'"),
        (3e4, 3e4, "are these sample indices.*time_unit='samples' and sampling_rate"),
        (1e6, 1e6, "are these microseconds.*time_unit='us'"),
        (1e9, 1e9, "are these nanoseconds.*divide them by 1e9"),
        (1e3, 1, "span 59[0-9]+.* but cursor.vel 59.99 s with 100 Hz: are the spike times millis"),
        (2.5e4, 1, "are the spike times sample indices.*together with target_time_unit='s'"),
        (1e6, 1, "are the spike times microseconds"),
        (1, 1e3, "are the times of cursor.vel milliseconds.*target_time_unit='ms'"),
        (1, 3e4, "are the times of cursor.vel sample indices"),
        (1, 100, "are the times of cursor.vel sample numbers.*Divide"),
        (1 / 60, 1 / 60, "are these minutes or hours"),
        (1e-3, 1e-3, "divided once too often"),
    ],
)
def test_times_in_another_unit_are_named(spikes, times, told, caplog):
    session = made(np.round(SPIKES * spikes, 6), np.round(TIMES * times, 6))
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    np.testing.assert_equal(caplog.records[0].message, f"session s: {sentence(session)}")
    assert re.search(told, sentence(session))


def test_clocks_without_a_common_zero_are_told():
    told = sentence(made(times=TIMES + 500))
    assert "from 500 s to 559.99 s, share no time: do they count from the same zero" in told
    assert "share only 1.9" in sentence(made(times=TIMES + 58))


def test_every_door_asks(tmp_path, caplog):
    session = made(SPIKES * 1000, TIMES * 1000)
    session.check()
    assert [record.message for record in caplog.records] == [f"session s: {sentence(session)}"] * 2
    assert sentence(session) in check_session(session).warnings
    session.save(tmp_path / "a.h5")
    assert "milliseconds" in sentence(Session.open(tmp_path / "a.h5"))


@pytest.mark.parametrize(
    ("factor", "rate", "told", "options"),
    [
        (1e3, 100.0, "are the spike times milliseconds", {"time_unit": "ms"}),
        (
            3e4,
            100.0,
            "are the spike times sample indices",
            {"time_unit": "samples", "sampling_rate": 3e4},
        ),
        (1, 0.01, "is the rate a period? Its inverse, 100 Hz, would fit", None),
    ],
)
def test_nwb_files_in_other_units_are_told_and_converted(tmp_path, factor, rate, told, options):
    units = [np.round(SPIKES[unit == UNITS] * factor, 6) for unit in range(6)]
    series = {VELOCITY: {"data": samples(6000), "start": 0.0, "rate": rate}}
    path = write_nwb(tmp_path / "a.nwb", units=units, series=series)
    assert told in sentence(Session.from_nwb(path, VELOCITY))
    if options:
        converted = Session.from_nwb(path, VELOCITY, **options)
        np.testing.assert_allclose(converted.spike_times, SPIKES, atol=1e-5)
        assert find_doubts(converted) == []


def test_time_units_convert_all_times():
    pairs = {"train": [(0, 30_000)], "test": [(40_000, 60_000)], "domain": [(0, 60_000)]}
    trials = {"trials": [(1000, 2500)]}
    session = made(SPIKES * 1000, TIMES * 1000, time_unit="ms", intervals=trials, **pairs)
    np.testing.assert_allclose(session.spike_times, SPIKES)
    np.testing.assert_allclose(session.behaviour("cursor.vel").timestamps, TIMES)
    assert list(session.split("test")) == [(40, 60)] and list(session.domain) == [(0, 60)]
    assert list(session.intervals("trials")) == [(1, 2.5)]
    mixed = made(SPIKES * 3e4, time_unit="samples", target_time_unit="s", sampling_rate=3e4)
    np.testing.assert_allclose(mixed.spike_times, SPIKES)
    np.testing.assert_array_equal(mixed.behaviour("cursor.vel").timestamps, TIMES)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"time_unit": "msec"}, "time_unit is 'msec'; choose 's', 'ms', 'us', 'samples'"),
        ({"time_unit": "sample"}, "Did you mean 'samples'"),
        ({"time_unit": "samples"}, "sampling_rate is None; pass the rate of the recording in Hz"),
        ({"time_unit": "samples", "sampling_rate": 0.0}, "but sampling_rate is 0.0; pass"),
        ({"sampling_rate": 3e4}, "sampling_rate is 30000.0, but times are in 's'; pass time_unit"),
    ],
)
def test_units_that_cannot_be_used_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        made(**options)


def test_values_that_count_as_missing_are_told():
    session = made()
    values = TARGETS.copy()
    values[:3] = 1e300, np.inf
    session._tree.group("cursor").members["vel"] = values
    session = Session(session._tree)
    assert "6 of 12000 values of cursor.vel are infinite or beyond 3.4e+38" in sentence(session)
    assert np.isnan(session.behaviour("cursor.vel").values(0, 4)).tolist() == [[True] * 2] * 3 + [
        [False] * 2
    ]


def test_labels_of_classes_are_told():
    labels = TIMES // 3 % 8
    told = sentence(made(targets=labels, target_key="target.direction"))
    assert "target.direction has only the whole numbers 0 to 7" in told
    assert "kind='classes'" in told
    assert find_doubts(made(targets=np.round(TARGETS * 1000))) == []


def test_a_behaviour_that_is_added_is_doubted_alone(caplog):
    fast = made(np.round(SPIKES * 1e3, 6), np.round(TIMES * 1e3, 6))
    for session in (made(), fast):
        caplog.clear()
        session.with_behaviour("emg.x", session.behaviour("cursor.vel").timestamps, np.ones(6000))
        assert not caplog.records
    made().with_behaviour("emg.x", TIMES * 1e3, np.ones(6000))
    (record,) = caplog.records
    assert "are the times of emg.x milliseconds" in record.getMessage()
