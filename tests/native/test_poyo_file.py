"""A .poyo file holds all that a rig needs, and a damaged one is refused."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from native_models import random_model, random_spikes

from experiments.tools.fuzz.poyo_file import compile_fuzzer, run_fuzzer
from poyo_jax import StreamDecoder, native
from poyo_jax.config import ModelConfig
from poyo_jax.errors import CheckpointError, ConfigError, MissingDependencyError, PoyoError
from poyo_jax.native import library

CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=2, num_latents=4, latent_step=0.25
)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


@pytest.fixture(scope="module")
def stream(model):
    return StreamDecoder(*model, hop=0.1, queries=(0.0, 0.25))


@pytest.fixture(scope="module")
def path(stream, compiler, tmp_path_factory):
    path = tmp_path_factory.mktemp("poyo") / "monday.poyo"
    stream.save(path)
    return path


def replay(stream, updates=12) -> np.ndarray:
    """Values of some updates, of spikes of three seconds."""
    times, units = random_spikes(CONFIG, 900)
    times = np.sort(times) * 3 + 7.0
    stream.reset()
    done, values = 0, []
    for number in range(updates):
        now = 8.0 + number * 0.1
        end = int(np.searchsorted(times, now))
        stream.push(times[done:end], units[done:end])
        done = end
        values.append(stream.predict(now).values)
        stream.prepare(8.0 + (number + 1) * 0.1)
    return np.array(values)


def test_the_loaded_file_decodes_as_the_model_does(stream, path, model):
    loaded = native.load(path, threads=2)
    assert loaded.unit_ids == tuple(map(str, range(20)))
    assert loaded.hop == 0.1 and loaded.queries == (0.0, 0.25)
    expected = replay(stream)
    error = np.abs(replay(loaded) - expected) / [2.0, 0.5]
    assert error.max() < 1e-6
    assert np.array_equal(replay(loaded), replay(loaded))
    made = StreamDecoder(*model, hop=0.1, queries=(0.0, 0.25), back_end="native", threads=2)
    assert np.array_equal(replay(made), replay(loaded))


def test_states_of_a_loaded_file_continue_bit_for_bit(path):
    loaded = native.load(path)
    loaded.push([7.5, 7.9], [1, 2])
    loaded.prepare(8.0)
    state = loaded.state
    once = loaded.predict(8.0).values
    loaded.reset(state)
    assert np.array_equal(loaded.predict(8.0).values, once)


def test_loading_loads_no_jax(path):
    code = f"""
import json, sys
from poyo_jax import native
native.load({str(path)!r}).predict(8.0)
print(json.dumps("jax" in sys.modules))
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert json.loads(result.stdout) is False


@pytest.mark.unchecked
def test_files_that_cannot_be_loaded(path, tmp_path):
    content = path.read_bytes()
    for name, wrong, text in (
        ("empty", b"", "no .poyo file of this version"),
        ("foreign", b"PK" + bytes(300), "no .poyo file of this version"),
        ("short", content[:-1], "damaged, its digest does not fit"),
        ("flipped", content[:500] + bytes([content[500] ^ 1]) + content[501:], "damaged"),
    ):
        damaged = tmp_path / name
        damaged.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=text):
            native.load(damaged)
    with pytest.raises(CheckpointError, match=r"missing\.poyo cannot be read"):
        native.load(tmp_path / "missing.poyo")
    with pytest.raises(ConfigError, match="threads is 0"):
        native.load(path, threads=0)


def test_a_full_disk(stream, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PoyoError, match=r"monday\.poyo cannot be written .*disk has space"):
            stream.save(tmp_path / "monday.poyo")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())  # nothing half


def test_a_file_that_cannot_be_written(stream, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoyoError, match="cannot be written"):
        stream.save(tmp_path / "file" / "monday.poyo")


@pytest.mark.unchecked
def test_wrong_settings(model):
    with pytest.raises(ConfigError, match="back_end is 'cuda'; it must be 'jax' or 'native'"):
        StreamDecoder(*model, back_end="cuda")
    with pytest.raises(ConfigError, match="hop is 2"):
        StreamDecoder(*model, hop=2, back_end="native")
    for name, value in (("threads", 2), ("bfloat16", True)):
        with pytest.raises(ConfigError, match=f"{name} is {value}, but the back end of JAX has no"):
            StreamDecoder(*model, **{name: value})


def test_without_a_compiler(monkeypatch, tmp_path, model):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load_library.cache_clear()
    try:
        with pytest.raises(
            MissingDependencyError, match=r"needs a C\+\+ compiler.*about twice as long"
        ):
            StreamDecoder(*model, back_end="native")
    finally:
        library.load_library.cache_clear()


def test_each_kind_of_machine_has_a_library_of_its_own(monkeypatch):
    own = library._digest()
    monkeypatch.setattr(library.platform, "machine", lambda: "another")
    assert library._digest() != own


def test_a_library_that_cannot_be_loaded(monkeypatch, tmp_path):
    path = tmp_path / "poyo_jax" / library._digest() / library.LIBRARY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of another machine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load_library.cache_clear()
    try:
        with pytest.raises(PoyoError, match=r"cannot be loaded \(.*Delete .*/poyo_jax/\w{16}, so"):
            library.load_library()
    finally:
        library.load_library.cache_clear()


def test_a_compiler_that_fails(monkeypatch, tmp_path, compiler):
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\necho 'poyo.cpp:1: error: no' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(PoyoError, match=r"cannot compile the native back end \(poyo.cpp:1: error"):
        library.build(tmp_path / "rig")


@pytest.mark.slow
def test_damaged_files_under_sanitizers(compiler, tmp_path):
    """Every one is refused with a sentence or decoded, without a fault of memory."""
    program = tmp_path / "poyo_file"
    try:
        compile_fuzzer(program)
    except PoyoError as error:
        pytest.skip(f"sanitizers: {error}")
    done = run_fuzzer(program, mutations=2000, seed=0)
    assert done.returncode == 0, done.stderr
    refused, opened = (int(word) for word in done.stdout.split() if word.isdigit())
    assert refused > 500 and opened > 100


def test_the_file_changes_with_the_model(stream, model, path, tmp_path):
    pretrained, session = model
    other = replace(pretrained.readouts["one"], std=(1.0, 1.0))
    changed = replace(pretrained, readouts={"one": other})
    StreamDecoder(changed, session, hop=0.1, queries=(0.0, 0.25)).save(tmp_path / "other.poyo")
    assert (tmp_path / "other.poyo").read_bytes()[8:40] != path.read_bytes()[8:40]
