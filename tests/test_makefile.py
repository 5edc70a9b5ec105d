"""make changes and removes the environments alone that it built."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def environment(folder: Path, status: int) -> Path:
    """A folder that looks like a virtual environment, whose python ends with this status."""
    (folder / "bin").mkdir(parents=True)
    for name, code in (("python", f"exit {status}"), ("pip", f"touch {folder}/pip_was_called")):
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{code}\n")
        os.chmod(folder / "bin" / name, 0o755)
    return folder


def make(venv: Path, target: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", f"VENV={venv}", f"COLAB={venv}-colab", target]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_nothing_is_installed_into_the_environment_of_someone_else(tmp_path):
    usable = environment(tmp_path / "usable", 0)
    done = make(usable, f"{usable}/.installed")
    assert done.returncode == 0 and "as it is" in done.stdout, done.stderr
    useless = environment(tmp_path / "useless", 1)
    refused = make(useless, f"{useless}/.installed")
    assert refused.returncode == 2 and "was not built by make" in refused.stderr
    for venv in (usable, useless):
        assert not (venv / "pip_was_called").exists() and not (venv / ".installed").exists()


def test_its_own_environment_is_brought_up_to_date(tmp_path):
    own = environment(tmp_path / "own", 0)
    (own / ".built-by-make").touch()
    assert make(own, f"{own}/.installed").returncode == 0
    assert (own / "pip_was_called").exists() and (own / ".installed").exists()
