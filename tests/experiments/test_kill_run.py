"""The script that kills a run at random; fifty kills are made by hand."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def kill_run(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    from experiments.tools import kill_run

    return kill_run


def test_a_run_that_is_killed_ends_as_one_left_alone(kill_run, capsys):
    kill_run.main(["--kills", "2", "--steps-between", "20"])
    text = capsys.readouterr().out
    assert text.startswith("2 kills (")
    assert text.endswith("always resumable, and the final parameters are equal bit for bit\n")


def test_a_difference_is_found(kill_run, monkeypatch):
    whole, seen = kill_run.load, []

    def tampered(workdir, step):
        pretrained = whole(workdir, step=step)
        seen.append(workdir.name)
        if workdir.name == "cut":
            pretrained.params["unit_embedding"] += 1e-7
        return pretrained

    monkeypatch.setattr(kill_run, "load", tampered)
    with pytest.raises(SystemExit, match="differ from those of the undisturbed one"):
        kill_run.main(["--kills", "0", "--steps-between", "8"])
    assert seen == ["whole", "cut"]
