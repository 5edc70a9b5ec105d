"""`python -m poyo_jax explore` serves until Ctrl-C, and says in a sentence what is wrong."""

import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from poyo_jax.cli.explore import main

STOPPING = "stopping as soon as the present step or compilation is done ..."


def test_it_serves_until_interrupted(tiny_run, tiny_data):
    command = [
        sys.executable,
        "-m",
        "poyo_jax",
        "explore",
        str(tiny_run),
        "--data",
        str(tiny_data / "session_0.h5"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        address = next(line for line in program.stdout if line.startswith("at ")).split()[1]
        connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        program.send_signal(signal.SIGINT)
        assert program.stdout.read() == "\nThe explorer is closed.\n"
        assert program.wait(60) == 0
        # it may be compiling a program of another size, and says that it waits for that
        assert program.stderr.read().strip() in ("", STOPPING)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("nowhere", "there is neither a session file nor a folder .*nowhere"),
        (".", "has no session files"),
    ],
)
def test_what_is_wrong_is_a_sentence(tiny_run, tmp_path, capsys, data, sentence):
    with pytest.raises(SystemExit, match="2"):
        main([str(tiny_run), "--data", str(tmp_path / data)])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(sentence, error)
