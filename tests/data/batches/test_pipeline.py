"""Batches as functions of their number: the same windows whatever the layout, the devices,
processes and workers.
"""

import pickle
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from model_sessions import bind, simulated

from poyo_jax.config import DataConfig, UnitDropoutConfig
from poyo_jax.data.batches.batching import (
    MAX_SHAPES,
    common_size,
    grow,
    padding_fraction,
    shape_index,
)
from poyo_jax.data.batches.pipeline import FEW_STEPS, EvalBatches, TrainBatches, prefetch
from poyo_jax.data.batches.tokens import cut_window
from poyo_jax.data.batches.windows import sequential_windows
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.types import PADDING, START, Batch, Readout

LONG = FEW_STEPS + 1  # steps of a run that has its smallest shape
CONFIG = DataConfig(
    batch_size=8,
    seed=1,
    unit_dropout=UnitDropoutConfig(min_units=3, mode_units=6, max_units=12),
    chunk_tokens=32,
)
PADDED = replace(CONFIG, layout="padded")


@pytest.fixture(scope="module")
def sources():
    return simulated()[0]


def train(sources, config=CONFIG, num_steps=50, **kwargs):
    return TrainBatches(sources, config, 1.0, num_steps, **kwargs)


def evaluation(sources, config=CONFIG, **kwargs):
    starts = [sequential_windows(source.intervals, 1.0, 0.5) for source in sources]
    return EvalBatches(sources, starts, config, 1.0, **kwargs)


