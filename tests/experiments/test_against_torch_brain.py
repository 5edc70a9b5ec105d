"""The study beside torch_brain: its recipes, its table, and that both are scored alike."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny

from experiments.studies.against_torch_brain import main, recipe, table
from poyo_jax.presets import PRESETS

ROOT = Path(__file__).parents[2]
CELL = {"kind": "torch_brain", "num_steps": 40, "batch_size": 32, "seed": 3}


def test_the_published_rate_is_proportional_to_the_batch():
    peer, ours = (recipe(CELL | {"kind": kind}) for kind in ("torch_brain", "poyo_single_paper"))
    assert peer == ours
    assert peer.optim.name == "sparse_lamb" and peer.optim.learning_rate == pytest.approx(0.001)
    whole = recipe(CELL | {"batch_size": 128}).optim.learning_rate
    assert whole == pytest.approx(PRESETS["poyo_single_paper"]().optim.learning_rate)
    own = recipe(CELL | {"kind": "poyo_single"})
    assert own.optim.learning_rate == PRESETS["poyo_single"]().optim.learning_rate
    assert (own.run.num_steps, own.data.batch_size, own.data.seed) == (40, 32, 3)


def test_our_kinds_are_trained_and_scored(monkeypatch, tiny_data, tmp_path, capsys):
    monkeypatch.setitem(PRESETS, "poyo_single", tiny.config)
    arguments = [tiny_data, "--recordings", "session_0", "--kinds", "poyo_single", "--num-steps", 3]
    main([str(word) for word in [*arguments, "--batch-size", 4, "--workdir", tmp_path]])
    (cell,) = json.loads((tmp_path / "torch_brain.json").read_text())
    assert cell["kind"] == "poyo_single" and cell["r2"] < 1 and cell["train_s"] > 0
    assert f"| poyo_single | 0 | {cell['r2']:.3f} |" in capsys.readouterr().out


def test_runs_of_another_length_stand_apart(monkeypatch, tiny_data, tmp_path, capsys):
    monkeypatch.setitem(PRESETS, "poyo_single", tiny.config)
    for size in (3, 4):
        words = [tiny_data, "--recordings", "session_0", "--kinds", "poyo_single"]
        words += ["--num-steps", size, "--batch-size", 4, "--workdir", tmp_path]
        main([str(word) for word in words])
        (cell,) = json.loads((tmp_path / "torch_brain.json").read_text())
        assert cell["num_steps"] == size
    with pytest.raises(SystemExit):
        main([str(tiny_data), "--kinds", "poyo_singel"])
    assert "poyo_singel" in capsys.readouterr().err


def test_without_the_optimiser_of_torch_brain(tiny_data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tiny_data), "--sparse-lamb", str(tmp_path / "optim.py")])
    assert "optim.py is not there. The kind torch_brain needs optim.py" in capsys.readouterr().err


def test_the_table_has_a_line_for_every_kind_and_seed():
    cells = []
    for kind, r2 in (("poyo_single", 0.7), ("torch_brain", 0.5)):
        for name in ("a", "b"):
            cells.append(CELL | {"kind": kind, "recording": name, "r2": r2, "train_s": 60.4})
    failed = CELL | {"kind": "poyo_single", "recording": "c", "error": "DataError: no"}
    assert table([*cells, failed]).endswith("\n- poyo_single, c, seed 3: DataError: no")
    assert table(cells[:3]).splitlines() == [
        "| training | seed | a | b | training, s |",
        "|---|---|---|---|---|",
        "| torch_brain | 3 | 0.500 |  | 60 |",
        "| poyo_single | 3 | 0.700 | 0.700 | 60, 60 |",
    ]


def test_torch_brain_is_scored_and_trained_as_ours(tiny_data, tmp_path):
    """The same weights have the same score, and the same losses over twenty steps of training."""
    python, optimiser = (os.environ.get(f"POYO_{name}") for name in ("TORCH_PYTHON", "SPARSE_LAMB"))
    if not python or not optimiser:
        pytest.skip(
            "set POYO_TORCH_PYTHON to an interpreter with torch_brain and this package, and"
            " POYO_SPARSE_LAMB to optim.py of torch_brain 0.1.2 (tests/golden/README.md tells how)"
        )
    study, session = ROOT / "tests" / "torch_study.py", tiny_data / "session_0.h5"
    done = subprocess.run(
        [str(word) for word in (python, study, session, optimiser, tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    theirs, ours = found["scores"]
    assert theirs == pytest.approx(ours, abs=1e-5)
    theirs, ours = (np.array(losses) for losses in found["losses"])
    assert len(theirs) == 20 and np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
