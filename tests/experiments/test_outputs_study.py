"""The study of several outputs: its cells and tables. Nothing is trained."""

from pathlib import Path

import pytest

from experiments.studies.outputs import REAL, SIMULATED, Outputs, cells, main, tables


def test_the_command_takes_a_folder_or_none(monkeypatch):
    given = []
    monkeypatch.setattr("experiments.studies.outputs.outputs", given.append)
    main(["recordings", "--seeds", "0", "1"])
    main([])
    assert given[0].data.name == "recordings" and given[1].data is None
    assert given[0].seeds == (0, 1)


def test_every_comparison_has_its_cells():
    options = Outputs(data=Path(), seeds=(0, 1))
    wanted = list(cells(options, [SIMULATED, REAL]))
    assert [cell["seed"] for cell in wanted] == sorted(cell["seed"] for cell in wanted)
    assert len({tuple(cell.values()) for cell in wanted}) == len(wanted)
    assert sum(cell["what"] == "together" for cell in wanted) == 2 * 2 * 4
    assert sum(cell["what"] == "adapt" for cell in wanted) == 2 * (2 + 1) * 3
    assert sum(cell["what"] == "intervals" for cell in wanted) == 4


@pytest.mark.parametrize("failed", [False, True])
def test_tables_have_means_over_seeds_and_what_failed(failed):
    options = Outputs(seeds=(0, 1))
    results = []
    for cell in cells(options, [SIMULATED]):
        if cell["what"] == "together":
            bonus = 0.02 if cell["model"] == "together" else 0.0
            kinds = ("velocity", "direction", "velocity+emg")
            scores = {kind: dict.fromkeys(kind.split("+"), 0.5 + bonus) for kind in kinds}
            results.append(cell | {"scores": scores})
        elif cell["what"] == "adapt":
            results.append(cell | {"metric": "r2", "score": 0.25 + cell["seed"] / 2})
        else:
            claims = {"coverage": {"0.5": 0.5, "0.8": 0.78, "0.95": 0.9}, "error": 0.01}
            classes = {"coverage": {}, "error": 0.02}
            found = {"known, velocity": claims, "known, direction": classes}
            results.append(cell | {"intervals": found})
    if failed:
        results[0] = {**results[0], "error": "DataError: no"}
    lines = list(tables(results))
    one = "0.520 [0.000] | 0.500 [0.000] | +0.020"
    assert f"| simulated | velocity+emg | emg | {one} |" in lines
    assert "| simulated | emg | 0.500 [0.354] | 0.500 [0.354] | 0.500 [0.354] |" in lines
    claimed = "50.0 [0.0] | 78.0 [0.0] | 90.0 [0.0] | 0.010"
    assert f"| simulated | known, velocity | {claimed} |" in lines
    assert "| simulated | known, direction | – | – | – | 0.020 |" in lines
    assert any("DataError: no" in line for line in lines) == failed
