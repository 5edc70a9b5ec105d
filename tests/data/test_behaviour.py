"""Behaviour is cut half open, on time stamps and on regular grids with and without gaps."""

import math

import numpy as np
import pytest
from example_sessions import arrays, make_session
from hypothesis import given
from hypothesis import strategies as st

from poyo_jax.data.behaviour import Behaviour
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.session import Session
from poyo_jax.errors import SessionError


def test_irregular_behaviour_is_cut_half_open():
    behaviour = make_session().behaviour("cursor.vel")
    assert behaviour.count == 1000 and behaviour.num_channels == 2
    assert behaviour.range(0.5, 1.5) == (50, 150)
    assert behaviour.range(0.501, 1.501) == (51, 151)
    assert behaviour.range(-5, 50) == (0, 1000)
    np.testing.assert_array_equal(behaviour.times_at([50, 51]), [0.5, 0.51])
    values = behaviour.values(50, 150)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, arrays()[4][50:150])
    assert (
        repr(behaviour)
        == "Behaviour(cursor.vel: 1000 samples, 2 channels, irregular, Intervals([0, 10); 10 s))"
    )


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True),
    st.sampled_from([0.1, 0.3, 1.0, 5.0]),
)
def test_most_samples_of_an_irregular_series_is_exact(ticks, window_length):
    times = np.sort(ticks) / 10
    behaviour = Behaviour(
        "x.y", np.zeros(len(times)), Intervals.from_pairs([(0, 11)]), timestamps=times
    )
    most = max(np.sum((start <= times) & (times < start + window_length)) for start in times)
    assert behaviour.max_samples(window_length) == most


@given(
    st.sampled_from([1.0, 10.0, 100.0, 249.9999999997, 1000.0]),
    st.floats(0, 1000),
    st.floats(-1, 12),
    st.floats(0, 3),
)
def test_regular_behaviour_is_cut_on_its_grid(sampling_rate, grid_start, offset, length):
    count = int(10 * sampling_rate)
    domain = Intervals.from_pairs([(grid_start, grid_start + 10)])
    behaviour = Behaviour(
        "x.y", np.arange(count), domain, sampling_rate=sampling_rate, grid_start=grid_start
    )
    start, stop = grid_start + offset, grid_start + offset + length
    i0, i1 = behaviour.range(start, stop)
    assert 0 <= i0 <= i1 <= count
    times = behaviour.times_at(np.arange(count))
    tolerance = 2e-9 / sampling_rate + 1e-12 * abs(grid_start)
    assert np.all(times[i0:i1] >= start - tolerance) and np.all(times[i0:i1] < stop + tolerance)
    assert np.all(times[:i0] < start + tolerance) and np.all(times[i1:] >= stop - tolerance)
    assert i1 - i0 <= behaviour.max_samples(length)


def test_grid_positions_a_hair_off_a_sample_are_that_sample():
    domain = Intervals.from_pairs([(100, 110)])
    behaviour = Behaviour("x.y", np.zeros(100), domain, sampling_rate=10.0, grid_start=100.0)
    assert behaviour.range(100.3, 100.3 + 1e-11) == (3, 3)
    assert behaviour.range(100.3 + 1e-11, 101.3 - 1e-11) == (3, 13)
    assert behaviour.range(100.3 + 1e-8, 101.3 - 1e-8) == (4, 13)
    assert behaviour.range(-math.inf, math.inf) == (0, 100)


def test_regular_series_with_gaps_keep_their_grid(shared):
    session = Session.open(shared / "examples/layout_features/temporaldata_0.1.6.h5")
    behaviour = session.behaviour("gappy.v")
    assert len(behaviour.domain) == 2 and behaviour.sampling_rate == 10.0
    tree = read_tree(session.path)
    raw = tree.members["gappy"].column("v")
    assert np.isnan(raw).any()
    np.testing.assert_array_equal(behaviour.values(0, 5), raw[:, None])
    np.testing.assert_allclose(
        behaviour.times_at(np.arange(5)), behaviour.domain.starts[0] + np.arange(5) / 10
    )
    gap_start, gap_stop = behaviour.domain.ends[0], behaviour.domain.starts[1]
    assert np.isnan(behaviour.values(*behaviour.range(gap_start, gap_stop))).all()
    assert behaviour.range(gap_start, gap_stop)[1] > behaviour.range(gap_start, gap_stop)[0]


def test_missing_targets_pass_through():
    args = arrays()
    args[4][3] = np.nan
    assert np.isnan(
        Session.from_arrays(*args, session_id="s").behaviour("cursor.vel").values(3, 4)
    ).all()


def test_unknown_behaviour_lists_what_there_is():
    with pytest.raises(
        SessionError,
        match=r"session s has no behaviour 'cursor.vels'; it has cursor.vel. Did you mean",
    ):
        make_session().behaviour("cursor.vels")


def test_only_numeric_columns_are_behaviour(shared):
    keys = Session.open(shared / "examples/layout_features/temporaldata_0.1.6.h5").behaviour_keys
    assert set(keys) == {"gappy.v", "gappy.k", "lfp.raw"}
