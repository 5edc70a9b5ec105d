"""The benchmark runs and reports what it says it does; its figures are nobody's promise."""

import json
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_benchmark_without_a_peer_reports_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(REPOSITORY / "experiments"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    sys.modules.pop("benchmark", None)
    from benchmark import main

    figures = tmp_path / "figures.json"
    options = ["--preset", "demo", "--batch-size", "2", "--rounds", "2", "--fixed-tokens", "700"]
    main(["--what", "train", *options, "--json", str(figures)])
    ours = json.loads(figures.read_text())["contenders"]["poyo_jax"]
    assert len(ours["seconds"]) == 2 and min(ours["seconds"]) > 0
    assert ours["shapes"] == 1 and 0 <= ours["padding"] < 1 and ours["peak_gb"] > 0
    assert "train, demo, batch 2" in capsys.readouterr().out