def assert_equal(batch, other):
    for name, ours, theirs in zip(Batch._fields, batch, other, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def shards(batch, count):
    """The parts of a batch that go to each device."""

    def part(array, shard):
        size = len(array) // count
        assert size * count == len(array)
        return array[shard * size : (shard + 1) * size]

    return [
        Batch(*(None if array is None else part(array, shard) for array in batch))
        for shard in range(count)
    ]


def contents(batch, num_shards=1):
    """What a batch says about each window, by its number in the global batch; padding aside."""
    return {
        int(number): window
        for shard in shards(batch, num_shards)
        for number, window in zip(shard.window_ids, windows_in(shard), strict=True)
    }


def windows_in(batch):
    """(session row, tokens as (kind, row of the unit table, time, rest of the time), queries) of
    every window.
    """
    places = range(len(batch.session_rows))
    for place in places:
        rows = (
            [place] if batch.token_windows is None else np.flatnonzero(batch.token_windows == place)
        )
        here = batch.token_kinds[rows] != PADDING
        columns = (
            batch.token_kinds[rows][here],
            batch.unit_rows[batch.token_units[rows][here]],
            batch.token_times[rows][here],
            batch.token_times_low[rows][here],
        )
        used = batch.target_weights[place] > 0
        queries = [
            array[place][used].tolist()
            for array in (batch.query_times, batch.targets, batch.target_weights)
        ]
        yield (
            int(batch.session_rows[place]),
            list(zip(*(column.tolist() for column in columns), strict=True)),
            queries,
        )


def test_training_asks_for_so_many_samples_of_a_window_and_evaluation_for_all(sources):
    thinned = replace(CONFIG, max_queries=7)
    full, thin, every = (
        train(sources)[0],
        train(sources, thinned)[0],
        evaluation(sources, thinned)[0],
    )
    assert (
        thin.query_times.shape == (8, 7)
        and every.query_times.shape[1] == common_size(full.query_times.shape[1]) > 7
    )
    np.testing.assert_array_equal(thin.token_times, full.token_times)
    for few, all_of_them in zip(thin.query_times, full.query_times, strict=True):
        assert np.isin(few, all_of_them).all()


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
def test_a_batch_is_a_function_of_the_step(sources, config):
    batches = train(sources, config)
    steps = [9, 0, 31, 9, 1]
    drawn = [batches[step] for step in steps]
    assert_equal(drawn[0], drawn[3])
    for other in (train(sources, config), pickle.loads(pickle.dumps(batches))):
        for step, batch in sorted(zip(steps, drawn, strict=True), key=lambda item: item[0]):
            assert_equal(other[step], batch)
    assert contents(drawn[1]) != contents(drawn[4])
    assert contents(train(sources, replace(config, seed=2))[0]) != contents(drawn[1])


def test_a_batch_holds_the_windows_of_the_plan_with_units_dropped(sources):
    batches = train(sources)
    for step in (0, 7):
        windows = contents(batches[step])
        assert sorted(windows) == list(range(8))
        rows = {source.session_row: source for source in sources}
        assert batches.sessions_of(step) == sorted(
            {rows[row].session.id for row, *_ in windows.values()}
        )
        for row, tokens, _ in windows.values():
            allowed, alive = (
                set(rows[row].unit_rows.tolist()),
                {unit for kind, unit, *_ in tokens if kind == START},
            )
            assert {unit for _, unit, *_ in tokens} == alive <= allowed
            assert 3 <= len(alive) <= 12
    keeps_all = train(sources, replace(CONFIG, unit_dropout=None))
    for row, tokens, _ in contents(keeps_all[0]).values():
        assert sum(kind == START for kind, *_ in tokens) == len(rows[row].unit_rows)


def test_every_window_drops_units_anew(sources):
    batches, kept = train(sources), set()
    for step in range(5):
        for row, tokens, _ in contents(batches[step]).values():
            kept.add((row, frozenset(unit for kind, unit, *_ in tokens if kind == START)))
    assert len(kept) > 30  # of 40 windows


def test_an_epoch_shows_every_training_second_once(sources):
    batches = train(sources)
    expected = sum(
        int((end - start) // 1.0) for source in sources for start, end in source.intervals
    )
    assert batches.epoch_size == expected
    assert len(batches) == 50


@pytest.mark.parametrize("first", [0, 3, 47])
def test_prefetching_resumes_at_any_step(sources, first):
    batches = train(sources)
    drawn = list(islice(prefetch(batches, first), 3))
    assert len(drawn) == 3
    for step, batch in enumerate(drawn, start=first):
        assert_equal(batch, batches[step])


def test_prefetching_ends_with_the_run(sources):
    batches = train(sources)
    assert len(list(prefetch(batches, 46))) == 4
    assert list(prefetch(batches, 50)) == []


def test_worker_processes_make_the_same_batches(sources):
    batches = train(sources)
    for step, batch in enumerate(islice(prefetch(batches, 2, num_workers=1), 2), start=2):
        assert_equal(batch, batches[step])


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("num_shards", [2, 4])
def test_devices_share_the_same_windows(sources, config, num_shards):
    whole, split = train(sources, config), train(sources, config, num_shards=num_shards)
    for step in range(4):
        batch = split[step]
        assert contents(batch, num_shards) == contents(whole[step])
        for shard in shards(batch, num_shards):
            assert len(shard.window_ids) == 8 // num_shards
            assert shard.token_windows is None or np.all(np.diff(shard.token_windows) >= 0)


def test_devices_get_about_as_many_tokens():
    """Dealing by what sessions are expected to hold leaves less than half of the difference of
    dealing in turn.
    """
    sessions = [
        *simulated(num_sessions=2, num_units=(4, 5))[0],
        *simulated(num_sessions=2, num_units=(80, 90))[0],
    ]
    split, differences = train(sessions, replace(CONFIG, unit_dropout=None), num_shards=2), []
    for step in range(10):
        counts = [int((part.token_kinds != PADDING).sum()) for part in shards(split[step], 2)]
        windows = contents(split[step], 2)
        sizes = [len(windows[number][1]) for number in sorted(windows)]
        differences.append((abs(counts[0] - counts[1]), abs(sum(sizes[1::2]) - sum(sizes[0::2]))))
    ours, in_turn = np.mean(differences, axis=0)
    assert ours < in_turn / 2


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
def test_processes_share_the_same_windows_and_can_take_the_same_shape(sources, config):
    whole = train(sources, config, LONG)
    parts = [
        train(sources, config, LONG, process=process, num_processes=2, num_shards=2)
        for process in range(2)
    ]
    assert parts[0].shapes == parts[1].shapes
    grown = 0
    for step in range(12):
        batches = [part[step] for part in parts]
        indices = [shape_index(batch, 2, parts[0].shapes) for batch in batches]
        largest = [grow(batch, 2, parts[0].shapes[max(indices)]) for batch in batches]
        assert [np.shape(array) for array in largest[0]] == [
            np.shape(array) for array in largest[1]
        ]
        assert contents(largest[0], 2) | contents(largest[1], 2) == contents(whole[step])
        assert not set(contents(largest[0], 2)) & set(contents(largest[1], 2))
        grown += max(indices) < len(parts[0].shapes) - 1
        last = grow(batches[0], 2, parts[0].shapes[-1])
        assert shape_index(last, 2, parts[0].shapes) == len(parts[0].shapes) - 1
        assert contents(last, 2) == contents(batches[0], 2)
    assert grown


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
def test_a_device_sees_the_same_windows_whatever_process_it_belongs_to(sources, config):
    alone = train(sources, config, num_shards=4)
    parts = [
        train(sources, config, process=process, num_processes=2, num_shards=2)
        for process in range(2)
    ]
    for step in range(6):
        expected = [shard.window_ids.tolist() for shard in shards(alone[step], 4)]
        assert expected == [
            shard.window_ids.tolist() for part in parts for shard in shards(part[step], 2)
        ]


@pytest.mark.parametrize("num_shards", [1, 4])
def test_layouts_hold_the_same_tokens(sources, num_shards):
    packed, padded = (train(sources, config, num_shards=num_shards) for config in (CONFIG, PADDED))
    for step in range(3):
        assert contents(packed[step], num_shards) == contents(padded[step], num_shards)


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_run_uses_few_shapes_and_every_batch_fits(sources, config, num_shards):
    batches = train(sources, config, LONG, num_shards=num_shards)
    shapes = {tuple(np.shape(array) for array in batches[step]) for step in range(50)}
    assert len(shapes) <= len(batches.shapes) <= MAX_SHAPES
    keeps_all = train(sources, replace(config, unit_dropout=None), LONG, num_shards=num_shards)
    assert len({keeps_all[step].token_kinds.shape for step in range(50)}) <= MAX_SHAPES


def test_nearly_all_batches_of_a_short_run_have_one_shape(sources):
    short, long = (train(sources, num_steps=steps) for steps in (50, LONG))
    assert long.shapes[1:] == short.shapes
    assert {shape_index(short[step], 1, short.shapes) for step in range(50)} == {0}
    assert 0 in {shape_index(long[step], 1, long.shapes) for step in range(50)}
    assert contents(short[0]) == contents(long[0])


def test_the_last_shape_fits_the_densest_windows():
    """Windows that were not probed may be far denser than those that were."""
    rng = np.random.default_rng(0)
    spikes = np.sort(np.concatenate([rng.uniform(0, 400, 800), rng.uniform(200, 201, 3000)]))
    times = np.arange(0, 400, 0.1)
    session = Session.from_arrays(
        spikes,
        np.zeros(len(spikes)),
        ["u"],
        times,
        np.sin(times),
        session_id="burst",
        train=[(0, 400)],
    )
    sources, *_ = bind([session])
    for config in (CONFIG, PADDED):
        batches = train(sources, replace(config, unit_dropout=None))
        sizes = [int((batches[step].token_kinds != PADDING).sum()) for step in range(50)]
        assert max(sizes) > 1500 and sum(sizes) > 3800


def test_shapes_do_not_hang_on_which_windows_are_looked_at():
    """One session has most of the tokens, and few windows of a seed are read before shapes are
    chosen.
    """
    few = [
        simulate_session(i, session_id=f"few_{i}", num_units=5, duration=40.0) for i in range(15)
    ]
    sources, *_ = bind(
        [*few, simulate_session(15, session_id="many", num_units=200, duration=40.0)]
    )
    config = DataConfig(batch_size=32, chunk_tokens=32, unit_dropout=None)
    found = [train(sources, replace(config, seed=seed)).shapes for seed in range(4)]
    first, second = ([shapes[i].rows for shapes in found] for i in range(2))
    assert max(first) < 1.1 * min(first) and max(second) < 1.1 * min(second), found


def test_shapes_of_many_devices_count_on_dealing():
    """A device gets windows of all sizes, so none is as full as windows dealt by lot would be."""
    made = [
        simulate_session(i, session_id=f"few_{i}", num_units=5, duration=40.0) for i in range(3)
    ]
    sources, *_ = bind([*made, simulate_session(3, session_id="many", num_units=200)])
    config = DataConfig(batch_size=64, chunk_tokens=32, unit_dropout=None)
    batches = train(sources, config, LONG, num_shards=16)
    rows = -(-batches.mean_tokens // 32) * 4  # that a device needs in the mean
    used = [shape_index(batches[step], 16, batches.shapes) for step in range(30)]
    assert set(used) == {0} and batches.shapes[0].rows < 1.7 * rows


def test_packing_pads_little():
    sources, *_ = simulated(num_sessions=4, duration=40.0, num_units=(20, 60))
    shares = {}
    for layout in ("packed", "padded"):
        batches = train(sources, DataConfig(batch_size=64, layout=layout, chunk_tokens=256), LONG)
        shares[layout] = np.mean([padding_fraction(batches[step]) for step in range(4)])
    assert shares["packed"] < 0.35 and shares["packed"] < shares["padded"], shares


def test_padding_fraction_counts_token_places(sources):
    kinds = np.array([[0, 1, PADDING, PADDING], [2, PADDING, PADDING, PADDING]], np.int8)
    assert padding_fraction(train(sources)[0]._replace(token_kinds=kinds)) == 5 / 8


# --- evaluation


@pytest.mark.parametrize("config", [CONFIG, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("num_shards", [1, 4])
def test_evaluation_covers_every_window_once_where_it_says(sources, config, num_shards):
    batches, seen = evaluation(sources, config, num_shards=num_shards), []
    for number in range(len(batches)):
        batch = batches[number]
        parts = shards(batch, num_shards)
        windows = [window for part in parts for window in windows_in(part)]
        assert [np.shape(array) for array in batch] == [np.shape(array) for array in batches[0]]
        places = batches.places(number)
        assert len({place for place, *_ in places}) == len(places)
        for place, session, start in places:
            seen.append((session, start))
            source = sources[session]
            row, tokens, queries = windows[place]
            expected = cut_window(source, start, 1.0)
            assert row == source.session_row
            assert [unit for _, unit, *_ in tokens] == source.unit_rows[
                expected.token_units
            ].tolist()
            assert [time for *_, time, _ in tokens] == expected.token_times.astype(
                np.float32
            ).tolist()
            assert queries[0] == expected.query_times[expected.target_weights > 0].tolist()
        empty = set(range(len(batch.session_rows))) - {place for place, *_ in places}
        assert (
            not batch.session_rows[list(empty)].any()
            and not batch.target_weights[list(empty)].any()
        )
    everything = [
        (session, start)
        for session, starts in enumerate(batches.starts)
        for start in starts.tolist()
    ]
    assert sorted(seen) == sorted(everything) and len(seen) > 3 * 8


def test_evaluation_of_a_few_windows_makes_a_small_batch(sources):
    config = replace(CONFIG, batch_size=64)
    batches = EvalBatches(sources[:1], [np.array([2.0, 3.0, 4.0])], config, 1.0, num_shards=2)
    assert len(batches) == 1 and len(batches[0].session_rows) == 8
    assert sorted(start for *_, start in batches.places(0)) == [2.0, 3.0, 4.0]


def test_evaluations_of_about_the_same_size_have_the_same_shapes(sources):
    config = replace(CONFIG, batch_size=64, chunk_tokens=512)

    def shapes(num_windows: int) -> list[tuple[int, ...]]:
        starts = np.arange(2.0, 2.0 + num_windows / 2, 0.5)
        batch = EvalBatches(sources[:1], [starts], config, 1.0)[0]
        return [array.shape for array in batch if array is not None]

    assert shapes(17) == shapes(20) == shapes(24) != shapes(40)


def test_evaluation_batches_are_prefetched_and_pickled(sources):
    batches = evaluation(sources)
    for number, batch in enumerate(prefetch(pickle.loads(pickle.dumps(batches)))):
        assert_equal(batch, batches[number])
    assert number + 1 == len(batches)


# --- errors


def test_batches_that_devices_cannot_share_are_refused(sources):
    sentence = (
        r"DataConfig\.batch_size is 8, which 6 devices cannot share evenly\. Use 12, or another"
    )
    with pytest.raises(ConfigError, match=sentence):
        train(sources, num_shards=3, num_processes=2)


def test_sessions_with_different_channels_are_refused(sources):
    session = sources[0].session
    readout = Readout(value_key="cursor.vel", mean=(0.0,), std=(1.0,))
    [single], *_ = bind([session], readouts=[readout])
    sentence = (
        rf"differ in their number of channels \({sources[0].session.id}: 2; {session.id}: 1\)\. A"
        r" model decodes"
    )
    with pytest.raises(DataError, match=sentence):
        train([sources[0], single])[0]


def test_training_intervals_without_windows_are_refused(sources):
    short = [replace(sources[0], intervals=Intervals.from_pairs([(1.0, 1.5)]))]
    with pytest.raises(
        DataError, match=r"none of the 1 intervals to draw windows from is as long as a window"
    ):
        train(short, replace(CONFIG, short_intervals="drop"))[0]
    assert len(train(short, replace(CONFIG, batch_size=1))[0].session_rows) == 1


def test_sessions_of_which_nothing_is_learned_are_named(sources, caplog):
    """With intervals that are all shorter than a window, which are dropped."""
    short = replace(sources[0], intervals=Intervals.from_pairs([(1.0, 1.5), (3.0, 3.9)]))
    dropping = train([short, sources[1]], replace(CONFIG, short_intervals="drop"))
    assert set(dropping[0].session_rows) == {sources[1].session_row}
    (record,) = caplog.records
    assert "nothing is learned of 1 session of 2, whose int" in record.getMessage()
    assert short.session.id in record.getMessage()
    train([short, sources[1]])[0]
    assert len(caplog.records) == 1
