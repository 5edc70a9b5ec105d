"""`python -m poyo_jax` without a checkout: the list of commands, their help, and wrong names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import poyo_jax
from poyo_jax.cli.main import COMMANDS, main

PACKAGE = Path(poyo_jax.__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package alone, as a wheel installs it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, folder / "poyo_jax", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty place with the package of `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True
    )


def test_the_commands_are_listed(capsys):
    main([])
    out = capsys.readouterr().out
    for name in COMMANDS:
        [line] = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 3
    main(["--help"])
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: python -m poyo_jax {name} ")
    assert f"$ python -m poyo_jax {name} " in out


def test_a_misspelt_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["pretrian", "demo"])
    assert capsys.readouterr().err == (
        "\nthere is no command 'pretrian'. Did you mean 'pretrain'? `python -m poyo_jax` lists"
        " the commands.\n"
    )


def test_a_wheel_holds_every_command(installed):
    """Every folder with code is a package, since setuptools takes packages alone."""
    packages = [path.parent for path in PACKAGE.rglob("*.py")]
    assert all((folder / "__init__.py").is_file() for folder in packages)
    simulated = python(installed, "-m", "poyo_jax", "simulate", "lab", "--num-sessions", "1")
    assert simulated.returncode == 0, simulated.stderr
    assert len(list((installed / "lab").glob("*.h5"))) == 1
    misused = python(installed, "-m", "poyo_jax", "evaluate", "nowhere", "lab")
    assert misused.returncode == 2
    assert misused.stderr.strip().startswith("there is no folder nowhere here")


def test_the_script_that_launchers_start_is_the_command():
    text = (PACKAGE.parent / "experiments" / "pretrain.py").read_text(encoding="utf-8")
    assert "from poyo_jax.cli.pretrain import main" in text and len(text.splitlines()) < 10


def test_the_list_loads_no_jax(installed):
    code = """
import sys
from poyo_jax.cli.main import main
main([])
assert "jax" not in sys.modules
"""
    assert python(installed, "-c", code).returncode == 0
