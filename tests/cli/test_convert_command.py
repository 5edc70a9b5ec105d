"""The command `convert` as its users run it: there, back, and misused."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from torch_models import READOUT, state_dict

from poyo_jax import load
from poyo_jax.interop.torch_file import read_torch_file, write_torch_file

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"


@pytest.fixture
def main():
    """The main function of the command."""
    from poyo_jax.cli.convert import main

    return main


@pytest.fixture
def checkpoint(tmp_path):
    """The golden model as a file of torch_brain; its sessions are of no known data set."""
    with np.load(GOLDEN / "poyo_tiny.npz") as arrays:
        write_torch_file(tmp_path / "model.ckpt", {"state_dict": state_dict(dict(arrays))})
    return tmp_path / "model.ckpt"


@pytest.fixture
def readouts(tmp_path):
    path = tmp_path / "readouts.json"
    path.write_text(
        json.dumps({name: json.loads(READOUT.to_json()) for name in ("sessA", "sessB")})
    )
    return path


def test_there_and_back(main, checkpoint, readouts, tmp_path, capsys):
    folder = tmp_path / "model"
    main(
        [
            str(checkpoint),
            "--out",
            str(folder),
            "--readouts",
            str(readouts),
            "--licence",
            "cc-by-4.0",
        ]
    )
    assert "2 sessions, 10 units; step 0) is in" in capsys.readouterr().out
    assert 'license: "cc-by-4.0"' in (folder / "README.md").read_text()
    assert load(folder).readouts == {"sessA": READOUT, "sessB": READOUT}
    main([str(folder), "--out", str(tmp_path / "back.ckpt"), "--to-torch"])
    back, given = (
        read_torch_file(tmp_path / "back.ckpt")["state_dict"],
        read_torch_file(checkpoint)["state_dict"],
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        {f"model.{name}": value for name, value in given.items()},
        dict(back),
    )


def fails(main, arguments, capsys) -> tuple[int, str]:
    """(exit status, the sentence) of a call that must not succeed."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code, capsys.readouterr().err


def test_to_one_file_and_back(main, checkpoint, readouts, tmp_path, capsys):
    file, folder = tmp_path / "model.safetensors", tmp_path / "model"
    main([str(checkpoint), "--out", str(file), "--readouts", str(readouts)])
    main([str(file), "--out", str(folder)])
    jax.tree.map(np.testing.assert_array_equal, load(file).params, load(folder).params)
    back = tmp_path / "back.ckpt"
    main([str(file), "--out", str(back), "--to-torch"])
    assert set(read_torch_file(back)["state_dict"])
    status, text = fails(main, [file, "--out", tmp_path / "b.pt"], capsys)
    assert status == 2 and "b.pt names a file of torch. Add --to-torch, or give a folder" in text
    status, text = fails(main, [file, "--out", tmp_path / "a", "--readouts", readouts], capsys)
    assert status == 2 and "a saved model has readouts of its own" in text


def test_misuse_changes_nothing(main, checkpoint, readouts, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "model"
    status, text = fails(main, [checkpoint, "--out", out], capsys)
    assert status == 2 and "how the behaviour of session 'sessA' was normalised" in text
    status, text = fails(main, [readouts, "--out", out], capsys)
    assert status == 2 and "is no file of torch.save" in text
    status, text = fails(main, [checkpoint, "--out", out, "--readouts", checkpoint], capsys)
    assert status == 2 and "holds no readouts" in text
    readouts.write_text("[]")
    status, text = fails(main, [checkpoint, "--out", out, "--readouts", readouts], capsys)
    assert status == 2 and "holds no readouts" in text
    status, text = fails(main, [out, "--out", tmp_path / "a.ckpt", "--to-torch"], capsys)
    assert status == 2 and "there is no checkpoint in" in text
    licensed = ["--to-torch", "--licence", "CC0"]
    status, text = fails(main, [out, "--out", tmp_path / "a.ckpt", *licensed], capsys)
    assert status == 2 and "--licence is for the card of a model of ours" in text
    assert sorted(tmp_path.iterdir()) == before


def test_the_program_itself(tmp_path):
    program = [sys.executable, "-m", "poyo_jax", "convert"]
    done = subprocess.run(
        [*program, tmp_path / "no.ckpt", "--out", tmp_path / "model"],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.strip()
        == f"there is no file {tmp_path}/no.ckpt. Give a file that torch.save wrote."
    )
