"""Models in one safetensors file; checkpoints that the next interface of Orbax reads."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from poyo_jax import load
from poyo_jax.checkpoint import safetensors_file
from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.store import find_step
from poyo_jax.errors import CheckpointError, PoyoError

GOLDEN = Path(__file__).parent.parent / "golden_checkpoints" / "v3"
NAME = "backbone.head.bias"


@pytest.fixture(scope="module")
def model():
    return load(GOLDEN)


@pytest.fixture
def file(model, tmp_path) -> Path:
    path = tmp_path / "reach.safetensors"
    model.save(path)
    return path


def header(path: Path) -> dict:
    """The JSON at the beginning of the file, behind eight bytes with its length."""
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def same(first, second) -> None:
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert first.metadata.to_dict() == second.metadata.to_dict()
    assert first.step == second.step


def test_a_model_survives_the_file(model, file):
    same(load(file), model)
    same(load(str(file), step=model.step), model)


def test_others_read_the_tensors_by_their_names(model, file):
    arrays = load_file(file)
    np.testing.assert_array_equal(arrays[NAME], model.params["backbone"]["head"]["bias"])
    np.testing.assert_array_equal(arrays["unit_embedding"], model.params["unit_embedding"])
    assert json.loads(header(file)["poyo_jax"])["units"] == list(model.units.names)


def test_a_folder_as_on_the_hub(model, tmp_path):
    model.save(tmp_path / "model.safetensors", licence="cc0-1.0")
    same(load(tmp_path), model)
    assert 'license: "cc0-1.0"' in (tmp_path / "README.md").read_text()


def test_checkpoints_in_a_folder_go_before_a_file(model, tmp_path):
    model.save(tmp_path)
    replace(model, step=3).save(tmp_path / "model.safetensors")
    assert load(tmp_path).step == model.step


def test_the_card_lies_beside_the_file(file):
    assert "What it reaches" in file.with_suffix(".md").read_text()


def test_a_file_is_not_written_over(model, file):
    with pytest.raises(CheckpointError, match=r"reach\.safetensors exists already; save to"):
        model.save(file)


def test_names_that_fill_the_header(model, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "MAX_HEADER", 100)
    with pytest.raises(CheckpointError, match=r"take \d+ bytes, but .* Save the model as a folder"):
        model.save(tmp_path / "reach.safetensors")


# --- files that are refused


def test_missing_and_extra_tensors(file):
    arrays, metadata = load_file(file), header(file)
    changed = {name: array for name, array in arrays.items() if name != NAME}
    save_file(changed, file, metadata)
    with pytest.raises(CheckpointError, match=rf"configuration: 1 are missing, such as {NAME}\. C"):
        load(file)
    save_file(changed | {"zoo": arrays[NAME], "ape": arrays[NAME]}, file, metadata)
    sentence = rf"1 are missing, such as {NAME}, and 2 are too many, such as ape\. Copy"
    with pytest.raises(CheckpointError, match=sentence):
        load(file)
    save_file(arrays | {"ape": arrays[NAME]}, file, metadata)
    with pytest.raises(CheckpointError, match=r"configuration: 1 are too many, such as ape\. Copy"):
        load(file)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[:1], r"ModelConfig.num_channels does not fit: .* has shape \(1,\)"),
        (lambda x: x.astype(np.float64), "backbone.head.bias is of type float64, not float32"),
        (lambda x: np.nextafter(x, 1), "its params are not those that were saved: their SHA-256"),
    ],
)
def test_other_tensors(change, sentence, file):
    arrays = load_file(file)
    save_file({**arrays, NAME: change(arrays[NAME])}, file, header(file))
    with pytest.raises(CheckpointError, match=f"is damaged or does not fit .*{sentence}"):
        load(file)


def test_another_header(file, model):
    arrays, saved = load_file(file), json.loads(header(file)["poyo_jax"])

    def refused(text: str, sentence: str) -> None:
        save_file(arrays, file, {"poyo_jax": text})
        with pytest.raises(CheckpointError, match=sentence):
            load(file)

    refused("{", "is damaged or does not fit")
    refused(json.dumps(saved | {"step": 7}), "metadata are not those that were saved")
    newer = saved | {"format_version": 9}
    refused(json.dumps(newer), "has format version 9, but .* Update the package")
    refused(json.dumps(saved | {"format_version": 2}), "has format version 2, but")
    fewer = {key: value for key, value in saved.items() if key != "digest"}
    fewer["units"] = fewer["units"][:-1]
    refused(
        json.dumps(fewer | {"digest": digest_of_values(fewer)}), "the list of names does not fit"
    )
    save_file(arrays, file)
    with pytest.raises(CheckpointError, match="its header says nothing of poyo_jax"):
        load(file)


def test_a_flipped_bit_anywhere(file, model):
    rng, content = np.random.default_rng(0), file.read_bytes()
    for place in rng.integers(8 * len(content), size=25):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            same(load(file), model)  # a space or a letter that means the same
        except CheckpointError as error:
            assert re.search(r"\. Copy|\. Give|\. Update|\. Train", str(error))


def test_paths_that_hold_no_file(tmp_path, file):
    with pytest.raises(CheckpointError, match=r"there is no file .*nothing\.safetensors"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(PoyoError, match="addresses cannot be opened here"):
        load("s3://lab/reach.safetensors")
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 in .* which holds step 50"):
        load(file, step=7)


# --- the programming interface of Orbax that is to replace the present one


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_the_next_interface_of_orbax_reads_our_checkpoints(model):
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    loaded = v1.load_checkpointables(find_step(GOLDEN, None))
    jax.tree.map(np.testing.assert_array_equal, loaded["params"], model.params)
    assert loaded["meta"]["units"] == list(model.units.names)
