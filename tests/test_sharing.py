"""Models that travel: older formats, parameters that changed on the way, the model card, and the
hub.
"""

import json
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from etils import epath

from poyo_jax import Session, decode, load
from poyo_jax.card import model_card
from poyo_jax.checkpoint.digest import digest_of_arrays
from poyo_jax.checkpoint.files import list_files
from poyo_jax.checkpoint.formats import FORMAT_VERSION, parse
from poyo_jax.checkpoint.store import find_step, read_step
from poyo_jax.config import UnitDropoutConfig
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed import mesh
from poyo_jax.errors import CheckpointError, MissingDependencyError
from poyo_jax.fit_config import FitConfig
from poyo_jax.tuning import TuningMap

GOLDEN = Path(__file__).parent / "golden_checkpoints"
TUNING = TuningMap(np.zeros(1), np.ones(1), np.full((1, 8), 0.1), np.zeros(8))


@pytest.fixture(scope="module")
def session():
    with np.load(GOLDEN / "session.npz") as arrays:
        return Session.from_arrays(**dict(arrays), session_id="golden")


def saved_version(folder: Path) -> int:
    return json.loads((find_step(folder, None) / "meta" / "metadata").read_text())["format_version"]


@pytest.mark.parametrize("version", range(2, FORMAT_VERSION + 1))
def test_every_format_is_read(version, session):
    folder = GOLDEN / f"v{version}"
    assert saved_version(folder) == version
    pretrained = load(folder)
    assert pretrained.config.run.remat == "none"
    values = decode(pretrained, session, split="all", stitch="mean").values
    expected = np.load(folder / "predictions.npz")["values"]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_an_old_model_is_saved_in_the_present_format(tmp_path, session):
    old = load(GOLDEN / "v2")
    old.save(tmp_path)
    assert saved_version(tmp_path) == FORMAT_VERSION
    assert read_step(find_step(tmp_path, None)).arrays == {"params": digest_of_arrays(old.params)}
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


@pytest.mark.parametrize(("version", "sentence"), [(9, "up to 3. Update"), (1, "from 2 to 3. Tr")])
def test_formats_that_cannot_be_read(version, sentence, tmp_path):
    with pytest.raises(CheckpointError, match=rf"format version {version}, but .*{sentence}"):
        parse({"format_version": version}, epath.Path(tmp_path))


def test_the_tuning_map_of_format_2_is_read(tmp_path):
    folder = shutil.copytree(GOLDEN / "v2", tmp_path / "model")
    assert load(folder).tuning is None
    (folder / "tuning_maps").mkdir()
    (folder / "tuning_maps" / "50.json").write_text(json.dumps(TUNING.to_dict()))
    assert load(folder).tuning.to_dict() == TUNING.to_dict()
    (folder / "tuning_maps" / "50.json").write_text('{"mean": [1]}')
    with pytest.raises(CheckpointError, match="is damaged"):
        load(folder)


def test_a_model_of_format_2_without_a_digest_is_noticed(tmp_path):
    folder = shutil.copytree(GOLDEN / "v2", tmp_path / "model")
    path = folder / "checkpoints" / "50" / "meta" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": None}))
    with pytest.raises(CheckpointError, match="its metadata have no digest"):
        load(folder)


def test_what_travels_with_a_model(tmp_path):
    settings = FitConfig(
        backbone_rates={"": 1e-3, "readout": 0.5},
        unit_dropout=UnitDropoutConfig(min_units=3, mode_units=4, max_units=5),
    )
    replace(load(GOLDEN / "v2"), tuning=TUNING, fit=settings).save(tmp_path)
    again = load(tmp_path)
    assert again.fit == settings
    assert again.tuning.to_dict() == TUNING.to_dict()


# --- parameters that changed


def test_any_other_number_has_another_digest():
    kernel, other = np.zeros((2, 3), np.float32), np.ones(2, np.float32)
    params = {"a": {"kernel": kernel}, "b": other}
    expected = digest_of_arrays(params)
    assert digest_of_arrays({"b": other, "a": {"kernel": jax.numpy.zeros((2, 3))}}) == expected
    others = [
        {"a": {"kernel": np.zeros((3, 2), np.float32)}, "b": other},
        {"a": {"bias": kernel}, "b": other},
        {"a": {"kernel": kernel}, "b": np.nextafter(other, 2)},
        {"a": {"kernel": np.full((2, 3), -0.0, np.float32)}, "b": other},
        {"a": {"kernel": np.zeros((2, 3), np.int32)}, "b": other},
        {"a": {"kernel": np.full((2, 3), np.nan, np.float32)}, "b": other},
    ]
    assert len({expected, *map(digest_of_arrays, others)}) == 1 + len(others)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "int8", "bool"])
def test_a_digest_sees_values_and_places(dtype):
    values = jax.numpy.arange(60).reshape(3, 4, 5) % 2
    values = values.astype(dtype)
    swapped = values.at[1, 2, 2].set(values[1, 2, 3]).at[1, 2, 3].set(values[1, 2, 2])
    changed = values.at[2, 3, 4].set(~values[2, 3, 4] if dtype == "bool" else 1 - values[2, 3, 4])
    assert len({digest_of_arrays({"x": x}) for x in (values, swapped, changed)}) == 3


def test_a_digest_does_not_depend_on_the_devices():
    code = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from poyo_jax.checkpoint.digest import digest_of_arrays
values = 50 * np.random.default_rng(0).normal(size=(8, 12))
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "fsdp"))
specs = [P(), P("data"), P(("data", "fsdp")), P(None, "fsdp"), P("data", "fsdp")]
for dtype in ("float32", "bfloat16", "float16", "int32", "int8", "bool"):
    x = np.asarray(jax.numpy.asarray(values).astype(dtype))
    digests = {digest_of_arrays({"x": jax.device_put(x, NamedSharding(mesh, s))}) for s in specs}
    assert digests == {digest_of_arrays({"x": x})}, (dtype, digests)
scalar = np.float32(3)
everywhere = jax.device_put(scalar, NamedSharding(mesh, P()))
assert digest_of_arrays({"x": everywhere}) == digest_of_arrays({"x": scalar})
"""
    devices = {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **devices}, check=True)


def test_parameters_that_were_replaced(tmp_path):
    """Sound to Orbax, but not what was saved."""
    original = load(GOLDEN / "v2")
    changed = jax.tree.map(lambda x: x.at[(0,) * x.ndim].add(1e-6), original.params)
    for name, model in (("original", original), ("changed", replace(original, params=changed))):
        model.save(tmp_path / name)
    params = tmp_path / "changed" / "checkpoints" / str(original.step) / "params"
    shutil.rmtree(params)
    shutil.copytree(tmp_path / "original" / params.relative_to(tmp_path / "changed"), params)
    with pytest.raises(
        CheckpointError, match=r"params/.* is (missing|not the file that was saved)"
    ):
        load(tmp_path / "changed")
    list_files(epath.Path(params.parent))
    with pytest.raises(
        CheckpointError, match=r"its params are not those that were saved: their SHA-256 differs"
    ):
        load(tmp_path / "changed")


def test_parameters_of_format_2_that_were_replaced(tmp_path):
    folder = shutil.copytree(GOLDEN / "v2", tmp_path / "model")
    path = folder / "checkpoints" / "50" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "digest": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"its params are not those that were saved"):
        load(folder)
    path.write_text(json.dumps({**meta, "step": 50}))
    with pytest.raises(CheckpointError, match=r"its metadata are not those of format 2"):
        load(folder)


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
