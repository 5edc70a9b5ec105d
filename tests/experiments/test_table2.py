"""The script of Table 2, as its users run it, with small searches and trainings."""

import importlib
import json

import numpy as np
import pytest
import tiny

import poyo_jax
from poyo_jax import Session, load
from poyo_jax.baselines import BASELINES, KalmanSearch, NetworkSearch, WienerSearch
from poyo_jax.data.simulate import simulate_session

QUICK = {
    "wiener": WienerSearch(bin_sizes=(0.06,), reaches=((0.3, 0.12),)),
    "kalman": KalmanSearch(bin_sizes=(0.06,), delays=(0.0,), shrinkages=(0.0,), scales=(1.0,)),
    "mlp": NetworkSearch(
        network="mlp",
        hidden=(8,),
        bin_sizes=(0.06,),
        reaches=((0.3, 0.12),),
        num_draws=2,
        num_steps=100,
    ),
}


@pytest.fixture
def table2(monkeypatch):
    """The main function of the script."""
    for name, search in QUICK.items():
        monkeypatch.setitem(BASELINES, name, search)
    module = importlib.import_module("experiments.studies.table2")
    monkeypatch.setattr(module.real_small, "poyo_small", tiny.config)
    monkeypatch.setattr(module.real_small, "SINGLE_STEPS", (10, 20))
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def results(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_other_data(table2, tiny_run, tiny_data, tmp_path, capsys):
    common = [tiny_data, "--held-out", "session_2", "--workdir", tmp_path, "--preset", "small"]
    table2(*common, "--rows", "wiener", "mlp", "--seeds", 0, 1)
    out = capsys.readouterr().out
    found = results(tmp_path)
    assert [(job["row"], job["seed"]) for job in found] == [("wiener", 0), ("mlp", 0), ("mlp", 1)]
    scores = [job["r2"] for job in found[1:]]
    assert "| method | simulated (1) |" in out
    assert f"| MLP | {np.mean(scores):.3f} [{np.std(scores, ddof=1):.3f}] |" in out
    [trial, other] = found[1]["trials"]
    assert trial["hidden"] == 8 and trial["valid_r2"] != other["valid_r2"]

    path = tmp_path / "results.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second + third[:20])  # killed while the third was written
    rows = ["poyo_single", "poyo_mp_unit_identification", "poyo_1_gradual"]
    models = ["--poyo-mp", tiny_run, "--poyo-1", tmp_path / "none"]
    arguments = [*common, "--rows", "wiener", "mlp", *rows, "--seeds", 0, *models, "--num-steps", 2]
    table2(*arguments)
    out = capsys.readouterr().out
    lines = path.read_text().splitlines(keepends=True)
    assert lines[:2] == [first, second]
    found = [json.loads(line) for line in lines[3:]]
    assert [job["row"] for job in found] == rows
    assert [job for job in found if "error" in job] == found[-1:]
    for title, job in zip(
        ("POYO, single session", "POYO-MP + unit identification"), found, strict=False
    ):
        assert f"| {title} | {job['r2']:.3f} |" in out
    assert "| POYO-1 + finetuning | 1 failed |" in out
    assert "- POYO-1 + finetuning, session_2, seed 0: CheckpointError: " in out
    assert (tmp_path / "table2.md").read_text().strip() in out

    table2(*arguments)  # only what failed is tried again
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()[len(lines) :]] == [
        "poyo_1_gradual"
    ]
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == table


def test_small_models_are_pretrained_on_half_and_on_all_other_sessions(
    table2, tiny_data, tiny_run, tmp_path, monkeypatch
):
    """The model of all others is trained; that of a half is the one of another run."""
    from experiments.studies import real_small

    seen, pretrain = {}, real_small.pretrain

    def watched(sessions, workdir, num_steps, seed):
        seen[workdir] = [session.id for session in sessions], seed
        few = len(sessions) == 1
        return load(tiny_run) if few else pretrain(sessions, workdir, num_steps, seed)

    monkeypatch.setattr(real_small, "pretrain", watched)
    rows = ["poyo_mp_unit_identification", "poyo_1_unit_identification"]
    places = [tiny_data, "--held-out", "session_2", "--workdir", tmp_path, "--preset", "small"]
    table2(*places, "--seeds", 4, "--num-steps", 2, "--rows", *rows)
    assert not [job for job in results(tmp_path) if "error" in job]
    all_others = ["simulated/session_0", "simulated/session_1"]
    assert list(seen.values()) == [(all_others[:1], 4), (all_others, 4)]
    model = load(list(seen)[1])
    assert list(model.sessions.names) == all_others and model.config.data.seed == 4
    other = [tiny_data, "--held-out", "session_1", *places[3:]]
    table2(*other, "--seeds", 4, "--num-steps", 2, "--rows", rows[1])
    assert list(seen.values())[2] == (["simulated/session_0", "simulated/session_2"], 4)
    assert not [job for job in results(tmp_path) if "error" in job]


