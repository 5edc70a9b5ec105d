"""Models that travel: older formats, parameters that changed on the way, the model card, and the
hub.
"""

import json
import os
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from poyo_jax import Session, decode, load
from poyo_jax.card import model_card
from poyo_jax.checkpoint.formats import FORMAT_VERSION, digest, migrated
from poyo_jax.checkpoint.store import find_step, read_metadata
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed import mesh
from poyo_jax.errors import CheckpointError, MissingDependencyError
from poyo_jax.tuning import TuningMap, save_map

GOLDEN = Path(__file__).parent / "golden_checkpoints"


@pytest.fixture(scope="module")
def session():
    with np.load(GOLDEN / "session.npz") as arrays:
        return Session.from_arrays(**dict(arrays), session_id="golden")


def saved_version(folder: Path) -> int:
    return json.loads((find_step(folder, None) / "meta" / "metadata").read_text())["format_version"]


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_every_format_is_read(version, session):
    folder = GOLDEN / f"v{version}"
    assert saved_version(folder) == version
    pretrained = load(folder)
    assert pretrained.config.run.remat == "none"
    values = decode(pretrained, session, split="all").values
    np.testing.assert_allclose(
        values, np.load(folder / "predictions.npz")["values"], rtol=0, atol=1e-4
    )


def test_an_old_model_is_saved_in_the_present_format(tmp_path, session):
    old = load(GOLDEN / "v1")
    old.save(tmp_path)
    assert saved_version(tmp_path) == FORMAT_VERSION
    assert read_metadata(find_step(tmp_path, None)).digest == digest(old.params)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path).params, old.params)


def test_large_tables_are_saved_and_read(tmp_path, monkeypatch):
    """In checkpoints they have more rows than there are names."""
    small = load(GOLDEN / "v2")
    monkeypatch.setattr(mesh, "SPLIT_ROWS", 40)
    table = np.random.default_rng(0).normal(size=(41, 8)).astype(np.float32)
    units = Vocab([f"golden/{number}" for number in range(40)])
    replace(small, units=units, params={**small.params, "unit_embedding": table}).save(tmp_path)
    found = load(tmp_path)
    assert found.units == units
    np.testing.assert_array_equal(found.params["unit_embedding"], table)


def test_versions_that_never_were():
    with pytest.raises(
        CheckpointError, match=rf"format version 9, but this poyo_jax reads up to {FORMAT_VERSION}"
    ):
        migrated({"format_version": 9})
    with pytest.raises(ValueError, match="format version 0"):
        migrated({"format_version": 0})


# --- parameters that changed


def test_any_other_number_has_another_digest():
    params = {"a": {"kernel": np.zeros((2, 3), np.float32)}, "b": np.ones(2, np.float32)}
    assert digest(params) == digest({"b": params["b"], "a": {"kernel": jax.numpy.zeros((2, 3))}})
    others = [
        {"a": {"kernel": np.zeros((3, 2), np.float32)}, "b": params["b"]},
        {"a": {"bias": params["a"]["kernel"]}, "b": params["b"]},
        {"a": params["a"], "b": np.nextafter(params["b"], 2)},
        {"a": {"kernel": np.full((2, 3), -0.0, np.float32)}, "b": params["b"]},
    ]
    assert len({digest(params), *map(digest, others)}) == 5


