"""Arrays keep their meaning: masks, durations, dates, units, large offsets."""

import datetime
from types import SimpleNamespace

import numpy as np
import pytest
from example_sessions import arrays

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import SessionError


def changed(**changes):
    names = ("spike_times", "spike_units", "unit_ids", "target_times", "targets")
    given = dict(zip(names, arrays(), strict=True)) | changes
    return Session.from_arrays(**given, session_id="s")


def nanoseconds(times):
    return np.round(times * 1e9).astype("timedelta64[ns]")


def test_masked_samples_are_missing_and_masked_times_are_refused():
    times, targets = arrays()[3:]
    mask = np.repeat((times > 2)[:, None] & (times < 3)[:, None], 2, axis=1)
    masked = np.ma.masked_array(np.where(mask, 9999.0, targets), mask)
    for form in (masked, list(masked)):
        values = changed(targets=form).behaviour("cursor.vel").values(0, 1000)
        np.testing.assert_array_equal(np.isnan(values), mask)
    whole = np.ma.masked_array(np.arange(1000), np.arange(1000) < 3)  # integers
    assert np.isnan(changed(targets=whole).behaviour("cursor.vel").values(0, 4)).sum() == 3
    with pytest.raises(SessionError, match=r"spike_times\[3\] is nan"):
        spikes = arrays()[0]
        changed(spike_times=np.ma.masked_array(spikes, np.arange(len(spikes)) == 3))


def test_durations_are_converted_to_seconds():
    spikes, times = arrays()[0], arrays()[3]
    session = changed(
        spike_times=nanoseconds(spikes),
        target_times=[datetime.timedelta(seconds=time) for time in times.tolist()],
        train=np.array([[0, 3000]], "timedelta64[ms]"),
        intervals={"trials": [(np.timedelta64(1, "s"), np.timedelta64(2, "s"))]},
    )
    np.testing.assert_allclose(session.spike_times, spikes, atol=1e-9)
    np.testing.assert_allclose(session.behaviour("cursor.vel").timestamps, times, atol=1e-6)
    assert list(session.split("train")) == [(0, 3)] and list(session.intervals("trials")) == [
        (1, 2)
    ]
    starts = nanoseconds(np.array([0.0, 1.0]))
    assert list(Intervals.from_arrays(starts, starts + np.timedelta64(500, "ms"))) == [
        (0, 0.5),
        (1, 1.5),
    ]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (
            "spike_times",
            np.datetime64("2024-05-06") + nanoseconds(arrays()[0]),
            "spike_times holds dates.*subtract the date of that zero",
        ),
        ("target_times", [datetime.datetime(2024, 5, 6)] * 1000, "target_times holds dates"),
        ("spike_times", arrays()[0].astype("m8[Y]"), "have no length in seconds; pass seconds"),
        ("targets", nanoseconds(arrays()[4]), "targets holds timedelta64; pass plain numbers"),
        ("targets", arrays()[4] * 1j, "it is complex"),
        ("targets", ["left"] * 1000, "it holds text such as 'left'.*Labels of classes cannot"),
        ("targets", arrays()[4] * 1e39, r"targets\[0, 0\] is .*e\+3., beyond what a model"),
        ("targets", np.full(1000, np.inf), r"targets\[0\] is inf, beyond what a model"),
        ("targets", arrays()[4].T, r"has 2 rows but .* one per sample \(targets.T\)"),
        ("target_times", SimpleNamespace(units="ms"), "target_times is a quantity in 'ms'"),
        ("spike_units", arrays()[1].astype(str), "spike_units holds names; pass the position"),
    ],
)
def test_values_that_mean_something_else_are_refused(name, values, told):
    with pytest.raises(SessionError, match=told):
        changed(**{name: values})


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8, -1e10])
def test_large_offsets_keep_what_varies(offset):
    targets = arrays()[4]
    session = changed(targets=offset + targets)
    values = session.behaviour("cursor.vel").values(0, 1000)
    np.testing.assert_array_equal(values, offset + targets)
    test = session.split("test").contains(np.arange(1000) / 100)
    np.testing.assert_allclose(default_readout(session).std, targets[~test].std(axis=0), rtol=1e-3)


def test_integers_stay_exact():
    large = 2**40 + np.arange(1000)
    values = changed(targets=large).behaviour("cursor.vel").values(0, 1000)
    np.testing.assert_array_equal(values[:, 0], large)
    assert values.dtype == np.float64
