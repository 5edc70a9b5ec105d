"""Models that come with the package: by name, whole, small, and honest about what is not there."""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import poyo_jax
from experiments.tools import ship
from poyo_jax import shipped
from poyo_jax.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden_checkpoints" / "v3"
REAL = shipped.FOLDER


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder that stands for that of the package, without a model."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(ship, "FOLDER", tmp_path)
    (tmp_path / "models.json").write_text("{}")
    return tmp_path


def put(name: str = "reaching") -> None:
    ship.main([str(GOLDEN), "--name", name, "--summary", "A tiny one.", "--licence", "cc0-1.0"])


def test_the_models_of_the_package_are_those_that_are_listed():
    entries = json.loads((REAL / "models.json").read_text())
    assert {path.stem for path in REAL.glob("*.safetensors")} == set(entries)
    for name, entry in entries.items():
        content = (REAL / f"{name}.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert "python -m" in (REAL / f"{name}.md").read_text()  # the command that made it
        assert poyo_jax.load(name).num_backbone > 0
    assert sum(path.stat().st_size for path in REAL.glob("*")) <= shipped.MAX_BYTES + 100_000
    assert set(poyo_jax.pretrained_models()) == set(entries)


def test_a_model_is_loaded_by_its_name(folder, capsys):
    put()
    assert poyo_jax.pretrained_models() == {"reaching": "A tiny one."}
    found = poyo_jax.load("reaching")
    jax.tree.map(np.testing.assert_array_equal, found.params, poyo_jax.load(GOLDEN).params)
    assert 'license: "cc0-1.0"' in (folder / "reaching.md").read_text()
    (folder / "reaching.md").write_text("edited")
    put()
    assert (folder / "reaching.md").read_text() == "edited"


def test_a_folder_of_that_name_goes_before(folder, tmp_path, monkeypatch):
    put()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reaching").mkdir()
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in .*/reaching/checkpoints"):
        poyo_jax.load("reaching")


def test_a_misspelt_name(folder):
    with pytest.raises(CheckpointError, match=r"no model 'reachng' comes .* this version has none"):
        poyo_jax.load("reachng")
    put()
    sentence = r"no model 'reachng' comes with poyo_jax\. Did you mean 'reaching'\? .*: reaching\."
    with pytest.raises(CheckpointError, match=sentence):
        poyo_jax.load("reachng")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"x"), Path.unlink])
def test_a_damaged_file(folder, damage):
    put()
    damage(folder / "reaching.safetensors")
    sentence = "the model 'reaching' in the installed package is damaged: .* Install poyo_jax again"
    with pytest.raises(CheckpointError, match=sentence):
        poyo_jax.load("reaching")


@pytest.mark.parametrize("text", ["", "[]", '{"reaching": {}}', '{"reaching": 3}'])
def test_a_damaged_list(folder, text):
    (folder / "models.json").write_text(text)
    for use in (poyo_jax.pretrained_models, lambda: poyo_jax.load("reaching")):
        with pytest.raises(CheckpointError, match="the list of models in the installed package"):
            use()


def test_models_that_are_not_put_into_the_package(folder, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        put("a model")
    assert "has other characters than" in capsys.readouterr().err
    monkeypatch.setattr(ship, "MAX_BYTES", 1000)
    with pytest.raises(SystemExit, match="2"):
        put()
    assert "bytes, more than 1000. Ship a smaller one" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["models.json"]
