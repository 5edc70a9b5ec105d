"""The benchmark runs and reports what it says it does; its figures are nobody's promise."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from experiments.benchmarks import loader, speed
from experiments.benchmarks.ours import make_call
from poyo_jax.config import ModelConfig
from poyo_jax.data.simulate import simulate_study
from poyo_jax.presets import PRESETS

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["--preset", "demo", "--batch-size", "2", "--rounds", "2", "--fixed-tokens", "700"]


class Here:
    """A contender in this process, which saves the start of one of its own."""

    def __init__(self, tree, settings):
        self.answer, self.facts = make_call(settings)
        self.numbers = itertools.count()

    def call(self):
        return self.answer(next(self.numbers)) | {"peak_gb": 1.0}

    def close(self):
        pass


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the benchmark of a tiny model; figures by contender, and what it printed."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setitem(PRESETS, "demo", tiny.config)

    def run(*arguments):
        speed.main([*SMALL, *arguments, "--json", str(tmp_path / "figures.json")])
        return json.loads((tmp_path / "figures.json").read_text())[
            "contenders"
        ], capsys.readouterr().out

    return run


@pytest.mark.unchecked  # the benchmark makes windows of sessions of a simpler kind
def test_training_without_a_peer(run, monkeypatch):
    monkeypatch.setattr(speed, "ours", Here)
    monkeypatch.setattr("experiments.benchmarks.ours.MATMUL_SIZE", 64)
    contenders, out = run("--what", "train", "--depth", "1", "2")
    assert list(contenders) == ["poyo_jax, 1 layers", "poyo_jax, 2 layers"]
    for ours in contenders.values():
        assert len(ours["seconds"]) == 2 and 0 < ours["fastest s"] <= ours["median s"]
        assert (
            ours["windows/s"] == 2 / ours["fastest s"]
            and ours["tokens/s"] == 1400 / ours["fastest s"]
        )
        assert (
            0 < ours["spikes/s"] < ours["tokens/s"]
            and 0 <= ours["padding"] < 1
            and ours["peak GB"] > 0
        )
        assert ours["compile s"] > 0 and ours["facts"]["shapes"] == 1
        assert 0 < ours["of matmul rate"] == ours["GFLOP/s"] / ours["matmul GFLOP/s"]
    few, many = (row["facts"]["gflop"] for row in contenders.values())
    assert few < many < 2 * few
    assert "train, demo, batch 2" in out and "| poyo_jax, 2 layers |" in out
    assert "time per window of poyo_jax, 2 layers / poyo_jax, 1 layers: fastest" in out


def test_inference_on_two_devices(run):
    contenders, out = run("--what", "inference", "--cpu-devices", "2", "--rounds", "1")
    assert contenders["poyo_jax, 2 devices"]["facts"]["windows"] == 2 and "inference, demo" in out


def test_the_files_of_another_revision_are_there_while_needed():
    from experiments.benchmarks.race import source_tree

    if not (REPOSITORY / ".git").exists():
        pytest.skip("these sources are not a git repository")
    with source_tree("HEAD") as tree:
        assert (tree / "experiments").is_dir()
    assert not tree.parent.exists()


def test_the_input_pipeline_from_session_files(run, monkeypatch):
    def save_sessions(folder):
        for session in simulate_study(0, 2, num_units=(20, 40), duration=40.0):
            session.save(folder / f"{session.session_id}.h5")

    monkeypatch.setattr(loader, "save_sessions", save_sessions)
    monkeypatch.setattr(speed, "LOADER_WORKERS", (0, 1))
    contenders, _ = run("--what", "pipeline", "--rounds", "1")
    assert set(contenders) == {f"poyo_jax, {workers} worker processes" for workers in (0, 1)}
    ours = contenders["poyo_jax, 1 worker processes"]
    assert ours["windows/s"] == 200 / ours["fastest s"] and ours["spikes/s"] > 0


def test_windows_decoded_one_by_one(run):
    contenders, out = run("--what", "window", "--rounds", "4")
    ours = contenders["poyo_jax"]
    assert len(ours["seconds"]) == 100 and ours["median s"] <= ours["p99 s"]
    assert "window, demo, batch 1" in out


def test_members_are_contenders(monkeypatch):
    monkeypatch.setitem(PRESETS, "demo", tiny.config)
    variants = speed.variants(speed.Benchmark(preset="demo", members=(1, 4)))
    assert list(variants) == ["poyo_jax, 1 members", "poyo_jax, 4 members"]
    one, four = (ModelConfig(**change["model"]) for change in variants.values())
    assert one == tiny.config().model and four == replace(one, members=4)
