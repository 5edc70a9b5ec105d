"""The study of a unit encoder, as its users run it, with tiny sessions and models."""

import importlib
import json
import shutil
from dataclasses import replace

import numpy as np
import tiny

from poyo_jax.finetune import STRATEGIES

NAMES = ("indy_20161003_01", "indy_20161024_03", "indy_20161207_02")
ROWS = ["last_rows", "mean_rows", "encoder", "wiener_fixed", "fit", "fit_encoder"]


def test_all_rows_are_filled_once(tiny_data, tmp_path, monkeypatch, capsys):
    for number, name in enumerate(NAMES):
        shutil.copy(tiny_data / f"session_{number}.h5", tmp_path / f"{name}.h5")
    study = importlib.import_module("experiments.studies.unit_encoder")
    monkeypatch.setattr(study.real_small, "poyo_small", tiny.config)
    short = replace(STRATEGIES["unit_identification"], num_steps=4)
    monkeypatch.setitem(STRATEGIES, "unit_identification", short)
    workdir = tmp_path / "runs"
    workdir.mkdir()
    of_indy = {"row": "unit_identification", "session": NAMES[-1], "seconds": 0.0, "seed": 0}
    others = {"row": "gru", "session": NAMES[-1], "seconds": 0.0, "seed": 0}
    lines = [json.dumps(cell | {"r2": 0.77}) for cell in (of_indy, others)]
    (workdir / "results.jsonl").write_text("\n".join(lines) + "\n")
    options = [tmp_path, "--workdir", workdir, "--held-out", NAMES[-1], "--seconds", 10]
    options = [str(option) for option in [*options, "--pretrain-steps", 4]]
    study.main(options)
    done = (workdir / "unit_encoder.jsonl").read_text()
    found = [json.loads(line) for line in done.splitlines()]
    assert [cell["row"] for cell in found] == ROWS
    assert np.isfinite([cell["r2"] for cell in found]).all()
    table = (workdir / "unit_encoder.md").read_text()
    for line in ("| no labels | unit encoder |", "| 10 s of labels | fit_units |"):
        assert line in table
    assert "| all labels | fit_units | 0.770 | 0.770 |" in table and "GRU" not in table
    study.main(options)
    assert (workdir / "unit_encoder.jsonl").read_text() == done
    assert table.strip() in capsys.readouterr().out
