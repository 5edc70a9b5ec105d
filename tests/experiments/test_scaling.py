"""The scripts that simulate a laboratory and draw Figure 1, as their users run them, with tiny
trainings.
"""

import importlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import tiny

from poyo_jax import open_sessions
from poyo_jax.data.simulate import Laboratory
from poyo_jax.presets import PRESETS

LAB = Laboratory(num_sessions=60, duration=20.0)


@pytest.fixture
def scaling(monkeypatch):
    """The script of Figure 1; its preset demo is a tiny model."""
    monkeypatch.setitem(PRESETS, "demo", tiny.config)
    return importlib.import_module("experiments.studies.scaling")


def run(script, *arguments):
    script.main([str(argument) for argument in arguments])


def results(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_figure_1_of_a_folder(scaling, tiny_data, tmp_path, capsys):
    sizes = ["--depths", 1, "--num-sessions", 2, "--num-steps", 2]
    arguments = [tiny_data, "--held-out", "session_2", "--workdir", tmp_path, *sizes]
    run(scaling, *arguments)
    out = capsys.readouterr().out
    [cell] = results(tmp_path)
    assert (cell["depth"], cell["dim"], cell["num_steps"], cell["seed"]) == (1, 16, 2, 0)
    assert cell["hours"] == pytest.approx(84 / 3600, abs=1e-3) and cell["parameters"] > 1000
    assert sorted(cell["test_sessions"]) == ["session_0", "session_1"] and cell[
        "transfer_sessions"
    ] == ["session_2"]
    for measure in ("test", "transfer"):
        assert f"| 1 | {cell[measure]:.3f} | no fit: too few sizes |" in out
    assert (tmp_path / "scaling.md").read_text().strip() in out
    assert (tmp_path / "scaling.png").stat().st_size > 10_000

    run(scaling, *arguments)
    assert results(tmp_path) == [cell]


@pytest.mark.parametrize("preset", ["demo", "poyo_small", "poyo_1"])
def test_models_differ_in_depth_and_seed_alone(preset):
    script = importlib.import_module("experiments.studies.scaling")
    options = script.Scaling(preset=preset)
    shallow, deep = script.configure(options, 2, 0), script.configure(options, 24, 1)
    assert (deep.model.depth, deep.data.seed, deep.optim.unit_start) == (24, 1, "tuning")
    model, data = replace(deep.model, depth=2), replace(deep.data, seed=0)
    assert replace(deep, model=model, data=data) == shallow


def lawful(failing):
    """Scores by a law, in place of a training; some numbers of sessions fail."""

    def fill(cell, *_):
        if cell["num_sessions"] in failing:
            raise ValueError("out of luck")
        r2 = 0.9 - 0.4 / cell["num_sessions"] ** 0.7 - 0.1 / cell["depth"] + 0.01 * cell["seed"]
        return {
            "parameters": 10_000 * cell["depth"],
            "hours": 1.0,
            "test": r2,
            "transfer": r2 - 0.1,
        }

    return fill


def test_what_fails_is_shown_and_tried_again(scaling, tmp_path, capsys, monkeypatch):
    sessions = [LAB.describe(i) for i in range(len(LAB))]
    monkeypatch.setattr(scaling, "find_data", lambda options: (sessions[2:], sessions[:2]))
    monkeypatch.setattr(scaling, "fill", lawful(failing=[18]))
    run(scaling, "--workdir", tmp_path, "--depths", 2, 6, "--seeds", 0, 1)
    out = capsys.readouterr().out
    assert re.search(
        r"\| 6 \| 0.642 \[0.007\] \| 0.774 \[0.007\] \| failed \| 0.8\d\d \[0.007\] \| ", out
    )
    assert "- depth 6, 18 sessions, seed 1: ValueError: out of luck" in out
    assert len(results(tmp_path)) == 16

    monkeypatch.setattr(scaling, "fill", lawful(failing=[]))
    run(scaling, "--workdir", tmp_path, "--depths", 2, 6, "--seeds", 0, 1)
    assert {cell["num_sessions"] for cell in results(tmp_path)[16:]} == {18}
    out = capsys.readouterr().out
    assert "failed" not in out
    [laws, _] = np.array_split(
        np.array(re.findall(r"([\d.]+) \+ ([\d.]+) N\^-([\d.]+) \|", out), float), 2
    )
    np.testing.assert_allclose(laws, [[0.145, 0.4, 0.7], [0.112, 0.4, 0.7]], atol=0.02)


def test_laws_are_not_fitted_to_too_little_and_stay_in_bounds(scaling):
    assert scaling.power_law({1.0: [0.1], 2.0: [0.2, 0.3]}) is None
    level, slope, _ = scaling.power_law({1.0: [0.5], 2.0: [0.4], 4.0: [0.3]})  # more is worse
    assert (level, slope) == pytest.approx((0.6, 0.0))
    level, slope, exponent = scaling.power_law(
        {1.0: [0.0], 2.0: [0.5], 4.0: [0.75], 8.0: [0.9]}
    )  # heading beyond 1
    assert (
        level == 0.0
        and slope == pytest.approx(1.0, abs=0.05)
        and exponent == pytest.approx(1.03, abs=0.1)
    )


def test_sessions_are_simulated_where_none_are_given(scaling, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling, "fill", lawful(failing=[]))
    monkeypatch.setattr(scaling, "laboratory", lambda options: replace(LAB, num_sessions=5))
    run(scaling, "--workdir", tmp_path, "--depths", 1, "--num-sessions", 2, 3)
    assert "5 sessions of 20 s for" in capsys.readouterr().out
    found = results(tmp_path)
    assert len(list((tmp_path / "sessions").glob("*.h5"))) == 5
    names = [LAB.describe(i).session_id for i in range(4)]
    assert (found[0]["transfer_sessions"], found[0]["test_sessions"]) == (names[:2], names[2:])


def test_too_little_data_is_explained(scaling, tiny_data, tmp_path, capsys):
    for folder, count in ((tiny_data, 1), (tmp_path / "nothing", 0)):
        with pytest.raises(SystemExit) as exit:
            run(scaling, folder, "--num-sessions", 2, 30)
        assert exit.value.code == 2
        text = capsys.readouterr().err
        assert (
            f"{folder} has {count} sessions besides the held-out ones, but pretraining takes 30."
            in text
        )
        assert (
            "python -m poyo_jax simulate sessions/ --num-sessions 32 (about 48 MB)" in text
            and "13 GB" in text
        )


def test_a_laboratory_is_written_and_extended(scaling, tmp_path, capsys):
    simulate = importlib.import_module("poyo_jax.cli.simulate")
    for count, missing in ((2, 2), (3, 1)):
        run(simulate, tmp_path / "lab", "--num-sessions", count, "--duration", 20)
        assert (
            f"{count} sessions of 20 s for {tmp_path / 'lab'}, {missing} missing, about"
            in capsys.readouterr().out
        )
    assert len(open_sessions(tmp_path / "lab")) == 3
    with pytest.raises(SystemExit) as exit:
        run(simulate, tmp_path / "lab", "--duration", 30)
    assert (
        exit.value.code == 2
        and "another laboratory (duration 20.0, not 30.0)" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        run(simulate, tmp_path / "lab", "--duration", 3)
    assert "needs at least 20" in " ".join(capsys.readouterr().err.replace("│", " ").split())
