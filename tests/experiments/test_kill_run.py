"""The script that kills a run at random; fifty kills are made by hand."""

import os
import shutil
from pathlib import Path

import jax
import pytest

from poyo_jax.cli.pretrain import main as pretrain

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def kill_run(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    from experiments.tools import kill_run

    return kill_run


def test_a_run_that_is_killed_ends_as_one_left_alone(kill_run, capsys, monkeypatch):
    """The seed kills it soon after its first checkpoint. What is not killed runs in this process,
    and all share the programs that tests have compiled.
    """
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(kill_run.subprocess, "run", lambda command, **_: pretrain(command[4:]))
    compiled = ["--compiled", os.environ["JAX_COMPILATION_CACHE_DIR"]]
    kill_run.main(["--kills", "1", "--steps-between", "6", "--seed", "4", *compiled])
    text = capsys.readouterr().out
    assert "\n1 kill (1 " in text and "before a step" not in text
    assert text.endswith("always resumable, and the final parameters are equal bit for bit\n")


def test_a_difference_is_found(kill_run, tiny_run, monkeypatch):
    """Both runs are copies of a finished one; a parameter of the second one then changes."""
    whole, seen = kill_run.load, []

    def copy_run(command, **_):
        shutil.copytree(tiny_run, command[command.index("--workdir") + 1])

    def tampered(workdir, step):
        pretrained = whole(workdir, step=step)
        seen.append(workdir.name)
        if workdir.name == "cut":
            pretrained.params["unit_embedding"] += 1e-7
        return pretrained

    monkeypatch.setattr(kill_run.subprocess, "run", copy_run)
    monkeypatch.setattr(kill_run, "load", tampered)
    with pytest.raises(SystemExit, match="differ from those of the undisturbed one"):
        kill_run.main(["--kills", "0"])
    assert seen == ["whole", "cut"]
