"""The native back end computes what `WindowDecoder` computes, for any sizes of the model."""

from dataclasses import replace

import numpy as np
import pytest
from native_models import OUTPUTS, model_of_two_outputs, random_model, random_spikes

from poyo_jax import StreamDecoder, WindowDecoder, native
from poyo_jax.config import ModelConfig
from poyo_jax.decoding.rig_file import file_content
from poyo_jax.errors import ConfigError, DataError, PoyoError
from poyo_jax.native import NativeEngine
from poyo_jax.presets import PRESETS
from poyo_jax.realtime import Engine

STD = np.array([2.0, 0.5])
SMALL = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=1, num_latents=4, latent_step=0.25
)
CHANGES: dict[str, dict] = {
    "narrow heads": {"head_dim": 8, "dim": 24, "self_heads": 3, "depth": 2},
    "odd sizes": {"head_dim": 24, "dim": 20, "cross_heads": 3, "num_latents": 3, "self_heads": 2},
    "few latents": {"head_dim": 40, "num_latents": 5, "latent_step": 0.5, "dim": 7},
    "long window": {"window_length": 1.5, "head_dim": 64, "num_latents": 9},
    "frequencies": {"frequencies": (60_000.0, 2_000.0, 80.0, 3.0)},
}


def engines(config: ModelConfig, **settings):
    pretrained, session = random_model(config)
    source = pretrained.source(session, session.domain)
    content = file_content(pretrained, source, source.outputs[0], 0.05, (0.0,))
    return WindowDecoder(pretrained, session), content


