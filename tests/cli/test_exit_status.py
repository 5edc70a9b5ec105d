"""Exit statuses of programs: those of the table in docs/launching.md."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from poyo_jax import errors, exit_status
from poyo_jax.cli.program import run_program

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {
    errors.Interrupted: 42,
    errors.Diverged: 1,
    errors.DistributedError: 1,
    errors.CheckpointError: 2,
    errors.ConfigError: 2,
    errors.DataError: 2,
    errors.MissingDependencyError: 2,
    errors.RawDataError: 2,
    errors.SessionError: 2,
    errors.VocabError: 2,
    errors.PoyoError: 2,
}


def status_of(work) -> int:
    """Exit status of a program that does `work`."""
    with pytest.raises(SystemExit) as ended:
        run_program(work, None)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def raises(error: BaseException):
    def work(_):
        raise error

    return work


def test_every_error_of_the_package_has_a_status(capsys):
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {Iterable}
    assert kinds == set(EXPECTED)
    for kind, status in EXPECTED.items():
        assert status_of(raises(kind("a sentence."))) == status
        assert capsys.readouterr().err == "\na sentence.\n"


def test_the_table_has_every_status():
    text = (ROOT / "docs" / "launching.md").read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {int(number) for number in re.findall(r"\b\d+\b", table)}
    statuses = {value for name, value in vars(exit_status).items() if name.isupper()}
    assert statuses == {1, 2, 42, 130, 134, 142} and statuses <= documented


def test_ctrl_c(capsys):
    def work(_):
        signal.raise_signal(signal.SIGINT)

    assert status_of(work) == 130
    assert capsys.readouterr().err == "\nstopped.\n"


def test_success_and_a_status_of_the_work():
    assert run_program(lambda options: None, 1) is None
    assert run_program(lambda options: 0, 1) is None
    assert status_of(lambda options: 1) == 1


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError):
        run_program(raises(KeyError("a fault")), None)
    with pytest.raises(RuntimeError):
        run_program(raises(RuntimeError("a fault")), None)
    with pytest.raises(BrokenPipeError):
        run_program(raises(BrokenPipeError("of a socket")), None)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("num_lines", [1, 100_000])
def test_a_reader_that_has_ended(num_lines, unbuffered):
    """As in `... | head -0`: no traceback, whether the pipe breaks while printing or at the end."""
    code = (
        "import time; from poyo_jax.cli.program import run_program\n"
        "def work(count):\n"
        "    time.sleep(0.2)\n"
        "    for number in range(count): print('line', number)\n"
        f"run_program(work, {num_lines})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