def test_models_of_other_settings_are_other_cells(table2, tiny_data, tmp_path):
    """The same command continues; one with other steps trains anew, and prints its own cells."""
    rows = ["--held-out", "session_2", "--rows", "poyo_single", "wiener", "--seeds", 0]
    places = [tiny_data, "--workdir", tmp_path, "--preset", "small", *rows]
    for steps in (2, 3, 2):
        table2(*places, "--num-steps", steps)
        cells = json.loads((tmp_path / "table2.json").read_text())
        recipes = {cell["row"]: cell["recipe"] for cell in cells}
        assert recipes == {"poyo_single": f"small, {steps} steps", "wiener": None}
    assert [job["row"] for job in results(tmp_path)] == ["poyo_single", "wiener", "poyo_single"]


def test_a_row_without_its_model_says_how_to_make_it(table2, tiny_data, tmp_path, capsys):
    table2(
        tiny_data,
        "--held-out",
        "session_2",
        "--workdir",
        tmp_path,
        "--seeds",
        0,
        "--rows",
        "poyo_1_gradual",
    )
    assert (
        "ConfigError: no model is given for this row: pretrain one (python -m poyo_jax pretrain"
        in capsys.readouterr().out
    )


def test_columns_of_the_paper(table2, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for number, name in enumerate(
        ("c_20161013_center_out_reaching", "t_20130820_random_target_reaching")
    ):
        simulate_session(
            number,
            session_id=name,
            num_units=12,
            duration=60.0,
            sampling_rate=50.0,
            task="random_target",
        ).save(tmp_path / "data" / f"{name}.h5")
    table2(tmp_path / "data", "--workdir", tmp_path / "run", "--rows", "wiener", "kalman")
    out = capsys.readouterr().out
    first, second = (job["r2"] for job in results(tmp_path / "run") if job["row"] == "wiener")
    row = next(line for line in out.splitlines() if line.startswith("| Wiener filter"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert (
        cells[0] == f"{first:.3f} (0.886 ± 0.015)" and cells[2] == f"{second:.3f} (0.592 ± 0.090)"
    )
    assert cells[1] == "absent (0.639 ± 0.028)" and cells[4] == "absent (0.544)"
    assert "| Monkey C - CO (1) | Monkey T - CO (0) | Monkey T - RT (1) |" in out
    assert (
        "- NLB-Maze: absent. python -m data_prep prepare nlb_mc_maze_full (download and prepared"
        " 0.7 GB)." in out
    )
    assert "Kalman filter, " not in out


def test_the_contiguous_protocol_is_causal_and_in_order(
    table2, tiny_data, tiny_run, tmp_path, capsys
):
    rows = ["wiener", "kalman", "mlp", "poyo_mp_unit_identification"]
    table2(
        tiny_data,
        "--held-out",
        "session_2",
        "--poyo-mp",
        tiny_run,
        "--workdir",
        tmp_path,
        "--seeds",
        0,
        "--num-steps",
        2,
        "--protocols",
        "contiguous",
        "random",
        "--rows",
        *rows,
    )
    out = capsys.readouterr().out
    found = results(tmp_path)
    for protocol, causal in (("contiguous", True), ("random", False)):
        chosen = [
            job["chosen"]
            for job in found
            if job["protocol"] == protocol and job["row"] in ("wiener", "mlp")
        ]
        assert ["causal" in text for text in chosen] == [causal] * 2
    assert out.index("protocol contiguous") < out.index("protocol random")
    assert len({round(job["r2"], 6) for job in found}) == 8
    session = importlib.import_module("experiments.studies.table2").contiguous(
        Session.open(tiny_data / "session_2.h5")
    )
    bounds = [list(session.split(name)) for name in ("train", "valid", "test")]
    np.testing.assert_allclose(bounds, [[(0, 42)], [(42, 48)], [(48, 60)]])


@pytest.mark.parametrize(("protocol", "step"), [("contiguous", 0.05), ("random", None)])
def test_steps_are_chosen_as_the_protocol_scores(
    table2, tiny_data, tmp_path, monkeypatch, protocol, step
):
    evaluate, steps = poyo_jax.evaluate, {"valid": [], "test": []}

    def recorded(model, sessions, split="test", **how):
        steps[split].append(how["causal_step"])
        return evaluate(model, sessions, split, **how)

    monkeypatch.setattr(poyo_jax, "evaluate", recorded)
    options = ["--workdir", tmp_path, "--seeds", 0, "--preset", "small", "--protocols", protocol]
    table2(tiny_data, "--held-out", "session_2", *options, "--rows", "poyo_single")
    assert steps["test"] == [step]
    assert len(steps["valid"]) == 2 and set(steps["valid"]) == {step}


def test_misuse_is_explained(table2, tiny_data, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        table2(tiny_data, "--workdir", tmp_path)
    assert exit.value.code == 2
    assert "none of the sessions of Table 2 is in" in capsys.readouterr().err