def decode(engine: NativeEngine, times, units, queries) -> np.ndarray:
    """Values, of spikes that come in three parts."""
    state, count = engine.begin(), len(times)
    for first, last in ((0, count // 3), (count // 3, count // 2)):
        state = engine.add(state, times[first:last], units[first:last])
    return engine.decode(state, times[count // 2 :], units[count // 2 :], queries)[1]


def errors(values, expected) -> float:
    return float(np.abs((values - expected) / STD).max())


@pytest.mark.parametrize("case", CHANGES)
def test_random_models_of_any_size(case, compiler):
    config = replace(SMALL, **CHANGES[case])
    decoder, content = engines(config)
    queries = np.random.default_rng(1).uniform(0, config.window_length, 19)
    for count in (0, 1, 100):
        times, units = random_spikes(config, count)
        expected = decoder(times, units, queries)
        for instructions in ("portable", None):
            values = []
            for threads in (1, 2, 3):
                engine = NativeEngine(content, threads=threads, instructions=instructions)
                values.append(decode(engine, times, units, queries))
                assert errors(values[-1], expected) < 1e-6
            assert np.array_equal(values[0], values[1]) and np.array_equal(values[0], values[2])
        # Computed without instructions for it where the CPU has none.
        engine = NativeEngine(content, threads=2, bfloat16=True, instructions="portable")
        assert 1e-6 < errors(decode(engine, times, units, queries), expected) < 5e-3


@pytest.mark.parametrize(("name", "std"), [("hand", (2.0, 0.5)), ("muscles", (2.0, 0.5, 1.0))])
def test_each_of_several_outputs(name, std, compiler, tmp_path):
    pretrained, session = model_of_two_outputs(SMALL)
    times, units = random_spikes(SMALL, 100)
    expected = WindowDecoder(pretrained, session, output=name)(times, units, [1.0])
    stream = StreamDecoder(pretrained, session, output=name, back_end="native")
    stream.save(tmp_path / "rig.poyo")
    for decoder in (stream, native.load(tmp_path / "rig.poyo")):
        decoder.push(*sorted_by_time(times, units))
        np.testing.assert_allclose(decoder.predict(1.0).values / std, expected / std, atol=1e-6)


def test_a_stream_on_jax_takes_a_native_engine_of_its_output_alone(compiler):
    pretrained, session = model_of_two_outputs(SMALL)
    stream = StreamDecoder(pretrained, session, output="hand")

    def native_engine(output: str) -> Engine:
        return StreamDecoder(pretrained, session, output=output, back_end="native").engine

    with pytest.raises(DataError, match="has other channels: 2 before, 3 now"):
        stream.swap(native_engine("muscles"))
    stream.swap(native_engine("hand"))
    stream.push(*random_spikes(SMALL, 100))
    assert stream.predict(1.0).values.shape == (1, 2)


def sorted_by_time(times, units) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(times)
    return times[order], units[order]


def test_an_output_that_it_does_not_compute():
    pretrained, session = model_of_two_outputs(SMALL)
    tasks = (OUTPUTS[0], replace(OUTPUTS[1], task="poyo_jax.tasks:Gaussian"))
    model = replace(pretrained.config.model, outputs=tasks)
    other = replace(pretrained, config=replace(pretrained.config, model=model))
    with pytest.raises(ConfigError, match=r"the task 'poyo_jax.tasks:Regression' alone"):
        StreamDecoder(other, session, output="muscles", back_end="native")


def sizes_of_presets() -> dict[ModelConfig, str]:
    """The models of all presets that differ in more than dropout and depth."""
    same = {"residual_dropout": 0.0, "feedforward_dropout": 0.0, "attention_dropout": 0.0}
    return {replace(make().model, depth=1, **same): name for name, make in PRESETS.items()}


@pytest.mark.parametrize("config", sizes_of_presets(), ids=sizes_of_presets().values())
def test_models_of_all_presets(config, compiler):
    decoder, content = engines(config)
    times, units = random_spikes(config, 150)
    queries = np.linspace(0, config.window_length, 9)
    engine = NativeEngine(content, threads=2)
    assert errors(decode(engine, times, units, queries), decoder(times, units, queries)) < 1e-6


@pytest.fixture(scope="module")
def engine(compiler):
    _, content = engines(SMALL)
    return NativeEngine(content)


def test_the_order_of_spikes_does_not_matter(engine):
    times, units = random_spikes(SMALL, 300)
    order = np.random.default_rng(0).permutation(300)
    queries = np.array([0.5])
    one, other = (decode(engine, times[o], units[o], queries) for o in (np.arange(300), order))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_states_are_independent(engine):
    times, units = random_spikes(SMALL, 50)
    queries = np.array([0.5])
    state = engine.add(engine.begin(), times, units)
    kept = engine.copy(state)
    nothing = np.zeros(0)
    once = engine.decode(state, times, units, queries)[1]
    engine.decode(engine.begin(), nothing, nothing, queries)
    assert np.array_equal(engine.decode(kept, times, units, queries)[1], once)


@pytest.mark.unchecked
def test_wrong_arguments_are_refused(engine):
    state, one = engine.begin(), np.array([0.5])
    for time, unit, text in (
        (-0.1, 0, "a spike lies outside of the window"),
        (1.1, 0, "a spike lies outside of the window"),
        (np.nan, 0, "a spike lies outside of the window"),
        (0.5, -1, "a unit that the session does not have"),
        (0.5, 20, "a unit that the session does not have"),
    ):
        with pytest.raises(PoyoError, match=text):
            engine.add(state, np.array([time]), np.array([unit]))
    with pytest.raises(PoyoError, match="a query lies outside of the window"):
        engine.decode(state, one, np.array([1]), np.array([1.5]))
    with pytest.raises(PoyoError, match="the state has another size"):
        engine.add(state[:-1], one, np.array([1]))


def test_settings_that_cannot_be_had(compiler):
    _, content = engines(SMALL)
    with pytest.raises(PoyoError, match="threads must be 1 to 8"):
        NativeEngine(content, threads=9)
    with pytest.raises(PoyoError, match="instructions are sse9; they must be one of"):
        NativeEngine(content, instructions="sse9")


@pytest.mark.parametrize(
    ("change", "text"),
    [({"head_dim": 12}, "head_dim is 12"), ({"processor": "a:B"}, "computes the processor")],
)
def test_models_that_it_does_not_compute(change, text):
    from poyo_jax.decoding.rig_file import check_native

    with pytest.raises(ConfigError, match=text):
        check_native(replace(SMALL, **change), 0)
