"""The study of chunks and its decoder, with tiny sessions and models."""

import importlib
import json

import jax
import numpy as np
import pytest

from experiments.studies.chunk_decoder import (
    CHUNK,
    Recording,
    draw_batch,
    draw_starts,
    padded,
)
from experiments.studies.chunk_model import (
    ChunkModel,
    Chunks,
    Queries,
    first_states,
    make_update,
)
from experiments.studies.table2 import contiguous
from poyo_jax import open_sessions
from poyo_jax.baselines import BASELINES, WienerSearch
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import DataError

NUM_UNITS, NUM_CHUNKS = 7, 6


@pytest.fixture
def recording(tiny_data):
    (session,) = open_sessions(tiny_data, ["session_2"])
    return Recording.read(contiguous(session))


@pytest.fixture
def model():
    chunk_decoder = importlib.import_module("experiments.studies.chunk_decoder")
    return ChunkModel(chunk_decoder.model_config(2), NUM_UNITS, width=16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_chunks(rng):
    shape = (2, NUM_CHUNKS, 8)
    units = rng.integers(NUM_UNITS, size=shape).astype(np.int32)
    times = rng.uniform(0, CHUNK, shape).astype(np.float32)
    return Chunks(units, times, rng.random(shape) < 0.7)


def test_a_stream_decodes_what_whole_sequences_do(model, rng):
    chunks = random_chunks(rng)
    places = np.tile(np.arange(NUM_CHUNKS, dtype=np.int32), (2, 1))
    times = rng.uniform(0, CHUNK, places.shape).astype(np.float32)
    queries = Queries(places, times)
    params = jax.jit(model.init)(jax.random.key(0), chunks, queries)["params"]
    whole = jax.jit(model.apply)({"params": params}, chunks, queries)
    assert np.ptp(whole, axis=1).min() > 1e-3  # the values depend on the spikes
    update = make_update(model, params)
    for sequence in range(2):
        states = first_states(model)
        for chunk in range(NUM_CHUNKS):
            one = (slice(sequence, sequence + 1), slice(chunk, chunk + 1))
            states, values = update(states, Chunks(*(x[one] for x in chunks)), times[one][0])
            np.testing.assert_allclose(values[0], whole[sequence, chunk], atol=2e-5)


def test_no_spike_after_its_chunk_reaches_a_sample(model, rng):
    chunks = random_chunks(rng)
    queries = Queries(np.full((2, 1), 3, np.int32), np.full((2, 1), 0.01, np.float32))
    params = jax.jit(model.init)(jax.random.key(0), chunks, queries)["params"]
    apply = jax.jit(model.apply)

    def decode(chunks):
        return apply({"params": params}, chunks, queries)

    before = decode(chunks)
    later = chunks._replace(mask=chunks.mask & (np.arange(NUM_CHUNKS) <= 3)[:, None])
    np.testing.assert_array_equal(decode(later), before)
    earlier = chunks._replace(mask=chunks.mask & (np.arange(NUM_CHUNKS) > 0)[:, None])
    assert np.abs(decode(earlier) - before).max() > 1e-6  # the state is kept


def test_chunks_hold_the_spikes_of_their_time(recording):
    session = recording.session
    starts = session.domain.starts[0] + np.array([[0.5, 0.55], [1.0, 1.05]])
    kept = [np.arange(len(session.unit_ids)) % 2 == place for place in (0, 1)]
    chunks = recording.chunks(starts, kept)
    assert chunks.units.shape[-1] == padded(int(chunks.mask.sum(-1).max()))
    for place, start in np.ndenumerate(starts):
        times, units = session.spikes_between(start, start + CHUNK)
        wanted = kept[place[0]][units]
        mask = chunks.mask[place]
        np.testing.assert_array_equal(chunks.units[place][mask], units[wanted])
        np.testing.assert_allclose(chunks.times[place][mask], times[wanted] - start, atol=1e-6)


def test_samples_of_a_batch_lie_in_their_sequence_and_in_training(recording, rng):
    batch = draw_batch(recording, 4, rng)
    train = recording.session.split("train")
    known = np.flatnonzero(train.contains(recording.samples.times))
    for sequence in range(4):
        used = batch.weights[sequence] > 0
        assert used.any()
        assert (batch.queries.times[sequence][used] < CHUNK).all()
        of = [
            np.abs(recording.targets[known] - target).max(axis=1).min()
            for target in batch.targets[sequence][used]
        ]
        assert max(of) < 1e-6
    begins = draw_starts(train, 4, np.random.default_rng(0))  # the first that a batch draws
    at = begins[:, None] + batch.queries.chunks * CHUNK + batch.queries.times
    places = np.abs(at[..., None] - recording.samples.times).argmin(axis=-1)
    used = batch.weights > 0
    np.testing.assert_allclose(recording.samples.times[places][used], at[used], atol=1e-5)
    np.testing.assert_allclose(batch.targets[used], recording.targets[places][used], rtol=1e-6)


def test_sequences_lie_in_intervals_by_their_length(rng):
    train = Intervals.from_pairs([(0, 3), (10, 15), (20, 33)])
    starts = draw_starts(train, 5000, rng)
    in_short, in_long = (starts >= 10) & (starts <= 11), (starts >= 20) & (starts <= 29)
    assert (in_short | in_long).all()
    assert in_short.mean() == pytest.approx(0.1, abs=0.02)
    with pytest.raises(DataError, match="longer than a sequence of 4 s"):
        draw_starts(Intervals.from_pairs([(0, 3)]), 2, rng)


def test_the_study_scores_and_times_decoders(
    small_models, monkeypatch, tiny_data, tmp_path, capsys
):
    monkeypatch.setitem(BASELINES, "wiener", WienerSearch(bin_sizes=(0.06,)))
    module = importlib.import_module("experiments.studies.chunks")
    arguments = [tiny_data, "--sessions", "session_2", "--workdir", tmp_path]
    module.main([str(word) for word in [*arguments, "--num-steps", 4, "--num-timed", 20]])
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    found = {cell["row"]: cell for cell in map(json.loads, lines)}
    assert set(found) == set(module.ROWS)
    assert all(np.isfinite(cell["r2"]) for cell in found.values())
    shown = capsys.readouterr().out
    gap = found["chunks"]["r2"] - found["poyo"]["r2"]
    assert f"{gap:+.3f}" in shown
    median, largest = found["chunks"]["poyo_ms"]
    assert 0 < median <= largest
    assert f"{median:.2f} | {largest:.2f}" in shown
