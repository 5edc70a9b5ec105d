"""The commands that adapt and evaluate, and the study of strategies, as their users run them."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from poyo_jax import Session, baselines, evaluate, load, open_sessions
from poyo_jax.cli import finetune
from poyo_jax.finetune import STRATEGIES

NEW = "simulated/session_2"


MODULES = {
    "finetune": "poyo_jax.cli.finetune",
    "evaluate": "poyo_jax.cli.evaluate",
    "adapt_small": "experiments.studies.adapt_small",
}


@pytest.fixture
def script():
    """Run a script by its name."""

    def run(name: str, *arguments) -> None:
        importlib.import_module(MODULES[name]).main([str(argument) for argument in arguments])

    return run


def refused(script, capsys, *arguments) -> str:
    """What a script says on standard error when it exits with status 2."""
    with pytest.raises(SystemExit) as exit:
        script(*arguments)
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return " ".join(err.split())


def test_adapted_and_evaluated(script, tiny_run, tiny_data, tmp_path, capsys):
    new = tiny_data / "session_2.h5"
    script(
        "finetune", tiny_run, new, "--out", tmp_path / "new", "--num-steps", 4, "--strategy", "full"
    )
    out = capsys.readouterr().out
    assert (
        "1 session, 12 units" in out
        and f"units: 24 kept, 12 new (first {NEW}/unit_00), 0 dropped" in out
    )
    adapted = load(tmp_path / "new")
    assert NEW in adapted.sessions

    script("evaluate", tmp_path / "new", tiny_data, "--predictions", tmp_path / "predictions")
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:5]] == [
        f"simulated/session_{i}" for i in range(3)
    ]
    expected = evaluate(adapted, open_sessions(tiny_data)).predictions[NEW]
    with np.load(tmp_path / "predictions" / "simulated_session_2.npz") as found:
        for name in ("times", "values", "targets", "scored"):
            np.testing.assert_array_equal(found[name], getattr(expected, name))


def test_help_lists_the_strategies(capsys):
    assert ("auto", *STRATEGIES) == finetune.STRATEGIES
    with pytest.raises(SystemExit, match="0"):
        finetune.main(["--help"])
    words = capsys.readouterr().out.replace("│", " ").split()
    assert "[-h] [OPTIONS] MODEL SESSIONS" in " ".join(words)
    assert f"--strategy{finetune.CHOICES}" in "".join(words)


def test_misuse_changes_nothing_on_disk(script, tiny_run, tiny_data, tmp_path, capsys):
    new, out = tiny_data / "session_2.h5", tmp_path / "out"
    text = refused(script, capsys, "finetune", tiny_run, new, "--out", out, "--strategy", "lorra")
    assert text.startswith("there is no strategy 'lorra'. Did you mean 'lora'?")
    text = refused(script, capsys, "finetune", tiny_run, tiny_data, "--out", out)
    assert (
        "the model knows session 'simulated/session_0' already. Decode it directly, fit its rows"
        " again" in text
    )
    text = refused(
        script, capsys, "finetune", tiny_run, new, "--out", out, "--num-labelled-seconds", 0.5
    )
    assert (
        "0.5 s of labels are fewer than a window of 1 s. Label at least that much of session"
        in text
    )
    assert not out.exists()
    text = refused(script, capsys, "finetune", tiny_run, new, "--out", tiny_run)
    assert "holds a model already; give another --out, or delete that one first." in text
    assert "does not know session 'simulated/session_2'" in refused(
        script, capsys, "evaluate", tiny_run, new
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "session_2.h5").symlink_to(new)
    text = refused(script, capsys, "evaluate", tiny_run, other)
    assert "the model does not know session 'simulated/session_2' of" in text


def test_the_comparison_goes_on_where_it_stopped(
    script, tiny_run, tiny_data, tmp_path, capsys, monkeypatch
):
    study = importlib.import_module(MODULES["adapt_small"])
    monkeypatch.setattr(study, "PLAIN_RATES", study.PLAIN_RATES[:1])
    arguments = [
        "adapt_small",
        tiny_data,
        "--model",
        tiny_run,
        "--workdir",
        tmp_path,
        "--held-out",
        "session_2",
        "--strategies",
        "unit_identification",
        "--amounts",
        5,
        0,
        "--seeds",
        0,
        "--row-rates",
        0.05,
        "--num-steps",
        2,
    ]
    script(*arguments, "--what", "table")
    first = (tmp_path / "results.jsonl").read_text()
    assert len(first.splitlines()) == 4
    script(*arguments)
    results = (tmp_path / "results.jsonl").read_text()
    assert results.startswith(first)
    lines = [json.loads(line) for line in results.splitlines()]
    assert [line["what"] for line in lines] == ["table"] * 4 + ["speed"] * 2 + ["rates"]
    assert {line["strategy"] for line in lines} == {"wiener_filter", "unit_identification"}
    assert all(np.isfinite([line["valid_r2"], line["test_r2"]]).all() for line in lines)
    capsys.readouterr()
    script(*arguments)
    out = capsys.readouterr().out
    assert (tmp_path / "results.jsonl").read_text() == results
    assert "| session | strategy | 5 s | all |" in out and "| strategy | 0.05 |" in out
    assert out.count("| session_2 | 0 | ") == 2
    assert (tmp_path / "adapt_small.md").read_text() in out
    published = sorted(
        job["test_r2"] for job in json.loads((tmp_path / "adapt_small.json").read_text())
    )
    assert published == pytest.approx(sorted(line["test_r2"] for line in lines), rel=1e-3)


def test_the_strategy_that_is_taken_is_kept(
    script, tiny_run, tiny_data, tmp_path, capsys, monkeypatch
):
    names = ("unit_identification", "gradual", "from_scratch")
    for name in names:
        short = replace(
            STRATEGIES[name], num_steps=2, unit_steps=min(STRATEGIES[name].unit_steps, 1)
        )
        monkeypatch.setitem(STRATEGIES, name, short)
    arguments = ["adapt_small", tiny_data, "--model", tiny_run, "--workdir", tmp_path]
    arguments += ["--what", "table", "--held-out", "session_2", "--amounts", 12, "--seeds", 0]
    arguments += ["--strategies", "auto"]
    script(*arguments)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    [found] = [job for job in map(json.loads, lines) if job["strategy"] == "auto"]
    assert found["taken"] in names and np.isfinite([found["valid_r2"], found["test_r2"]]).all()
    assert {*found["folds"]} == {*names, "wiener_filter"}
    assert all(len(scores) == 3 for scores in found["folds"].values())
    assert "| session_2 | auto |" in capsys.readouterr().out
    text = refused(script, capsys, *arguments, "--num-steps", 2)
    assert '"auto" compares strategies with steps of their own: no --num-steps.' in text


def test_a_network_learns_from_the_same_labels(
    script, tiny_run, tiny_data, tmp_path, capsys, monkeypatch
):
    quick = baselines.NetworkSearch(
        network="gru", hidden=(8,), bin_sizes=(0.06,), reaches=((0.3, 0.1),), num_draws=1
    )
    fit, seen = baselines.fit_baseline, []

    def recorded(name, session, *rest, **options):
        seen.append((name, session.split("train").duration, session.split("valid")))
        return fit(name, session, *rest, **options, search=quick)

    monkeypatch.setattr(baselines, "fit_baseline", recorded)
    arguments = ["adapt_small", tiny_data, "--model", tiny_run, "--workdir", tmp_path]
    arguments += ["--what", "table", "--held-out", "session_2", "--amounts", 6, "--seeds", 0]
    script(*arguments, "--strategies", "gru")
    valid = Session.open(tiny_data / "session_2.h5").split("valid")
    assert seen == [("gru", pytest.approx(6), valid)]
    assert "| session_2 | gru |" in capsys.readouterr().out


def test_when_a_fit_is_good_enough_is_read_off_its_curve():
    until = importlib.import_module("experiments.studies.adapt_small").until
    curve = [[0, 1.0, 0.1, 0.5], [10, 2.4, 0.9, 0.6], [20, 3.6, 0.95, 0.7]]
    assert [until(curve, 2, 1.0), until(curve, 3, 0.6), until(curve, 3, 0.9)] == [
        "20 steps, 4 s",
        "10 steps, 2 s",
        "never",
    ]