def test_parameters_that_were_replaced(tmp_path):
    """Sound to Orbax, but not what was saved."""
    original = load(GOLDEN / "v2")
    changed = jax.tree.map(lambda x: x.at[(0,) * x.ndim].add(1e-6), original.params)
    replace(original, params=changed).save(tmp_path)
    params = tmp_path / "checkpoints" / str(original.step) / "params"
    shutil.rmtree(params)
    shutil.copytree(GOLDEN / "v2" / "checkpoints" / str(original.step) / "params", params)
    with pytest.raises(
        CheckpointError,
        match=r"parameters in .* are not those that were saved there: their SHA-256 diff",
    ):
        load(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_byte_that_changed(tmp_path):
    """Wherever it lies among the arrays, loading ends in a sentence, or the parameters are the
    same.
    """
    expected = load(GOLDEN / "v2").params
    noticed = 0
    for place in (0.2, 0.5, 0.8):
        folder = tmp_path / str(place)
        shutil.copytree(GOLDEN / "v2", folder)
        for path in (folder / "checkpoints").glob("*/params/ocdbt.process_0/d/*"):
            content = bytearray(path.read_bytes())
            content[int(place * len(content))] ^= 1
            path.write_bytes(content)
        try:
            jax.tree.map(np.testing.assert_array_equal, load(folder).params, expected)
        except CheckpointError as error:
            assert "is damaged" in str(error) or "SHA-256" in str(error)
            noticed += 1
    assert noticed


# --- the model card


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card(tmp_path):
    pretrained = load(GOLDEN / "v2")
    pretrained.save(tmp_path, r2={"golden": 0.51234}, licence="cc-by-4.0")
    card = (tmp_path / "README.md").read_text()
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert front_matter(card)["library_name"] == "poyo_jax"
    assert "| – | 1 | 12 | cursor.vel (2 channels) |" in card
    assert "| golden | 0.5123 |" in card
    assert f"valid_r2: {pretrained.metrics['valid_r2']:.4f}" in card
    for section in (
        "Use",
        "Trained on",
        "What it reaches",
        "Intended use and limits",
        "Licence",
        "Citation",
    ):
        assert f"\n## {section}\n" in card
    assert card.count("```") % 2 == 0


def test_the_card_counts_by_data_set():
    pretrained = load(GOLDEN / "v2")
    readout = pretrained.readouts["golden"]
    sessions = ["perich/a", "perich/a-2", "flint/b"]
    several = replace(
        pretrained,
        sessions=Vocab(sessions),
        units=Vocab(["perich/a/u1", "perich/a/u/2", "perich/a-2/u1", "flint/b/u1", "perich/a0/x"]),
        readouts=dict.fromkeys(sessions, replace(readout, value_key="hand.vel")),
        metrics={},
    )
    card = model_card(several)
    assert (
        "| flint | 1 | 1 | hand.vel (2 channels) |\n| perich | 2 | 3 | hand.vel (2 channels) |"
        in card
    )
    assert "Not measured." in card


def test_a_card_that_is_there_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    load(GOLDEN / "v2").save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


# --- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A huggingface_hub that serves v2 as links into a cache, as the real one does; what it was
    asked, in order.
    """
    asked = []

    def snapshot_download(repo_id, *, revision=None, local_files_only=False, ignore_patterns=None):
        asked.append((repo_id, revision, local_files_only, ignore_patterns))
        if repo_id == "lab/missing":
            raise OSError("404 Client Error\nmore")
        folder = tmp_path / "snapshot"
        for path in GOLDEN.glob("v2/**/*"):
            if path.is_file():
                link = folder / path.relative_to(GOLDEN / "v2")
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        save_map(
            folder,
            load(GOLDEN / "v2").step,
            TuningMap(np.zeros(1), np.ones(1), np.ones((1, 2)), np.zeros(2)),
        )
        return str(folder)

    monkeypatch.setitem(
        sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download)
    )
    return asked


@pytest.mark.parametrize(
    "address, revision", [("hf://lab/poyo-mp", None), ("hf://lab/poyo-mp@v1.0", "v1.0")]
)
@pytest.mark.parametrize("local", [False, True])
def test_models_of_the_hub(address, revision, local, hub):
    pretrained = load(address, local_files_only=local)
    assert hub == [("lab/poyo-mp", revision, local, ["*/opt_state/*"])]
    jax.tree.map(np.testing.assert_array_equal, pretrained.params, load(GOLDEN / "v2").params)
    assert pretrained.tuning is not None and pretrained.tuning.weights.shape == (1, 2)


def test_models_that_the_hub_does_not_give(hub):
    with pytest.raises(
        CheckpointError,
        match=r"hf://lab/missing cannot be downloaded \(OSError: 404 Client Error\)\. Ch",
    ):
        load("hf://lab/missing")
    with pytest.raises(CheckpointError, match="hf://lab/missing is not on this computer"):
        load("hf://lab/missing", local_files_only=True)


@pytest.mark.parametrize("address", ["hf://poyo", "hf://lab/poyo/x", "hf://lab/poyo@", "hf://"])
def test_addresses_that_are_none(address, hub):
    with pytest.raises(
        CheckpointError, match=r"is no address of a model. Write hf://organisation/name"
    ):
        load(address)
    assert not hub


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingDependencyError,
        match=r"hf://lab/poyo needs huggingface_hub, .*pip install poyo_jax\[hub\]",
    ):
        load("hf://lab/poyo")


def test_nothing_else_is_asked_of_the_hub(hub):
    load(os.fspath(GOLDEN / "v2"), local_files_only=True)
    assert not hub
