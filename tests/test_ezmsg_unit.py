"""The unit of ezmsg, alone and in a real pipeline."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from native_models import random_model, random_spikes

from poyo_jax import StreamDecoder, native
from poyo_jax.config import ModelConfig
from poyo_jax.errors import DataError, MissingDependencyError

ez = pytest.importorskip(
    "ezmsg.core", reason="the unit is tested with ezmsg: pip install poyo_jax[realtime]"
)
from ezmsg.util.messages.axisarray import AxisArray  # noqa: E402
from ezmsg.util.terminate import TerminateOnTotal, TerminateOnTotalSettings  # noqa: E402

from poyo_jax.ezmsg_unit import (  # noqa: E402
    DecoderSettings,
    PacedDecoder,
    PoyoDecoder,
    as_axis_array,
    read_message,
)

HOP, BIN = 0.125, 0.025
CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=2, num_latents=4, latent_step=0.25
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("rig") / "it.poyo"
    StreamDecoder(*random_model(CONFIG), hop=HOP, queries=(0.0, 0.25)).save(path)
    try:
        native.load(path)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return path


def chunks() -> list[AxisArray]:
    """Two seconds of counts in bins of 25 ms, from 5 s on, in messages of two bins."""
    times, units = random_spikes(CONFIG, 400)
    counts = np.zeros((80, 20), int)
    np.add.at(counts, ((times * 2 / BIN).astype(int).clip(0, 79), units), 1)
    messages = []
    for first in range(0, 80, 2):
        axis = AxisArray.TimeAxis(fs=1 / BIN, offset=5.0 + first * BIN)
        data = counts[first : first + 2]
        messages.append(AxisArray(data, dims=["time", "ch"], axes={"time": axis}))
    return messages


def expected(path) -> list[np.ndarray]:
    """Values of the updates at 5.125, 5.25, ... 7 s."""
    rig, messages = native.load(path), chunks()
    spikes = [read_message(message)[:2] for message in messages]
    times, units = (np.concatenate(part) for part in zip(*spikes, strict=True))
    values = []
    for now in np.arange(5.125, 7.01, HOP):
        rig.push(
            times[(times >= now - HOP) & (times < now)], units[(times >= now - HOP) & (times < now)]
        )
        values.append(rig.predict(now).values)
    return values


def test_counts_become_values_in_a_pipeline(path):
    class Source(ez.Unit):
        OUTPUT = ez.OutputStream(AxisArray)

        @ez.publisher(OUTPUT)
        async def send(self):
            for message in chunks():
                yield self.OUTPUT, message
                await asyncio.sleep(0.001)

    class Sink(ez.Unit):
        INPUT = ez.InputStream(AxisArray)
        OUTPUT = ez.OutputStream(AxisArray)

        @ez.subscriber(INPUT)
        @ez.publisher(OUTPUT)
        async def keep(self, message: AxisArray):
            got.append(message)
            yield self.OUTPUT, message

    got: list[AxisArray] = []
    parts = {
        "source": Source(),
        "decoder": PoyoDecoder(DecoderSettings(path=str(path))),
        "sink": Sink(),
        "end": TerminateOnTotal(TerminateOnTotalSettings(total=17)),
    }
    edges = (
        (parts["source"].OUTPUT, parts["decoder"].INPUT),
        (parts["decoder"].OUTPUT, parts["sink"].INPUT),
        (parts["sink"].OUTPUT, parts["end"].INPUT_MESSAGE),
    )
    ez.run(**parts, connections=edges, force_single_process=True)
    values = expected(path)
    assert len(values) == 16
    moments = [message.axes["time"].offset for message in got]
    # The first message reaches 5.05 s, so the update at 5 s comes first, without a spike.
    np.testing.assert_allclose(moments, 5.0 + HOP * np.arange(17))
    for message, value in zip(got[1:], values, strict=True):
        assert message.dims == ["time", "query", "ch"] and message.attrs["dropped"] == 0
        np.testing.assert_allclose(message.data[0], value, rtol=1e-5, atol=1e-5)
    assert got[0].axes["query"].data.tolist() == [0.0, 0.25]


def test_events_and_sparse_counts_are_read():
    event = SimpleNamespace(offset=3.5, ch_idx=7, sub_idx=2, value=1)
    times, units, present = read_message(event)
    assert (times.tolist(), units.tolist(), present) == ([3.5], [7], 3.5)
    noise = SimpleNamespace(offset=3.5, ch_idx=7, sub_idx=6, value=1)
    assert read_message(noise)[1].tolist() == [-1]

    class Sparse:  # as of the package sparse
        coords, data, ndim, shape = np.array([[0, 3], [2, 1]]), np.array([1, 2]), 2, (4, 5)

        def __len__(self):
            return 4

    axis = AxisArray.TimeAxis(fs=100.0, offset=1.0)
    message = AxisArray(Sparse(), dims=["time", "ch"], axes={"time": axis})
    times, units, present = read_message(message)
    np.testing.assert_allclose(times, [1.0, 1.03, 1.03])
    assert units.tolist() == [2, 1, 1] and present == pytest.approx(1.04)
    with pytest.raises(DataError, match="send an AxisArray with the dimensions time and units"):
        read_message(AxisArray(np.zeros((2, 3)), dims=["ch", "time"]))
    with pytest.raises(DataError, match="the message is 5;"):
        read_message(5)


def test_after_a_gap_it_goes_on(path):
    paced = PacedDecoder(native.load(path))
    nothing = np.zeros(0)
    assert len(paced.take(nothing, nothing, 5.0)) == 1
    assert len(paced.take(nothing, nothing, 5.3)) == 2
    assert not paced.take(np.array([np.nan]), np.array([0]), np.nan)
    assert not paced.take(np.array([1.0]), np.array([0]), 1.0)  # time that runs backwards
    assert paced.stream.state.counts.dropped == 2
    [(now, decoded)] = paced.take(nothing, nothing, 5000.0)
    assert now == 5000.0
    message = as_axis_array(now, decoded, paced.stream)
    assert message.data.shape == (1, 2, 2) and message.axes["time"].gain == HOP


def test_a_clock_that_is_set_back_begins_anew(path, caplog):
    paced = PacedDecoder(native.load(path))
    nothing = np.zeros(0)
    assert len(paced.take(np.array([3599.9]), np.array([0]), 3600.0)) == 1
    [(now, decoded)] = paced.take(np.array([0.01]), np.array([0]), 0.02)
    assert now == 0.0 and decoded.counts.received == 1 and decoded.num_waiting == 1
    assert len(paced.take(nothing, nothing, 0.3)) == 2
    [record] = caplog.records
    assert "reaches 0.020 s, but the next update is due at 3600.125 s" in record.getMessage()
