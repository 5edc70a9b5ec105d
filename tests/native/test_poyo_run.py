"""The program `poyo_run` decodes lines as `poyo_jax.native.load` decodes arrays."""

import contextlib
import ctypes.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from native_models import NUM_UNITS, random_model, random_spikes

from poyo_jax import StreamDecoder, native
from poyo_jax.config import ModelConfig
from poyo_jax.native import library

CONFIG = ModelConfig(
    dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=2, num_latents=4, latent_step=0.25
)
HOP, FIRST = 0.125, 8.0


@pytest.fixture(scope="module")
def rig(compiler, tmp_path_factory):
    """A folder with the program, compiled in a hurry, with vectors as of AVX-512, and a file."""
    folder = tmp_path_factory.mktemp("rig")
    with pytest.MonkeyPatch.context() as patch:
        quick = [option for option in library.OPTIONS if option != "-O3"]
        patch.setattr(library, "OPTIONS", (*quick, "-O1", "-DPOYO_PORTABLE", "-DPOYO_LANES_16"))
        patch.chdir(folder)
        made = native.build(".")
    assert [path.name for path in made] == ["libpoyo.so", "poyo_run"]
    StreamDecoder(*random_model(CONFIG), hop=HOP, queries=(0.0, 0.25)).save(folder / "it.poyo")
    return folder


def run(rig, *options, lines="", path="it.poyo") -> subprocess.CompletedProcess:
    command = [str(rig / "poyo_run"), str(rig / path), *options]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)


def spikes() -> tuple[np.ndarray, np.ndarray]:
    times, units = random_spikes(CONFIG, 900)
    return np.sort(times).round(6) * 3 + 7.0, units


def expected(rig) -> np.ndarray:
    """Time and values of each update, by Python."""
    stream = native.load(rig / "it.poyo")
    times, units = spikes()
    done, rows = 0, []
    for number in range(16):
        now = FIRST + number * HOP
        end = int(np.searchsorted(times, now))
        stream.push(times[done:end], units[done:end])
        done = end
        rows.append([now, *stream.predict(now).values.ravel()])
        stream.prepare(now + HOP)
    return np.array(rows)


def written(text: str) -> np.ndarray:
    return np.array([[float(word) for word in line.split()] for line in text.splitlines()])


def lines() -> str:
    pairs = zip(*spikes(), strict=True)
    return "".join(f"{float(time)!r} {unit}\n" for time, unit in pairs) + "9.99\n"


@pytest.mark.parametrize("options", [(), ("--positions", "--threads", "2")])
def test_lines_of_standard_input(rig, options):
    done = run(rig, "--start", str(FIRST), *options, lines=lines())
    assert done.returncode == 0
    np.testing.assert_allclose(written(done.stdout), expected(rig), rtol=1e-6, atol=1e-6)
    assert "received 900, not finite 0, unknown 0, stale 0, late 0, overflow 0" in done.stderr


def test_datagrams(rig):
    with listening(rig) as (program, send):
        text = sent_in_halves(program, send)
    assert program.returncode == 0
    np.testing.assert_allclose(written(text), expected(rig), rtol=1e-6, atol=1e-6)


