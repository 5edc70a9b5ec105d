"""`pretrain --topology` as its users meet it when something is wrong: one sentence, at once."""

import pytest

from poyo_jax.aot import estimate, topology
from poyo_jax.aot.topology import Topology
from poyo_jax.cli.pretrain import main

DRY = ["poyo_1_fast", "--dry-run", "--topology"]


def refused(capsys, *arguments: str) -> str:
    """What the command says on standard error when it exits."""
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    (sentence,) = err.strip().splitlines()
    return sentence


def test_a_topology_that_does_not_exist(capsys):
    assert "no topology 'v5e:16x17'. Did you mean 'v5e:16x16'" in refused(capsys, *DRY, "v5e:16x17")


def test_a_topology_is_for_dry_runs(capsys):
    sentence = refused(capsys, "poyo_1_fast", "--topology", "v5e:4x4")
    assert sentence.endswith("Add --dry-run, or leave --topology out.")


@pytest.mark.parametrize("option", [("--decode", "cursor.vel"), ("--spread",)])
def test_a_topology_is_for_models_of_one_output(option, capsys):
    assert refused(capsys, *DRY, "v5e:4x4", *option) == (
        f"{option[0]} does not go with --topology, which estimates a model of one output. Leave it"
        " out."
    )


def test_without_a_topology_data_and_work_directory_are_needed(capsys):
    sentence = refused(capsys, "demo", "--dry-run", "--data", "sessions")
    assert sentence == "--workdir is missing. Give a folder: --workdir FOLDER."
    sentence = refused(capsys, "demo", "--workdir", "runs")
    assert sentence == "--data is missing. Give a folder: --data FOLDER."


def test_a_batch_that_the_chips_cannot_share(capsys, monkeypatch):
    monkeypatch.setattr(Topology, "devices", lambda self: [])
    monkeypatch.setattr(estimate, "make_mesh", lambda *_: FakeMesh)
    sentence = refused(capsys, *DRY, "v5e:4x4")
    assert sentence == (
        "--config.data.batch-size is 1024, which 3 devices cannot share evenly. Use 1026, or"
        " another number of devices."
    )


class FakeMesh:
    """A mesh of three devices."""

    size = 3


def test_a_compiler_that_is_not_installed(capsys, monkeypatch):
    def version(name):
        raise topology.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(topology.metadata, "version", version)
    assert refused(capsys, *DRY, "h200:8") == (
        "compiling for CUDA needs jax-cuda12-plugin, which is not installed. Install it: pip"
        ' install "poyo_jax[aot-cuda]".'
    )
