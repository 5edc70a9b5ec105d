"""The pretraining script as its users run it: to the end, stopped by Ctrl-C, killed, and
misused.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from poyo_jax import load
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.presets import PRESETS
from poyo_jax.train.loop import Run
from poyo_jax.train.reliability import stop
from poyo_jax.train.writers import read_metrics

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# Slow enough to be stopped halfway.
BUSY = ["--config.run.log-every", "1", "--config.run.save-every", "2"]


@pytest.fixture
def main():
    """The main function of the command."""
    from poyo_jax.cli.pretrain import main

    return main


def command(data: Path, workdir: Path, *options: str) -> list:
    script = REPOSITORY / "experiments" / "pretrain.py"
    arguments = [
        "--data",
        data,
        "--workdir",
        workdir,
        "--exclude",
        "session_2",
        *tiny.options(),
        *options,
    ]
    return [sys.executable, script, "demo", *arguments]


def start(arguments: list) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_step(process: subprocess.Popen, workdir: Path, step: int) -> None:
    while not any(line["step"] >= step for line in read_metrics(workdir)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_killed_stopped_and_continued(tiny_data, tiny_run, tmp_path):
    """Killed, stopped by Ctrl-C, continued to the end: the result is that of a run left alone.

    `experiments.tools.kill_run` kills more often.
    """
    process = start(command(tiny_data, tmp_path, *BUSY))
    wait_until_step(process, tmp_path, 3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reached = max(line["step"] for line in read_metrics(tmp_path))
    for step in saved_steps(tmp_path):
        assert load(tmp_path, step=step).step == step

    process = start(command(tiny_data, tmp_path, *BUSY))
    wait_until_step(process, tmp_path, reached + 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 42
    assert out == "2 sessions, 24 units\n"
    stopped = saved_steps(tmp_path)[-1]
    assert reached < stopped < tiny.NUM_STEPS
    assert (
        err.splitlines()[-1]
        == f"stopped at step {stopped} of 150, which is saved in {tmp_path}. Run the same command"
        " again to continue from there."
    )
    assert "Traceback" not in err

    process = start(command(tiny_data, tmp_path, "--config.run.log-every", "1"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"restoring step {stopped} from {tmp_path}" in err
    lines = out.splitlines()
    assert lines[1].startswith("best checkpoint: Pretrained(dim 16 x depth 1")
    assert [line.split("  ")[0] for line in lines[2:4]] == [
        "simulated/session_0",
        "simulated/session_1",
    ]
    assert lines[4].startswith("mean ± SD")
    assert all(noise not in err.lower() for noise in ("orbax", "absl", "grain", "warning"))
    logged = [line["step"] for line in read_metrics(tmp_path) if "loss" in line]
    assert logged == list(range(1, tiny.NUM_STEPS + 1))
    a, b = (load(workdir, step=tiny.NUM_STEPS).params for workdir in (tmp_path, tiny_run))
    jax.tree.map(np.testing.assert_array_equal, a, b)


# --- misuse


def refused(main, capsys, arguments: list, status: int = 2) -> str:
    """What the script says on standard error when it exits with this status."""
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    assert exit.value.code == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return " ".join(err.replace("│", " ").split())


def test_help(main, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    assert "poyo_single" in (text := capsys.readouterr().out)
    assert "python -m poyo_jax pretrain demo --data sessions/ --workdir runs/demo" in text
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    assert "--config.model.depth INT" in capsys.readouterr().out


def test_an_unknown_preset(main, capsys):
    names = ", ".join(PRESETS)
    text = f"there is no preset 'dmo'. Did you mean 'demo'? Choose {names}."
    assert refused(main, capsys, ["dmo", "--data", "x"]) == text
    for words in ([], ["--data", "x"]):
        text = refused(main, capsys, words)
        assert text.startswith("the preset is missing: python -m poyo_jax pretrain PRESET --data")
        assert text.endswith(f"Choose {names}.")


def test_a_misspelt_option(main, capsys):
    text = refused(
        main,
        capsys,
        ["demo", "--data", "x", "--workdir", "y", "--config.model.dept", "3"],
        status=2,
    )
    assert "Unrecognized options: --config.model.dept" in text
    assert "Perhaps you meant: --config.model.depth" in text


@pytest.mark.parametrize("option", ["--config.optim.num-steps", "--num_steps=3", "--run.num-steps"])
def test_an_option_of_another_group(main, capsys, option):
    given = option.partition("=")[0].replace("_", "-")
    assert (
        refused(main, capsys, ["demo", "--data", "x", "--workdir", "y", option, "20"])
        == f"there is no option {given}. Did you mean --config.run.num-steps?"
    )


def test_a_value_that_cannot_work(main, capsys):
    text = refused(
        main, capsys, ["demo", "--data", "x", "--workdir", "y", "--config.model.dim", "0"], status=2
    )
    assert text == "--config.model.dim is 0; it must be at least 1. Change it and start again."


@pytest.fixture
def one_device(monkeypatch):
    """The number of devices is settled in this process."""
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)


def test_data_that_are_not_there(main, capsys, one_device, tmp_path):
    options = ["--workdir", tmp_path / "run"]
    text = refused(main, capsys, ["demo", "--data", tmp_path / "missing", *options])
    assert text.startswith(
        f"the data folder {tmp_path}/missing does not exist. Give the folder that holds processed"
    )
    text = refused(main, capsys, ["demo", "--data", tmp_path, *options])
    assert text.startswith(f"the data folder {tmp_path} has no session files (*.h5).")
    assert not (tmp_path / "run").exists()


def test_sessions_to_leave_out(main, capsys, one_device, tiny_data, tmp_path):
    options = ["demo", "--data", tiny_data, "--workdir", tmp_path / "run", "--exclude"]
    assert (
        refused(main, capsys, [*options, "session_7"])
        == "--exclude session_7 is none of 3 sessions. Did you mean 'session_2' or 'session_1'"
        " or 'session_0'?"
    )
    assert (
        refused(main, capsys, [*options, "adaa"])
        == "--exclude adaa is none of 3 sessions. Choose session_0, session_1, session_2."
    )
    text = refused(main, capsys, [*options, *(f"session_{number}" for number in range(3))])
    assert text == "there are no sessions to train on. Give at least one."


def test_the_work_directory_of_another_run(main, capsys, one_device, tiny_data, tiny_run):
    text = refused(main, capsys, command(tiny_data, tiny_run, "--config.model.depth", "2")[2:])
    assert text.endswith(
        "holds another run, which differs in model.depth: 1 in the run, 2 given Continue that run"
        " with its own settings, or choose another --workdir."
    )


def test_a_work_directory_below_a_file(main, capsys, one_device, tiny_data, tmp_path):
    (tmp_path / "file").touch()
    text = refused(main, capsys, command(tiny_data, tmp_path / "file" / "run")[2:])
    assert "lock.json cannot be written (Not a directory). Check that the disk has space" in text


def test_the_time_that_was_given_is_kept(
    main, capsys, one_device, tiny_data, tmp_path, monkeypatch
):
    """An hour passes in every step."""
    passed, push = [], Run.push
    monkeypatch.setattr(Run, "push", lambda *args: (passed.append(3600), push(*args)))
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(passed))
    monkeypatch.setattr(stop, "time", clock)
    words = command(tiny_data, tmp_path / "run", "--max-minutes", "30")[2:]
    text = refused(main, capsys, words, status=42)
    (step,) = saved_steps(tmp_path / "run")
    assert 1 <= step < 150 and f"stopped at step {step} of 150, which is saved in" in text
    assert "Run the same command again to continue" in text


def test_ctrl_c_outside_of_training(main, capsys, one_device, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "poyo_jax.train_model", lambda *_, **__: signal.raise_signal(signal.SIGINT), raising=False
    )
    text = refused(main, capsys, command(tiny_data, tmp_path)[2:], status=130)
    assert (
        text == "stopped at once; what the last checkpoint holds is saved, and the same command"
        " continues."
    )


def test_a_session_without_a_train_split_is_left_out(
    main, capsys, one_device, tiny_data, tmp_path, monkeypatch
):
    import poyo_jax

    trained = []
    monkeypatch.setattr(
        "poyo_jax.train_model",
        lambda _, sessions, *__, **___: trained.extend(sessions) or exit(0),
        raising=False,
    )
    only_test = poyo_jax.Session.from_arrays(
        [0.5], [0], ["u"], [0.0, 1.0, 2.0], [[0.0, 0.0]] * 3, session_id="test_part", test=[(0, 2)]
    )
    for name in ("session_0", "session_1"):
        (tmp_path / f"{name}.h5").write_bytes((tiny_data / f"{name}.h5").read_bytes())
    only_test.save(tmp_path / "test_part.h5")
    with pytest.raises(SystemExit):
        main(["demo", "--data", str(tmp_path), "--workdir", str(tmp_path / "run"), *tiny.options()])
    assert [session.session_id for session in trained] == ["session_0", "session_1"]
    assert "left out, since nothing is in their train split: test_part" in capsys.readouterr().out