def test_updates_that_are_overdue_are_left_out(rig):
    """All that has arrived is taken in first, and its last time tells what is overdue."""
    with listening(rig) as (program, send):
        program.send_signal(signal.SIGSTOP)  # as a machine that is busy elsewhere
        for message in messages(lines()):
            send(message)
        program.send_signal(signal.SIGCONT)
        send(b"")
        text, said = program.communicate(timeout=60)
    assert "left out 15 updates" in said
    np.testing.assert_allclose(written(text), expected(rig)[-1:], rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many were lost")
def test_datagrams_that_are_lost_are_counted(rig):
    with listening(rig) as (program, send):
        program.send_signal(signal.SIGSTOP)
        for _ in range(60_000):  # more than the system has room for
            send(b"7.5 1\n")
        program.send_signal(signal.SIGCONT)
        for _ in range(100):  # the system tells with a datagram that it takes
            time.sleep(0.02)
            send(b"7.5 1\n")
        send(b"")
        said = program.communicate(timeout=60)[1]
    lost = re.search(r"(\d+) datagrams were lost", said)
    received = re.search(r"received (\d+)", said)
    assert lost and received
    assert int(lost[1]) + int(received[1]) == 60_100


@contextlib.contextmanager
def listening(rig):
    """The program, listening for datagrams, and a function that sends one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(rig / "poyo_run"), str(rig / "it.poyo"), "--udp", str(port)]
    command += ["--start", str(FIRST)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(command, **pipes) as program,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        assert f"127.0.0.1:{port}" in program.stderr.readline()
        out.connect(("127.0.0.1", port))
        yield program, out.send


def messages(text: str) -> list[bytes]:
    """Messages of at most 50 lines."""
    every = text.splitlines(keepends=True)
    return ["".join(every[first : first + 50]).encode() for first in range(0, len(every), 50)]


def sent_in_halves(program, send) -> str:
    """What the program writes when it gets the second half once it has decoded the first.

    All lines at once would be more than it may lag behind.
    """
    early = "".join(f"{line}\n" for line in lines().splitlines() if float(line.split()[0]) < 9.0)
    for message in messages(early):
        send(message)
    text = "".join(program.stdout.readline() for _ in range(7))
    for message in [*messages(lines().removeprefix(early)), b""]:
        send(message)
    text += program.stdout.read()  # communicate() would miss what readline() has read ahead
    program.wait(timeout=60)
    return text


def started(rig, library_folder, *options) -> subprocess.Popen:
    """The program with libraries of a folder, once it is listening."""
    command = [str(rig / "poyo_run"), str(rig / "it.poyo"), "--start", str(FIRST), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"LD_LIBRARY_PATH": str(library_folder)}
    return subprocess.Popen(command, **pipes, env=environment)


def test_messages_of_zeromq(rig, tmp_path):
    zmq = pytest.importorskip("zmq", reason="pyzmq brings libzmq: pip install poyo_jax[realtime]")
    brought = sorted((Path(zmq.__file__).parents[1] / "pyzmq.libs").glob("lib*"))
    if not brought:
        pytest.skip("this pyzmq brings no libzmq of its own")
    for path in brought:
        (tmp_path / path.name).symlink_to(path)
        if path.name.startswith("libzmq"):
            (tmp_path / "libzmq.so.5").symlink_to(path)
    with zmq.Context() as context, context.socket(zmq.XPUB) as out:
        port = out.bind_to_random_port("tcp://127.0.0.1")
        with started(rig, tmp_path, "--zmq", f"tcp://127.0.0.1:{port}") as program:
            assert "listening to tcp" in (said := program.stderr.readline()), said
            assert out.poll(10_000) and out.recv() == b"\x01"  # it has subscribed
            text = sent_in_halves(program, out.send)
    assert program.returncode == 0
    np.testing.assert_allclose(written(text), expected(rig), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_samples_of_lsl(rig):
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"pylsl brings liblsl: pip install poyo_jax[realtime] ({error})")
    name = f"spikes {os.getpid()}"
    info = pylsl.StreamInfo(name, "Spikes", 1, 0, pylsl.cf_string, name)
    out, folder = pylsl.StreamOutlet(info), Path(pylsl.__file__).parent / "lib"
    first = pylsl.local_clock() + 1.5
    with started(rig, folder, "--lsl", name, "--start", f"{first:.6f}") as program:
        assert any("listening to the LSL stream" in line for line in program.stderr)
        out.wait_for_consumers(10)
        for place in range(20):
            out.push_sample(["7" if place else "nobody"], first - 0.5 + place * 0.001)
        moments = [float(program.stdout.readline().split()[0]) for _ in range(3)]
        late = pylsl.local_clock() - moments[-1]
        program.kill()
    np.testing.assert_allclose(moments, first + HOP * np.arange(3), atol=1e-5)
    assert late < HOP + 0.1


@pytest.mark.parametrize(
    ("option", "text"), [("--zmq", "libzmq is not there"), ("--lsl", "liblsl is not there")]
)
def test_without_a_library(rig, option, text, tmp_path):
    if ctypes.util.find_library(text[3:6]):
        pytest.skip(f"the library of {option} is installed here")
    with started(rig, tmp_path, option, "tcp://127.0.0.1:9") as program:
        assert text in program.communicate(timeout=60)[1]
    assert program.returncode == 1


def test_bad_lines_are_counted(rig):
    bad = "7.9 1\nhello\n\n7.95 99\nnan 1\n8.0 1\n7.99 1\n6.5 1\n" + "x" * 1000 + "\n8.5\n"
    done = run(rig, "--start", str(FIRST), lines=bad)
    assert done.returncode == 0
    assert (
        "received 6, not finite 1, unknown 1, stale 1, late 1, overflow 0, not understood 2"
        in done.stderr
    )
    assert len(done.stdout.splitlines()) == 5


def test_ids_of_units_may_have_spaces(rig):
    names = [f"M1 {unit:03d}, sorted 1" for unit in range(NUM_UNITS)]
    spaced = random_model(CONFIG, names)
    StreamDecoder(*spaced, hop=HOP, queries=(0.0, 0.25)).save(rig / "spaced.poyo")
    pairs = zip(*spikes(), strict=True)
    named = "".join(f"{float(time)!r}, {names[unit]} \r\n" for time, unit in pairs) + "9.99\n"
    done = run(rig, "--start", str(FIRST), lines=named, path="spaced.poyo")
    assert "unknown 0" in done.stderr
    np.testing.assert_array_equal(
        written(done.stdout), written(run(rig, "--start", str(FIRST), lines=lines()).stdout)
    )


def test_a_full_buffer_and_a_clock_that_jumps(rig):
    many = "".join(f"{7.5 + number * 1e-6:.6f} 1\n" for number in range(70_000))
    done = run(rig, "--start", str(FIRST), lines=many + "8.0\n5000 1\n1e300 1\n")
    assert "overflow 4464" in done.stderr and "not finite 1" in done.stderr
    assert "the time jumps from 8.125000 to 5000.000000 s" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["8.000000", "5000.000000"]


def test_a_clock_of_seconds_since_1970(rig):
    moments = 1_764_560_000 + np.arange(300) * 0.01
    done = run(rig, lines="".join(f"{moment:.3f} 1\n" for moment in moments))
    assert "received 300, not finite 0, unknown 0, stale 0" in done.stderr
    assert len(done.stdout.splitlines()) == 23


@pytest.mark.parametrize("stray", [(), (100_000.0,)])
def test_a_clock_that_is_set_back(rig, stray):
    """Also after a single time that lies far ahead."""
    moments = [*(100.0 + np.arange(100) * 0.01), *stray]
    again = (0.0 if not stray else 101.0) + np.arange(200) * 0.01
    done = run(rig, lines="".join(f"{moment:.3f} 1\n" for moment in [*moments, *again]))
    assert "s; all spikes are forgotten" in done.stderr and "stale 0" in done.stderr
    late = [float(line.split()[0]) for line in done.stdout.splitlines()][-15:]
    np.testing.assert_allclose(late, again[0] + HOP * np.arange(1, 16), atol=1e-6)


def test_a_full_disk(rig):
    with open("/dev/full", "w") as full:
        command = [str(rig / "poyo_run"), str(rig / "it.poyo")]
        done = subprocess.run(
            command, input=lines(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "values cannot be written: No space left" in done.stderr


def test_wrong_files_and_options(rig):
    (rig / "foreign.poyo").write_bytes(bytes(200))
    for path, options, status, text in (
        ("missing.poyo", (), 1, "missing.poyo cannot be read"),
        ("foreign.poyo", (), 1, "this is no .poyo file of this version"),
        ("it.poyo", ("--threads", "9"), 2, "usage: poyo_run FILE.poyo"),
        ("it.poyo", ("--udp",), 2, "usage"),
        ("it.poyo", ("--start", "now"), 2, "usage"),
        ("it.poyo", ("--what",), 2, "usage"),
        ("it.poyo", ("--zmq",), 2, "usage"),
        ("it.poyo", ("--udp", "7000", "--lsl", "a"), 2, "usage"),
    ):
        done = run(rig, *options, path=path)
        assert (done.returncode, text in done.stderr) == (status, True), done.stderr
