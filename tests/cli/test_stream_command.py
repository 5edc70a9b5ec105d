"""`python -m poyo_jax stream` decodes what is played, and says in a sentence what is wrong."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from native_models import random_model, random_spikes

from poyo_jax import Session, StreamDecoder
from poyo_jax.cli import stream as stream_command
from poyo_jax.cli.stream import main
from poyo_jax.config import ModelConfig
from poyo_jax.errors import MissingDependencyError
from poyo_jax.native.library import find_compiler
from poyo_jax.realtime import Replay

CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=2, num_latents=4, latent_step=0.25
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """Paths of a model, a session, and a .poyo file, and the decoder of both."""
    folder = tmp_path_factory.mktemp("rig")
    pretrained, session = random_model(CONFIG)
    times, units = random_spikes(CONFIG, 300)
    order = np.argsort(times)
    behaviour = np.linspace(0, 2, 201), np.zeros((201, 2))
    ids = list(session.unit_ids)
    spikes = times[order] * 2, units[order]
    played = Session.from_arrays(*spikes, ids, *behaviour, session_id=session.session_id)
    played.save(folder / "one.h5")
    pretrained.save(folder / "model")
    stream = StreamDecoder(pretrained, played, hop=0.1, queries=(0.0, 0.05))
    stream.save(folder / "one.poyo")
    return folder, stream, played


def expected(stream, session) -> np.ndarray:
    rows = []
    stream.reset()
    for number in range(1, 21):
        stream.push(*session.spikes_between((number - 1) * 0.1, number * 0.1))
        rows.append([number * 0.1, *stream.predict(number * 0.1).values.ravel()])
    return np.array(rows)


def written(text: str) -> np.ndarray:
    return np.array([[float(word) for word in line.split()] for line in text.splitlines()])


def test_a_model_decodes_a_session_that_is_played(rig, capsys):
    folder, stream, session = rig
    options = ["--hop", "0.1", "--queries", "0", "0.05", "--speed", "None"]
    main([str(folder / "model"), str(folder / "one.h5"), *options])
    out, err = capsys.readouterr()
    np.testing.assert_allclose(written(out), expected(stream, session), rtol=1e-5, atol=1e-5)
    assert re.search(r"20 updates of [\d./ ]+ ms .*0 left out .*received 300, not finite 0", err)


@pytest.fixture(scope="module")
def compiler() -> str:
    """The C++ compiler; without one the test says so and skips."""
    try:
        return find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def test_a_file_of_the_rig_needs_no_more(rig, compiler, capsys):
    folder, stream, session = rig
    file, played = str(folder / "one.poyo"), str(folder / "one.h5")
    main([file, played, "--speed", "None", "--threads", "2", "--updates", "20"])
    out, _ = capsys.readouterr()
    np.testing.assert_allclose(written(out), expected(stream, session), rtol=1e-5, atol=1e-5)
    fails(capsys, "own hop and queries", [file, played, "--hop", "0.1"])
    fails(capsys, "there are no spikes: give a session file", [file])


def fails(capsys, sentence, arguments):
    with pytest.raises(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(sentence, error), error


def test_what_is_wrong_is_a_sentence(rig, capsys):
    folder, _, _ = rig
    model, session = str(folder / "model"), str(folder / "one.h5")
    fails(capsys, "give its file, too", [model])
    fails(capsys, "there is no session file", [model, str(folder / "two.h5")])
    fails(capsys, "one source", [model, session, "--lsl", "a", "--zmq", "tcp://127.0.0.1:1"])
    fails(capsys, "--updates is 0; it must be at least 1", [model, session, "--updates", "0"])
    fails(capsys, "model has no output 'vel'; its output is", [model, session, "--output", "vel"])
    fails(capsys, "hop is 5", [model, session, "--hop", "5"])
    fails(capsys, "--start", [model, session, "--start", "100"])
    fails(capsys, "--threads is 2, but .* Give --back-end native", [model, session, "--threads=2"])
    fails(capsys, "--bfloat16 is True, but the back end of JAX", [model, session, "--bfloat16"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--delay", "0.1"], "--delay is for spikes of --lsl"),
        (["--lsl", "a", "--speed", "2"], "--speed is for a session that is played"),
        (["--zmq", "tcp://a:1", "--start", "0"], "--start is for a session that is played"),
        (["--back-end", "jax"], "--back-end is for a model: a .poyo file has its own"),
        (["--port", "8000"], "--port is for the page of --page"),
    ],
)
def test_options_that_change_nothing_are_refused(options, sentence, capsys):
    fails(capsys, f"{sentence}. Leave it out.", ["never.poyo", *options])


def test_lines_that_were_not_understood_are_counted(rig, capsys, monkeypatch):
    folder, _, session = rig
    source = Replay(session, speed=None)
    monkeypatch.setattr(source, "not_understood", 3, raising=False)
    monkeypatch.setattr(stream_command, "make_source", lambda *_: source)
    main([str(folder / "model"), str(folder / "one.h5"), "--updates", "1"])
    assert "; lines that were not understood: 3\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "options"),
    [("pylsl", ["--lsl", "a"]), ("pylsl", ["--lsl-out", "a"]), ("zmq", ["--zmq", "tcp://a:1"])],
)
def test_without_a_package_the_extra_is_named(rig, capsys, monkeypatch, package, options):
    folder, _, _ = rig
    monkeypatch.setitem(sys.modules, package, None)
    arguments = [str(folder / "model"), str(folder / "one.h5"), *options]
    fails(capsys, r"needs py.*pip install poyo_jax\[realtime\]", arguments)


def test_the_page_stays_after_the_source_has_ended(rig, compiler):
    folder, _, _ = rig
    file, played = str(folder / "one.poyo"), str(folder / "one.h5")
    words = ["stream", file, played, "--speed", "None", "--page"]
    command = [sys.executable, "-m", "poyo_jax", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        lines = iter(program.stderr)
        address = next(line for line in lines if "watch at" in line).split()[-1]
        assert "the page stays until Ctrl-C" in next(line for line in lines if "ended;" in line)
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("GET", "/since?number=0")
        answer = json.loads(connection.getresponse().read())
        connection.request("GET", "/about")
        about = json.loads(connection.getresponse().read())
        connection.close()
        program.send_signal(signal.SIGINT)
        assert "20 updates" in "".join(lines) and program.wait(60) == 0
    assert about["name"] == f"{file} decodes {Session.open(played).id}"
    assert answer["totals"]["updates"] == 20 and answer["ended"] == "The source has ended."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk(rig, compiler):
    folder, _, _ = rig
    words = ["stream", str(folder / "one.poyo"), str(folder / "one.h5"), "--speed", "None"]
    command = [sys.executable, "-m", "poyo_jax", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "values cannot be written (No space left on device)" in done.stderr
    assert "update at 0.100000 s is the first" in done.stderr
