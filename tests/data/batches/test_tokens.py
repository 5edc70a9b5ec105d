"""Cutting windows, drawing units, and arranging windows in batches, against naive versions of the
same.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_sessions import bind

from poyo_jax.data.batches.tokens import BatchShape, ModelSession, assemble, cut_window
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node, read_tree
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.types import PADDING, SPIKE, START, STOP, Readout

READOUT = Readout(
    value_key="cursor.vel",
    mean=(1.0, -2.0),
    std=(2.0, 0.5),
    interval_weights=(("reach", 5.0), ("outlier", 0.1)),
)
TRAIN = Intervals.from_pairs([(1000.5, 1004.0), (1005.0, 1009.25)])


def make_session(name="s", num_units=5, num_spikes=400, seed=0, late=1000.0):
    """10 s late in session time, where float32 could not tell spikes apart; behaviour at irregular
    times.
    """
    rng = np.random.default_rng(seed)
    times = late + np.cumsum(rng.uniform(0.005, 0.03, 500))
    targets = rng.normal(size=(500, 2))
    targets[100:110] = np.nan
    targets[200, 1] = np.nan
    return Session.from_arrays(
        late + np.sort(rng.uniform(0, 10, num_spikes)),
        rng.integers(0, num_units, num_spikes),
        range(num_units),
        times,
        targets,
        session_id=name,
        train=TRAIN,
        intervals={"reach": [(1001, 1003), (1006, 1007)], "outlier": [(1002.5, 1003.5)]},
        domain=[(late, late + 10)],
    )


SOURCES, _, _ = bind(
    [make_session(), make_session("t", 3, 60, seed=1)], readouts=[READOUT, READOUT]
)
SOURCE, OTHER = SOURCES
starts = st.floats(999.5, 1009.5) | st.sampled_from(SOURCE.session.spike_times.tolist())
lengths = st.sampled_from([0.25, 1.0, 2.0])
masks = st.none() | st.lists(st.booleans(), min_size=5, max_size=5).map(np.array)


def naive_tokens(session, start, length, kept):
    units = [unit for unit in range(len(session.unit_ids)) if kept is None or kept[unit]]
    tokens = [(START, unit, 0.0) for unit in units] + [(STOP, unit, length) for unit in units]
    for time, unit in zip(session.spike_times.tolist(), session.spike_units.tolist(), strict=True):
        if start <= time < start + length and unit in units:
            tokens.append((SPIKE, unit, time - start))
    return tokens


def tokens_of(window):
    columns = (window.token_kinds, window.token_units, window.token_times)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(starts, lengths, masks)
def test_a_window_holds_the_spikes_of_kept_units_and_their_start_and_stop(start, length, kept):
    window = cut_window(SOURCE, start, length, kept)
    assert sorted(tokens_of(window)) == sorted(naive_tokens(SOURCE.session, start, length, kept))
    assert window.session is SOURCE and window.token_times.dtype == np.float64


@given(starts, lengths)
def test_queries_are_the_samples_of_the_window(start, length):
    session, window = SOURCE.session, cut_window(SOURCE, start, length)
    behaviour = session.behaviour("cursor.vel")
    times, values = behaviour.times_at(np.arange(500)), behaviour.values(0, 500)
    inside = np.flatnonzero((times >= start) & (times < start + length))
    np.testing.assert_array_equal(window.query_times, (times[inside] - start).astype(np.float32))
    measured = np.isfinite(values[inside]).all(axis=1)
    expected = (values[inside] - [1.0, -2.0]) / [2.0, 0.5]
    assert np.isfinite(window.targets).all()
    used = window.target_weights > 0
    np.testing.assert_allclose(window.targets[used], expected[used], rtol=1e-6)
    for time, known, weight in zip(times[inside], measured, window.target_weights, strict=True):
        trained = 1000.5 <= time < 1004.0 or 1005.0 <= time < 1009.25
        reach = 5.0 if 1001 <= time < 1003 or 1006 <= time < 1007 else 1.0
        outlier = 0.1 if 1002.5 <= time < 1003.5 else 1.0
        assert weight == pytest.approx(reach * outlier if trained and known else 0.0, rel=1e-6)


def test_overlapping_interval_weights_multiply():
    weights = cut_window(SOURCE, 1002.0, 1.0).target_weights
    assert set(np.round(weights, 6).tolist()) <= {0.0, 5.0, 0.5} and {5.0, 0.5} <= set(
        np.round(weights, 6).tolist()
    )


@pytest.fixture
def regular(tmp_path):
    """The behaviour on a grid of 100 Hz, over a domain with a gap from 1003 s to 1006 s."""
    make_session().save(tmp_path / "s.h5")
    tree = read_tree(tmp_path / "s.h5")
    values = np.random.default_rng(2).normal(size=(900, 2))
    values[300:600] = np.nan
    domain = Node(
        "Interval", {}, {"start": np.array([1000.0, 1006.0]), "end": np.array([1003.0, 1009.0])}
    )
    tree.members["cursor"] = Node(
        "RegularTimeSeries", {"sampling_rate": 100.0}, {"vel": values, "domain": domain}
    )
    [source], _, _ = bind([Session(tree)], split="all", readouts=[READOUT])
    return source, values


@pytest.mark.parametrize("start", [1000.0, 1001.505, 1002.5, 1004.0, 999.5, 1008.5])
def test_queries_of_regular_behaviour_lie_on_its_grid(regular, start):
    source, values = regular
    window = cut_window(source, start, 1.0)
    samples = [i for i in range(900) if start - 1e-9 <= 1000 + i / 100 < start + 1.0 - 1e-9]
    np.testing.assert_allclose(
        window.query_times, [1000 + i / 100 - start for i in samples], atol=1e-6
    )
    measured = np.isfinite(values[samples, 0])
    np.testing.assert_array_equal(window.target_weights > 0, measured)
    expected = (values[samples] - [1.0, -2.0]) / [2.0, 0.5]
    np.testing.assert_allclose(window.targets[measured], expected[measured], rtol=1e-5, atol=1e-6)
    assert not window.targets[~measured].any()


def test_windows_beyond_the_data_have_no_spike_and_no_query():
    window = cut_window(SOURCE, 5000.0, 1.0)
    assert len(window.query_times) == 0 and window.targets.shape == (0, 2)
    assert window.token_kinds.tolist() == 5 * [START] + 5 * [STOP]


# --- batches


def make_shape(packed, **changes):
    """A shape that has room to spare for WINDOWS, but for the changes."""
    sizes = {"windows": 4, "units": 16, "rows": 40, "tokens": 16, "queries": 150, "channels": 2}
    if not packed:
        sizes |= {"rows": 4, "tokens": MOST + 5}
    return BatchShape(**(sizes | changes), packed=packed)


def tokens_in_batch(batch, place):
    """Tokens of the window at a place, in order: (kind, row of the unit table, time)."""
    rows = [place] if batch.token_windows is None else np.flatnonzero(batch.token_windows == place)
    found = []
    for row in rows:
        here = batch.token_kinds[row] != PADDING
        assert np.all(here[:-1] >= here[1:])  # tokens come first in their row
        assert not here.any() or batch.token_offsets[row] == len(found)
        units = batch.unit_rows[batch.token_units[row, here]]
        times = batch.token_times[row, here].astype(np.float64) + batch.token_times_low[row, here]
        found += zip(
            batch.token_kinds[row, here].tolist(), units.tolist(), times.tolist(), strict=True
        )
    return found


KEPT = np.array([True, False, True, True, False])
WINDOWS = [
    cut_window(SOURCE, 1000.75, 1.0, KEPT),
    cut_window(OTHER, 1002.0, 1.0),
    cut_window(SOURCE, 1003.3, 1.0),
    cut_window(SOURCE, 1007.0, 1.0, np.zeros(5, bool)),
]
MOST = max(len(window.token_kinds) for window in WINDOWS)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("spare", [0, 2])
def test_a_batch_holds_the_tokens_and_queries_of_its_windows(packed, spare):
    shape = make_shape(packed, windows=4 + spare, rows=40 if packed else 4 + spare)
    batch = assemble(WINDOWS, [7, 3, 9, 1], shape)
    assert batch.window_ids[:4].tolist() == [7, 3, 9, 1] and batch.window_ids.dtype == np.uint32
    for place, window in enumerate(WINDOWS):
        found, count = tokens_in_batch(batch, place), len(window.query_times)
        rows = window.session.unit_rows
        assert [(kind, row) for kind, row, _ in found] == [
            (kind, rows[unit]) for kind, unit, _ in tokens_of(window)
        ]
        np.testing.assert_allclose(
            [time for *_, time in found], window.token_times, rtol=0, atol=1e-14
        )
        assert batch.session_rows[place] == window.session.session_row
        np.testing.assert_array_equal(batch.query_times[place, :count], window.query_times)
        np.testing.assert_array_equal(batch.targets[place, :count], window.targets)
        np.testing.assert_array_equal(batch.target_weights[place, :count], window.target_weights)
        assert not batch.target_weights[place, count:].any()
    assert not batch.target_weights[4:].any() and not batch.session_rows[4:].any()
    assert (batch.token_kinds != PADDING).sum() == sum(
        len(window.token_kinds) for window in WINDOWS
    )
    if packed:
        assert np.all(np.diff(batch.token_windows) >= 0)
        assert batch.token_kinds.shape == (shape.rows, shape.tokens)


def test_units_of_a_session_stand_once_in_a_batch_and_padding_first():
    batch = assemble(WINDOWS, range(4), make_shape(packed=True))
    assert batch.unit_rows.tolist() == [0, *SOURCE.unit_rows, *OTHER.unit_rows, *7 * [0]]
    assert not batch.token_units[batch.token_kinds == PADDING].any()


def test_a_chunk_holds_tokens_of_one_window_only():
    batch = assemble(WINDOWS, range(4), make_shape(packed=True))
    needed = [max(1, math.ceil(len(window.token_kinds) / 16)) for window in WINDOWS]
    used = np.bincount(batch.token_windows[: sum(needed)], minlength=4)
    assert used.tolist() == needed
    assert np.all(batch.token_kinds[sum(needed) :] == PADDING)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_windows_that_do_not_fit_are_refused(packed):
    sentence = (
        r"do not fit BatchShape\(.*\); the shape must be made from the same sessions as the"
        r" windows\."
    )
    small = {"rows": 3} if packed else {"tokens": MOST - 1}
    for change, what in ((small, "tokens"), ({"units": 8}, "9 units"), ({"queries": 5}, "samples")):
        with pytest.raises(DataError, match=f"{what} {sentence}"):
            assemble(WINDOWS, range(4), make_shape(packed, **change))


def test_sessions_are_bound_to_rows_of_the_vocabularies():
    sources, units, names = bind(
        [make_session(), make_session("t", 3)], readouts=[READOUT, READOUT]
    )
    assert [source.session_row for source in sources] == [1, 2]
    assert sources[1].unit_rows.tolist() == [6, 7, 8] and sources[0].intervals == TRAIN
    again = ModelSession.build(sources[1].session, READOUT, units, names, TRAIN)
    assert again.unit_rows.tolist() == [6, 7, 8] and again.session_row == 2
